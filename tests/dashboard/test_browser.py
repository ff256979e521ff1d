"""The dashboard in a real browser: every page, its controls, links, sizes, and what it must not do."""

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageColor

from robustbench_sgdm.core import palette
from robustbench_sgdm.store import Run

HERE = Path(__file__).parent
PAGES = ("", "overview", "curves", "classes", "images", "live", "training", "paper?table=6", "run")
BOXES = {kind: palette.OUTCOME_COLORS[kind] for kind in ("matched", "missed", "false")}
CHOICES = {
    **{"baseline": ["b"], "pair": ["c − b"], "models": ["b", "c"], "metric": ["AP50"], "size": ["small"]},
    **{"family": ["blur"], "severity": ["1"]},
}
SHOWN_ON = {
    "Overview": ("baseline", "pair", "models", "metric", "size", "family"),
    "Curves": ("baseline", "pair", "models", "metric", "size", "family"),
    "Classes": ("baseline", "pair", "family", "severity"),
    "Images": ("baseline", "models", "severity"),
    "Live": ("models",),
}


def test_every_page_opens_narrow_and_wide_and_is_accessible(visit: Callable[..., Any]) -> None:
    """No error, nothing wider than the window, and no serious finding of axe in either theme."""
    from axe_playwright_python.sync_playwright import Axe

    for width, scheme in ((1280, "light"), (390, "dark")):
        visitor = visit(width, scheme)
        for path in PAGES:
            visitor.go(path)
            assert not re.search("cannot be (shown|read)", visitor.text())
            wide = visitor.page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
            assert wide <= width, f"{path} is {wide} px wide in a window of {width}"
            assert visitor.page.locator(".st-key-title").is_visible() == (width < 768)
            found = Axe().run(visitor.page).response["violations"]
            serious = [
                (f["id"], [n["html"][:200] for n in f["nodes"]][:3])
                for f in found
                if f["impact"] in ("serious", "critical")
            ]
            assert not serious, f"{path or 'overview'} at {width}: {serious}"


def test_filters_and_downloads(visit: Callable[..., Any], complete: Run) -> None:
    visitor = visit()
    visitor.go("overview")
    visitor.choose("family", "noise")
    visitor.wait_for_address("family=noise")
    visitor.settle()
    with visitor.page.expect_download() as waiting:
        visitor.page.get_by_role("button", name="Results, CSV").click()
    text = Path(waiting.value.path()).read_text()
    assert text.splitlines() == complete.results().to_csv(index=False).splitlines()


def test_the_list_of_runs_leads_to_a_run(visit: Callable[..., Any]) -> None:
    """By a click on any cell of its row; the search is in the address."""
    visitor = visit()
    visitor.go("?find_run=partial")
    table = visitor.page.get_by_test_id("stDataFrame").first
    visitor.page.get_by_text("1 of 4 runs").wait_for()
    box = table.bounding_box()
    visitor.page.mouse.click(box["x"] + 60, box["y"] + 52)
    visitor.wait_for_address("/overview")
    visitor.wait_for_address("run=unfinished")
    visitor.page.get_by_role("link", name="Runs").click()
    visitor.page.get_by_text("4 runs, newest first").wait_for()


def test_a_cell_of_the_map_of_classes_is_told(visit: Callable[..., Any]) -> None:
    visitor = visit()
    visitor.go("classes?run=complete")
    chart = visitor.page.locator(".st-key-class-map canvas, .st-key-class-map svg.marks").first
    box = chart.bounding_box()
    visitor.page.mouse.click(box["x"] + box["width"] * 0.45, box["y"] + 130)
    visitor.wait_for_address("class=")
    visitor.settle()
    name = parse_qs(urlsplit(visitor.page.url).query)["class"][0]
    visitor.page.get_by_role("heading", name=re.compile(f"^{name} ")).wait_for()
    visitor.page.get_by_role("button", name="Open its images").click()
    visitor.wait_for_address("/images")
    assert visitor.counts()


