"""The dashboard on a large stored run: first meaningful paint, the change of a control, a page of the gallery, memory.

Each is printed beside its bound and as a ratio to it. The run is synthetic: 19 corruptions at 5 severities, four
models, 5,000 images, with detections, scores and resamples of the usual sizes. Then several visitors turn one control
at the same moment, and a list of many runs opens. Needs Debian's `chromium`.

    python benchmarks/dashboard.py [--images 5000] [--models 4] [--keep FOLDER]
"""

import argparse
import shutil
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

BOUNDS = {  # s; GB of memory
    **{"first meaningful paint": 2.0, "change": 0.3, "gallery": 0.5, "memory": 1.0},
    **{"visitors at once": 1.0, "detectors": 3.0, "paper": 2.0, "many runs": 2.0},
}
VISITORS, RUNS = 8, 300
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


# The time from a click to the end of the script that it starts, ms; the click is now, the answer comes later.
TURN = """(find) => {
  const app = document.querySelector("[data-testid=stApp]");
  const parts = () => [...document.querySelectorAll("*")].map((e) => e.shadowRoot ?? e);
  window.turned = new Promise((done) => {
    let start;
    const click = () => {
      const button = parts().map((part) => part.querySelector(find)).find(Boolean);
      if (!button) return setTimeout(click, 5);  // a part of the page may be drawn anew just now
      start = performance.now();
      button.click();
    };
    let began = false;
    new MutationObserver((changes, observer) => {  // it misses no script, however short
      const idle = app.dataset.testScriptState === "notRunning";
      began = began || !idle || changes.some((change) => change.oldValue !== "notRunning");
      if (!began || !idle || !start) return;
      observer.disconnect();
      done(performance.now() - start);
    }).observe(app, {attributeFilter: ["data-test-script-state"], attributeOldValue: true});
    setTimeout(() => done(Infinity), 60000);
    click();
  });
}"""


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
        with tempfile.TemporaryDirectory() as many:
            _measure_list(Path(many))


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
        _visitors(browser, address)
        _say("memory", f"after {VISITORS} visitors at once, GB", _memory(process.pid))
        _other_pages(page, address)
        browser.close()


def _other_pages(page: Any, address: str) -> None:
    """The pages that load detectors or count a table once: the first time and again."""
    for bound, path, ready in (
        ("detectors", "live?source=a+sample", page.locator(".stage image").first),
        ("paper", "paper", page.get_by_text("Printed numbers")),
    ):
        for name in ("the first time", "again"):
            start = time.perf_counter()
            page.goto(f"{address}/{path}")
            ready.wait_for(timeout=300_000)
            _say(bound, name, time.perf_counter() - start)
            _settled(page)


def _visitors(browser: Any, address: str) -> None:
    """Several visitors turn the same control at the same moment; the slowest of them counts."""
    pages = [browser.new_context(viewport={"width": 1280, "height": 900}).new_page() for _ in range(VISITORS)]
    for name, path, ready, control in (
        ("curves, bands on and off", "curves", ".st-key-bands", ".st-key-bands input"),
        ("images, next", "images?order=as+in+the+data", "button.next", "button.next"),
    ):
        for page in pages:
            page.goto(f"{address}/{path}")
            page.locator(ready).first.wait_for(timeout=120_000)
            for button in page.get_by_role("button", name="Show the images").all():
                button.click()
            _settled(page)
        slowest = []
        for _ in range(4):
            for page in pages:
                page.evaluate(TURN, control)
            slowest.append(max(page.evaluate("window.turned") for page in pages) / 1000)
        _say("visitors at once", f"{VISITORS}: {name}, the slowest", statistics.median(slowest[1:]))
    for page in pages:
        page.context.close()


def _measure_list(many: Path) -> None:
    """The start page of a folder of many runs."""
    from playwright.sync_api import sync_playwright

    small = synthetic_runs.make_run(
        many, "run", ["base", "own"], {"fog": [1, 3], "snow": [1, 3]}, images=20, resamples=True
    )
    for number in range(1, RUNS):
        shutil.copytree(small.path, many / f"run{number}")
    with serving.Serving(many) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(serving.FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name in ("cold", "again"):
            start = time.perf_counter()
            page.goto(address)
            page.get_by_text(f"{RUNS} runs, newest first").wait_for(timeout=120_000)
            page.get_by_test_id("stDataFrame").first.wait_for(timeout=120_000)
            _say("many runs", f"{RUNS} on the start page, {name}", time.perf_counter() - start)
        search = page.get_by_role("textbox", name="Search")
        start = time.perf_counter()
        search.fill("run17")
        search.press("Enter")
        page.get_by_text(f"of {RUNS} runs").wait_for(timeout=120_000)
        _say("change", "search among them", time.perf_counter() - start)
        browser.close()


def _changes(page: Any, address: str) -> None:
    """Turn one control of each page to and fro; the first time of each is not counted."""

    def alternate(name: str, choices: Sequence[Callable[[], float | None]]) -> None:
        took = []
        for turn in range(6):
            start = time.perf_counter()
            start = choices[turn % len(choices)]() or start  # from the last of several clicks
            _settled(page)
            took.append(time.perf_counter() - start)
        _say("change", name, statistics.median(took[2:]))

    def choose(name: str) -> Callable[[], float]:
        def act() -> float:
            page.locator(".st-key-size input").click()
            option = page.get_by_role("option", name=name, exact=True)
            option.wait_for()
            start = time.perf_counter()
            option.click()
            return start

        return act

    alternate("overview, filter by size", [choose("small"), choose("medium")])
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
