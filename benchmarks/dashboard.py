"""The dashboard on a large stored run: first meaningful paint, the change of a control, a page of the gallery, memory.

Each is printed beside its bound and as a ratio to it. The run is synthetic: 19 corruptions at 5 severities, four
models, 5,000 images, with detections, scores and resamples of the usual sizes. Needs Debian's `chromium`.

    python benchmarks/dashboard.py [--images 5000] [--models 4] [--keep FOLDER]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robustbench_sgdm import corruption
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT

SUPPORT = Path(__file__).with_name("support")
synthetic_runs = resources.import_file(resources.root() / "tests/support/synthetic_runs.py")
serving = resources.import_file(SUPPORT / "serving.py")

BOUNDS = {"first meaningful paint": 2.0, "change": 0.3, "gallery": 0.5, "memory": 1.0}  # s, s, s, GB
INTERACTIONS = 100
"""After which the memory is measured again."""

# In the components' own parts of the page, which selectors of the whole page do not reach.
THUMBNAILS = """() => {
  const grid = [...document.querySelectorAll("*")].map((e) => e.shadowRoot?.querySelector(".grid")).find(Boolean);
  const seen = [...(grid?.children ?? [])].filter((tile) => tile.getBoundingClientRect().top < innerHeight);
  return seen.length > 0 && seen.every((tile) => tile.querySelector("image").getAttribute("href"));
}"""
CHROMIUM = Path("/usr/bin/chromium")
TURNED = """(first) => [...document.querySelectorAll("*")].some((e) => {
  const output = e.shadowRoot?.querySelector(".gallery output");
  return output && output.textContent !== first;
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument(
        "--keep", type=Path, help="Make the run here and leave it; used again if it is there."
    )
    options = parser.parse_args()
    if not CHROMIUM.is_file():
        print("no chromium: apt-get install chromium")
        return
    with tempfile.TemporaryDirectory() as folder:
        project = options.keep or Path(folder)
        if not (project / "large/manifest.json").is_file():
            models = [f"model{i}" if i else "base" for i in range(options.models)]
            corruptions = {c: [1, 2, 3, 4, 5] for c in (*BENCHMARK, *HOLDOUT)}
            known = {c.name: c.fingerprint() for c in corruption.load_corruptions()}
            synthetic_runs.make_run(
                project,
                "large",
                models,
                corruptions,
                images=options.images,
                resamples=True,
                fingerprints=known,
            )
        measure(project)


def measure(project: Path) -> None:
    """Start the dashboard, look at it, print."""
    from playwright.sync_api import sync_playwright

    with serving.Serving(project) as (address, process), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(serving.FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        page.goto(address)
        page.get_by_test_id("stDataFrame").first.wait_for(timeout=120_000)
        _say(
            "first meaningful paint", "cold, from the address to the leaderboard", time.perf_counter() - start
        )
        _settled(page)
        start = time.perf_counter()
        page.goto(address)
        page.get_by_test_id("stDataFrame").first.wait_for(timeout=120_000)
        _say("first meaningful paint", "a second visitor", time.perf_counter() - start)
        _settled(page)
        _changes(page, address)
        _gallery(page, address)
        _say("memory", "of the server, GB", _memory(process.pid))
        page.goto(f"{address}/images")
        page.get_by_role("button", name="Show the images").click(timeout=120_000)
        following = page.get_by_role("button", name="Next image")
        following.wait_for(timeout=120_000)
        for _ in range(INTERACTIONS):
            following.click()
            _settled(page)
        _say("memory", f"after {INTERACTIONS} more interactions, GB", _memory(process.pid))
        browser.close()


def _changes(page: Any, address: str) -> None:
    """Turn one control of each page to and fro; the first time of each is not counted."""

    def alternate(name: str, choices: Sequence[Callable[[], None]]) -> None:
        took = []
        for turn in range(6):
            start = time.perf_counter()
            choices[turn % len(choices)]()
            _settled(page)
            took.append(time.perf_counter() - start)
        _say("change", name, statistics.median(took[2:]))

    def button(name: str) -> Callable[[], None]:
        return lambda: page.get_by_role("radio", name=name, exact=True).click()

    alternate("overview, filter by size", [button("small"), button("medium")])
    page.goto(f"{address}/curves")
    page.get_by_test_id("stVegaLiteChart").first.wait_for(timeout=120_000)
    _settled(page)
    toggle = page.get_by_text("95 % bands")
    alternate("curves of a family, bands on and off", [toggle.click, toggle.click])
    page.goto(f"{address}/images?order=as+in+the+data")
    page.get_by_role("button", name="Show the images").click(timeout=120_000)
    page.get_by_role("button", name="Next image").wait_for(timeout=120_000)
    _settled(page)
    slider = page.get_by_role("slider", name="Severity")
    alternate("images, severity", [lambda: slider.press("ArrowRight"), lambda: slider.press("ArrowLeft")])
    following = page.get_by_role("button", name="Next image")
    alternate("images, next", [following.click])


def _gallery(page: Any, address: str) -> None:
    """Turn the pages of the gallery; a page is there when every thumbnail in the window is."""
    page.goto(f"{address}/images?show=Gallery")
    page.get_by_role("button", name="Show the images").click(timeout=120_000)
    page.wait_for_function(THUMBNAILS, timeout=120_000)
    _settled(page)
    took = []
    for _ in range(4):
        first = page.locator("output").first.inner_text()
        start = time.perf_counter()
        page.get_by_role("button", name="Next →").click()
        page.wait_for_function(TURNED, arg=first, timeout=120_000)
        page.wait_for_function(THUMBNAILS, timeout=120_000)
        took.append(time.perf_counter() - start)
        _settled(page)
    _say("gallery", "the next page, with its thumbnails", statistics.median(took))


def _settled(page: Any) -> None:
    """Until the script has run; it begins within the first moments after a change."""
    page.wait_for_timeout(60)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=120_000)


def _say(bound: str, what: str, value: float) -> None:
    most = BOUNDS[bound]
    print(f"{bound:24} {what:44} {value:6.2f}  bound {most:g}  ratio {value / most:.2f}")


def _memory(pid: int) -> float:
    import psutil

    process = psutil.Process(pid)
    return float(sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 1e9)


if __name__ == "__main__":
    main()