def cell_of_map(visitor: Any, column: int, row: int, columns: int = 4) -> tuple[float, float]:
    """Where a cell of the map of differences is in the window, px."""
    chart = visitor.page.locator(".st-key-differences canvas, .st-key-differences svg.marks").first
    box = None
    while box is None or box != chart.bounding_box():  # until charts above it are drawn and move it no more
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        visitor.page.wait_for_timeout(400)
    left = 100  # of the names; a row is 34 px high
    return box["x"] + left + (box["width"] - left) * (column + 0.5) / columns, box["y"] + 55 + 34 * (
        row + 0.5
    )


def test_a_cell_of_the_map_leads_to_its_images(visit: Callable[..., Any]) -> None:
    """Every time: also to what the page shows by default, and to clean images, whatever was looked at before."""
    visitor = visit()
    visitor.go("curves?run=complete&family=all")
    for column, row, words in (
        (1, 3, "fog at severity 1"),
        (2, 1, "gaussian noise at severity 3"),
        (0, 0, "gaussian noise at severity 0"),
    ):
        visitor.page.mouse.click(*cell_of_map(visitor, column, row))
        visitor.wait_for_address("/images")
        visitor.page.get_by_text(words).wait_for()
        visitor.settle()
        assert visitor.counts() and "which is not available" not in visitor.text()
        visitor.page.get_by_role("link", name="Curves").click()
        visitor.wait_for_address("/curves")
        visitor.settle()


def test_a_click_on_a_page_that_is_left_does_not_empty_the_next(visit: Callable[..., Any]) -> None:
    """Nor does it lead back: both requests are under way at once, as on a slow machine."""
    visitor = visit()
    visitor.go("images?run=complete&corruption=fog&severity=3")
    for _ in range(3):
        visitor.page.evaluate(
            """() => {
              const all = [...document.querySelectorAll("*")];
              const step = all.map((e) => e.shadowRoot?.querySelector("button.next")).find(Boolean);
              document.querySelector("a[href$='/curves'], a[href*='/curves?']").click();
              step.click();
              setTimeout(() => step.click(), 20);
            }"""
        )
        visitor.wait_for_address("/curves")
        visitor.page.locator(".st-key-differences").first.wait_for()
        visitor.settle()
        assert visitor.page.locator(".st-key-differences").first.is_visible()
        visitor.page.get_by_role("link", name="Images").click()
        visitor.counts()
        visitor.settle()


def test_the_map_tells_who_is_better_and_shows_it(visit: Callable[..., Any], comparisons: Path) -> None:
    """In fog the second model wins, under motion blur the first, under noise neither; with any baseline."""
    visitor = visit(words=("--", *map(str, (comparisons / "two", comparisons / "three"))))
    for address, row, order, right in (
        ("run=two", 3, "right finds more", "b"),
        ("run=two", 2, "left finds more", "b"),
        ("run=two", 1, "most different", "b"),
        ("run=three&baseline=c&pair=b+−+c", 3, "left finds more", "b"),
    ):
        visitor.go(f"curves?family=all&{address}")
        at = cell_of_map(visitor, 1, row)
        visitor.page.mouse.move(*at)
        tooltip = visitor.page.locator(".vg-tooltip, #vg-tooltip-element").first
        tooltip.filter(has_text="95 % interval").wait_for()
        visitor.page.mouse.click(*at)
        visitor.wait_for_address("/images")
        visitor.until(lambda right=right: visitor.page.locator(".pane .name").last.inner_text() == right)
        if order != "most different":  # which the address leaves out
            visitor.wait_for_address(f"order={order.replace(' ', '+')}")


def test_a_tooltip_over_a_band_says_whose_it_is_alone(visit: Callable[..., Any], comparisons: Path) -> None:
    """Not the interval's lower bound under the name of the score."""
    visitor = visit(words=("--", *map(str, (comparisons / "two", comparisons / "three"))))
    visitor.go("curves?run=two&family=all")
    fog = visitor.page.locator("[data-testid=stVegaLiteChart]").nth(3).locator("canvas, svg.marks").first
    tooltip, told = visitor.page.locator(".vg-tooltip, #vg-tooltip-element").first, set[str]()
    for _ in range(40):  # the page may still move under the pointer
        if told:
            break
        fog.scroll_into_view_if_needed()
        box = fog.bounding_box()
        for y in range(10, 160, 3):  # down a line that leaves out the points
            visitor.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + y)
            visitor.page.wait_for_timeout(15)
            if tooltip.count() and tooltip.is_visible():
                told.add(" ".join(tooltip.inner_text().split()))
    assert told and told <= {"model a", "model b"}


