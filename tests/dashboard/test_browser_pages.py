"""Live, Training, Classes, Start, and six panes of Images in a real browser."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import synthetic_runs


def test_live_composes_corruptions_and_tells_what_both_miss(visit: Callable[..., Any]) -> None:
    """At severities, then at strengths in their units; the address has it all."""
    visitor = visit()
    page = visitor.page
    visitor.go("live?source=a+sample&picture=scene+1")
    missed = page.get_by_text(re.compile(r"All models miss \d+ of \d+ objects"))
    missed.wait_for()
    visitor.settle()
    assert len(visitor.counts()) == 2
    page.locator(".st-key-corruptions input").fill("fog")  # else the list scrolls while it is clicked
    page.get_by_role("option", name="fog", exact=True).click()
    page.get_by_text("Severity of fog").first.wait_for()
    visitor.wait_for_address("corruptions=fog")
    page.keyboard.press("Escape")
    page.locator(".st-key-units").get_by_text("Strength in its own unit").click()
    page.get_by_role("spinbutton", name=re.compile("^fog: ")).first.wait_for()
    visitor.wait_for_address("units=true")
    visitor.settle()
    missed.wait_for()
    assert len(visitor.counts()) == 2 and "cannot be shown" not in visitor.text()


def test_training_shows_what_is_chosen(visit: Callable[..., Any]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.go("training")
    chart = page.get_by_label(re.compile("^box loss against the epoch, a line for each of "))
    chart.first.wait_for()
    page.get_by_role("radio", name="val").click()
    visitor.wait_for_address("split=val")
    visitor.settle()
    assert chart.count() and not page.get_by_text("These logs do not contain it").count()


def test_six_models_stand_beside_each_other(visit: Callable[..., Any], tmp_path: Path) -> None:
    """In one window, each with its counts; the keys are listed below them."""
    models = [f"model{number}" for number in range(7)]
    run = synthetic_runs.make_run(tmp_path, "seven", models, {"fog": [1]}, images=4)
    visitor = visit(1440, words=("--", str(run.path)))
    chosen = "&".join(f"models={model}" for model in models[1:])
    visitor.go(f"images?{chosen}", images=False)
    visitor.until(lambda: visitor.page.locator(".pane .name").all_inner_texts() == models[:6])
    boxes = [pane.bounding_box() for pane in visitor.page.locator(".stage").all()]
    assert all(box["width"] > 200 and box["x"] + box["width"] <= 1440 for box in boxes)
    assert len({round(box["y"]) for box in boxes}) < 3 and "The first 6 models are shown" in visitor.text()
    keys = visitor.page.locator(".keys").inner_text()
    assert all(word in keys.lower() for word in ("image", "zoom", "labels"))


def test_live_runs_a_model_of_the_run_or_says_why_not(visit: Callable[..., Any]) -> None:
    visitor = visit()
    visitor.go("live?run=complete&source=a+sample&models=base")
    visitor.page.get_by_role("button", name="Load the detectors").click()
    visitor.page.get_by_text("base cannot run here").first.wait_for()
    visitor.go("live?run=complete&source=a+sample&models=yolov8n")
    visitor.page.get_by_text(re.compile(r"The model misses \d+ of \d+ objects")).wait_for()
    assert len(visitor.counts()) == 1


def test_a_class_has_its_curves_and_confusions(visit: Callable[..., Any]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.go("classes?run=complete&class=cat&in=fog&severity=3")

    def chart(alt: str) -> Any:
        return page.get_by_label(re.compile(f"^{alt}"))  # its buttons have labels that end so

    chart("Precision against recall of cat, clean and under fog 3, for base, base-sgdm").wait_for()
    chart("Confusion matrix of base: rows are objects, columns are boxes").wait_for()
    visitor.choose("confusion_of", "base-sgdm")
    chart("Confusion matrix of base-sgdm: rows are objects, columns are boxes").wait_for()


def test_the_form_is_checked_as_it_is_typed(visit: Callable[..., Any], tmp_path: Path) -> None:
    visitor = visit(words=("--project", str(tmp_path)))
    page = visitor.page
    visitor.go("run")
    start = page.get_by_role("button", name="Start", exact=True)
    for field, wrong, why, right in (
        ("Severities", "0-9", r"outside \[0, 5\]|0 to 5|\[0, 5\]", "0-5"),
        ("Name of the run directory", "../x", "plain directory name", "fine"),
    ):
        box = page.get_by_role("textbox", name=field)
        box.fill(wrong)
        box.press("Enter")
        page.get_by_text(re.compile(why)).first.wait_for()
        visitor.until(start.is_disabled)
        box.fill(right)
        box.press("Enter")
        visitor.until(start.is_enabled)
    page.get_by_text("More settings").click()
    page.get_by_text("Half precision").click()
    page.get_by_text("--half").wait_for()


def test_a_run_from_long_ago_is_opened(visit: Callable[..., Any], tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / f"r{number}"
        folder.mkdir()
        record = {"pid": 1, "arguments": ["--model", "yolov8n"], "started": 1_700_000_000 + number}
        (folder / "dashboard.json").write_text(json.dumps(record))
        (folder / "dashboard.log").write_text(f"error: reason {number}\n")
    visitor = visit(words=("--project", str(tmp_path)))
    page = visitor.page
    visitor.go("run")
    page.get_by_text("2 older").click()
    table = page.get_by_test_id("stDataFrame")
    table.wait_for()
    visitor.settle()
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + 52)
    page.get_by_text("reason 1").first.wait_for()
    assert page.get_by_role("button", name="Resume").count() == 7
