"""Live, Training, and six panes of Images in a real browser."""

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
    assert len(visitor.counts()) == 2
    page.locator(".st-key-corruptions input").click()
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