def test_images_by_pointer_keyboard_and_link(visit: Callable[..., Any], complete: Run) -> None:
    visitor = visit()
    visitor.go("images?run=complete&corruption=gaussian_noise&severity=3")
    page, first = visitor.page, visitor.text()
    assert len(visitor.counts()) == 2 and "Image 1 of 12" in first

    page.keyboard.press("ArrowRight")
    page.get_by_text("Image 2 of 12").wait_for()
    page.get_by_role("button", name="Previous image").click()
    page.get_by_text("Image 1 of 12").wait_for()
    for _ in range(9):  # faster than pictures come
        page.keyboard.press("ArrowRight")
    page.get_by_text("Image 10 of 12").wait_for()
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
    page.get_by_text("Image 1 of 12").wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("Image 12 of 12").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Image 1 of 12").wait_for()
    visitor.settle()

    before = visitor.counts()
    page.locator("input.confidence").fill("0.9")
    assert visitor.counts() != before  # at once, without the server
    visitor.wait_for_address("confidence=0.9")
    page.keyboard.press("g")
    visitor.wait_for_address("truth=true")
    page.get_by_role("button", name="Zoom in").click()
    visitor.wait_for_address("zoom=")
    boxes = page.eval_on_selector_all(".stage svg", "all => all.map(s => s.getAttribute('viewBox'))")
    assert len(set(boxes)) == 1 and boxes[0] != "0 0 320 240"  # both panes in step

    visitor.settle()
    other = visit()
    other.page.goto(page.url)
    other.show_images()
    visitor.until(lambda: other.counts() == visitor.counts())
    again = other.page.eval_on_selector_all(".stage svg", "all => all.map(s => s.getAttribute('viewBox'))")
    assert [round(float(n)) for n in again[0].split()] == [round(float(n)) for n in boxes[0].split()]

    assert page.get_by_role("slider", name="Severity").count() == 1  # the bar's gives way to the viewer's
    page.locator("input.sweep").press("ArrowRight")
    visitor.wait_for_address("severity=5")
    page.get_by_test_id("stMain").get_by_text("severity 5").first.wait_for()
    assert "severity 3" in other.text()  # two windows do not disturb each other


def test_layers_classes_tooltips_and_all_severities(visit: Callable[..., Any]) -> None:
    visitor = visit()
    visitor.go("images?run=complete&corruption=gaussian_noise&severity=3&order=as+in+the+data")
    page = visitor.page
    drawn = page.locator(".stage").first.locator(".box:visible, .box rect.line:visible")
    before = drawn.count()
    page.get_by_role("button", name="matched").click()
    visitor.wait_for_address("hidden=matched")
    assert drawn.count() < before
    page.locator(".classes summary").click()
    page.get_by_role("button", name="None", exact=True).click()
    visitor.wait_for_address("without=")
    page.get_by_text("Layers and classes hide all").wait_for()
    assert drawn.count() == 0
    page.get_by_role("button", name="Show all boxes").click()
    page.wait_for_url(lambda url: "without" not in url and "hidden" not in url)
    assert drawn.count() == before

    strip = page.get_by_role("button", name=re.compile("^Severity "))
    page.locator(".thumb img").last.wait_for()
    assert strip.count() == 4 and strip.nth(2).get_attribute("aria-current") == "true"
    counts = visitor.counts()
    page.locator("input.sweep").fill("0")  # boxes follow the slider at once, the picture when it is let go
    assert visitor.counts() != counts
    visitor.wait_for_address("severity=0")
    page.get_by_text("gaussian noise at severity 0").wait_for()
    visitor.settle()
    strip.nth(2).click()
    page.get_by_text("gaussian noise at severity 3").wait_for()
    visitor.until(lambda: visitor.counts() == counts)

    page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
    line = page.locator(".stage").first.locator(".box.matched rect.line:visible").first.bounding_box()
    page.mouse.move(line["x"] + line["width"] / 2, line["y"] + 1)
    tip = page.get_by_role("tooltip").inner_text()
    assert re.match(r"(person|cat|dog|car) · (matched|missed|false)\n", tip)


def test_what_is_seen_can_be_saved(visit: Callable[..., Any]) -> None:
    """As a picture and as a drawing, both of what is shown, without anything that needs the page."""
    visitor = visit()
    visitor.go("images?run=complete&corruption=fog&severity=3&order=as+in+the+data&hidden=false")
    for kind in ("SVG", "PNG"):
        visitor.page.locator(".save summary").click()
        with visitor.page.expect_download() as waiting:
            visitor.page.get_by_role("button", name=kind, exact=True).click()
        assert re.fullmatch(r"00\d-fog-at-severity-3\." + kind.lower(), waiting.value.suggested_filename)
        if kind == "SVG":
            root = ElementTree.parse(waiting.value.path()).getroot()
    told = " ".join(root.itertext())
    assert "base-sgdm" in told and "confidence 0.25" in told and "matched" in told
    strokes = {rect.get("stroke") for rect in root.iter("{http://www.w3.org/2000/svg}rect")}
    assert BOXES["matched"] in strokes and BOXES["false"] not in strokes
    picture = Pillow.open(waiting.value.path())
    assert picture.width == 2 * int(root.get("width", 0)) and of_color(
        picture.convert("RGB"), BOXES["matched"]
    )


def test_the_overview_leads_to_pictures(visit: Callable[..., Any], comparisons: Path) -> None:
    """From the verdict, a corruption, a cell of the map or a flip: each is one click away from its images."""
    visitor = visit(words=("--", str(comparisons / "two")))
    page = visitor.page
    visitor.go("overview?run=two")
    page.get_by_label("Mean AP against severity, a line for each of a, b", exact=True).wait_for()
    told = visitor.text()
    assert "b scores higher" in told or "no difference" in told.lower()
    assert (
        told.index("Best for b") < told.index("fog:") < told.index("Worst for b") < told.index("motion blur:")
    )

    page.get_by_role("button", name=re.compile("^fog: ")).click()
    visitor.wait_for_address("order=right+finds+more")
    page.get_by_text("fog at severity 3").wait_for()
    visitor.until(lambda: len(visitor.counts()) == 2)

    page.get_by_role("link", name="Overview").click()
    tile = page.get_by_role("button", name=re.compile("^Open ")).first
    tile.wait_for()
    page.locator(
        ".tile image[href^='data:image/']"
    ).first.wait_for()  # after a click elsewhere pictures may be read
    text = tile.inner_text()
    tile.click()
    visitor.wait_for_address("image=")
    assert re.match(r"(fog|motion blur), severity 3\s+only [ab] finds \d objects?", text)
    page.get_by_text(f"{text.partition(',')[0]} at severity 3").wait_for()


def test_the_verdict_leads_to_its_cells(visit: Callable[..., Any], comparisons: Path) -> None:
    """With what is chosen; the whole story is one screen."""
    visitor = visit(1440, words=("--", str(comparisons / "two")))
    page = visitor.page
    visitor.go("overview?run=two&metric=AP50")
    page.get_by_role("button", name="Show the images").click()
    page.locator(".tile image[href^='data:image/']").first.wait_for()
    visitor.settle()
    box = page.locator(".st-key-story").bounding_box()
    assert box["y"] + box["height"] <= 900, "the story does not fit into 1440 x 900"
    page.get_by_role("button", name="See its cells").first.click()
    visitor.wait_for_address("/curves")
    visitor.wait_for_address("metric=AP50")
    page.get_by_role("heading", name="Differences, b − a").wait_for()


def test_a_filter_that_excludes_everything_can_be_cleared(visit: Callable[..., Any]) -> None:
    visitor = visit()
    for path, back in (
        ("?find_run=zzz", "4 runs, newest first"),
        ("classes?run=complete&find=zzz", "The number after a class"),
        ("images?run=complete&search=zzz", "Image 1 of 12"),
    ):
        visitor.go(path, images=False)
        visitor.page.get_by_role("button", name="Clear the filters").click()
        visitor.page.get_by_text(back).first.wait_for()
        visitor.until(lambda: "zzz" not in visitor.page.url)


def test_the_gallery_leads_to_the_picture(visit: Callable[..., Any]) -> None:
    visitor = visit()
    visitor.go(
        "images?run=complete&corruption=gaussian_noise&severity=3&show=Gallery&outcome=flip", images=False
    )
    page = visitor.page
    tiles = page.get_by_role("button", name=re.compile("^Open "))
    tiles.first.wait_for()
    assert not page.locator(".tile image[href]").count()  # the address alone reads no picture
    page.get_by_role("button", name="Show the images").click()
    page.locator(".tile image[href^='data:image/jpeg']").first.wait_for()
    number = tiles.count()
    assert 0 < number < 12 and f"{number} of 12 images pass the filters" in visitor.text()
    tiles.nth(1).click()
    visitor.wait_for_address("image=")
    page.get_by_text(f"Image 2 of {number}").wait_for()
    visitor.settle()
    assert visitor.counts() and "show=Gallery" not in page.url
    page.get_by_role("button", name="Clear the filters").click()
    page.get_by_text("of 12 · ").wait_for()


def test_what_is_chosen_stays_from_page_to_page(visit: Callable[..., Any], comparisons: Path) -> None:
    """In the controls and in the address, which the button copies."""
    visitor = visit(words=("--", str(comparisons / "three")))
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    query = {key: value for key, value in CHOICES.items() if key in SHOWN_ON["Curves"]}
    visitor.go(f"curves?run=three&{urlencode(query, doseq=True)}")
    visitor.page.get_by_role("link", name="Classes").click()
    visitor.choose("severity", *CHOICES["severity"])
    for name in ("Overview", "Images", "Live", "Classes", "Curves"):
        visitor.page.get_by_role("link", name=name, exact=True).click()
        visitor.wait_for_address(f"/{name.lower()}?run=three")
        visitor.address_has({key: CHOICES[key] for key in SHOWN_ON[name]})
        for key in set(SHOWN_ON[name]) - {"models"}:
            shown = visitor.page.locator(f".st-key-{key} input").first
            visitor.until(lambda shown=shown, key=key: [shown.input_value()] == CHOICES[key])
        if "models" in SHOWN_ON[name]:
            chips = visitor.page.locator(".st-key-models")
            visitor.until(lambda chips=chips: set("abc") & set(chips.inner_text().split("\n")) == {"b", "c"})
    visitor.page.get_by_role("button", name="Copy link").click()
    visitor.page.get_by_role("button", name="Copied").wait_for()
    assert visitor.page.evaluate("navigator.clipboard.readText()") == visitor.page.url


def test_the_pixels_are_those_that_the_run_saw(visit: Callable[..., Any], complete: Run) -> None:
    import base64

    import torch

    from robustbench_sgdm import corruption
    from robustbench_sgdm.corruption import apply_corruption

    visitor = visit()
    image_id = 3
    visitor.go(f"images?run=complete&corruption=gaussian_noise&severity=5&image={image_id}")
    address = visitor.page.locator(".stage image").first.get_attribute("href")
    seen = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
    file = complete.ground_truth().images.set_index("image_id")["file"][image_id]
    clean = torch.from_numpy(np.asarray(Pillow.open(file).convert("RGB")).transpose(2, 0, 1)[None].copy())
    one = corruption.load_corruptions().get("gaussian_noise")
    made = apply_corruption(one, clean, 5, seed=0, image_ids=[image_id])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(seen, made)


@pytest.mark.parametrize(
    "path",
    [
        "?run=../../../../etc/passwd",
        "images?image=../../x&confidence=nan&zoom=1,2,3,inf&left=%00&severity=1e999",
        "images?run=complete&corruption=../../../etc&severity=-1&image=99999999999999999999",
        "live?source=a+sample&picture=/etc/passwd&severity.fog=1e9",
    ],
)
def test_nonsense_in_the_address(visit: Callable[..., Any], path: str) -> None:
    visitor = visit()
    visitor.go(path, images=False)
    visitor.page.get_by_text("which is not available").first.wait_for()
    assert "root:" not in visitor.page.content()


def test_uploads(visit: Callable[..., Any]) -> None:
    visitor = visit()
    visitor.go("live?source=an+upload")
    upload = visitor.page.locator("input[type=file]")
    text = {
        "name": "../../<img src=x onerror=alert(1)>.png",
        "mimeType": "image/png",
        "buffer": b"no picture",
    }
    upload.set_input_files(text)
    visitor.page.get_by_text("This picture cannot be shown").wait_for()
    picture = io.BytesIO()
    Pillow.new("RGB", (640, 480), "grey").save(picture, "JPEG")
    visitor.page.locator(
        "[data-testid=stFileUploader] button[aria-label^=Remove], [data-testid=stFileUploaderDeleteBtn] button"
    ).first.click()
    visitor.page.locator("input[type=file]").set_input_files(
        {"name": "fine.jpg", "mimeType": "image/jpeg", "buffer": picture.getvalue()}
    )
    visitor.settle()
    visitor.page.locator(".stage svg").first.wait_for()
    visitor.page.get_by_text("learned only from rendered scenes").first.wait_for()
    assert "This picture cannot be shown" not in visitor.text()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_looks_as_it_did(visit: Callable[..., Any], scheme: str, width: int) -> None:
    """The viewer beside its baseline; `ROBUSTBENCH_BASELINES=write` makes new ones."""
    import os

    visitor = visit(width, scheme)
    visitor.go("images?run=complete&corruption=fog&severity=3&order=as+in+the+data&labels=false&truth=true")
    visitor.page.mouse.move(0, 0)
    file = HERE / "screenshots" / f"images-{scheme}-{width}.png"
    before = None
    for _ in range(20):  # until it is drawn
        shot = Pillow.open(io.BytesIO(visitor.page.locator(".panes").screenshot())).convert("RGB")
        if before != (before := shot):
            continue
        if os.environ.get("ROBUSTBENCH_BASELINES") == "write":
            shot.save(file, optimize=True)
        baseline = Pillow.open(file)
        small = [np.asarray(picture.resize((320, 320)), float) for picture in (shot, baseline)]
        difference = np.abs(small[0] - small[1]).mean()
        if difference < 6:
            break
        visitor.page.wait_for_timeout(500)
    assert difference < 6, f"{difference:.1f} of 255 on average; fonts and rounding make under 3"
    for kind, color in BOXES.items():  # thin lines, which an average hardly sees
        drawn, expected = (of_color(picture, color) for picture in (shot, baseline))
        assert 0.8 * expected < drawn < 1.25 * expected, f"{kind} boxes: {drawn} pixels, were {expected}"


def of_color(picture: Pillow.Image, color: str) -> int:
    """How many pixels nearly have a colour."""
    apart = np.abs(np.asarray(picture, int) - ImageColor.getrgb(color)).max(axis=-1)
    return int((apart < 40).sum())


def test_a_run_is_started_watched_and_stopped(visit: Callable[..., Any], tmp_path: Path) -> None:
    words = ("--project", str(tmp_path))
    visitor = visit(words=words)
    visitor.go("run")
    page = visitor.page
    page.get_by_role("textbox", name="Name of the run directory").fill("from-browser")
    page.get_by_role("button", name="Start").click()
    stop = page.get_by_role("button", name="Stop")
    stop.wait_for()
    page.close()  # it goes on

    path = tmp_path / "from-browser"
    deadline = time.monotonic() + 240
    while not (path / "manifest.json").is_file():
        assert time.monotonic() < deadline, (path / "dashboard.log").read_text()
        time.sleep(0.5)
    again = visit(words=words)
    again.go("run")
    again.page.get_by_role("button", name="Stop").click()
    again.page.get_by_text("stopping …").wait_for()
    again.page.get_by_role("button", name="Stop").wait_for(state="hidden")
    again.page.get_by_text(re.compile("stopped|complete$")).first.wait_for()
    assert Run.open(path).cells  # what is there is whole
    log = (path / "dashboard.log").read_text()
    assert "Traceback" not in log
