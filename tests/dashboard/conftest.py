"""A stored run with pictures, the dashboard as a process, a real browser."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import corruption
from robustbench_sgdm.core import resources
from robustbench_sgdm.store import Run
from tests.support import synthetic_runs
from tests.support.synthetic_runs import rewrite

SUPPORT = resources.root() / "benchmarks" / "support"
serving = resources.import_file(SUPPORT / "serving.py")

UNCHANGED = """() => {
  const app = document.querySelector("[data-testid=stApp]");
  const look = app.dataset.testScriptState + app.innerText;
  const same = look === window.lastLook && app.dataset.testScriptState === "notRunning";
  window.lastLook = look;
  window.sameLooks = same ? window.sameLooks + 1 : 0;
  return window.sameLooks >= 6;
}"""
WATCH_FOR_RUN = """() => {
  const app = document.querySelector("[data-testid=stApp]");
  window.hasRun = false;
  new MutationObserver(() => { window.hasRun ||= app.dataset.testScriptState === "running"; })
    .observe(app, { attributes: true });
}"""
PATIENCE = 60_000  # ms; the first look at a page loads libraries
LEVELS = {"gaussian_noise": [1, 3, 5], "motion_blur": [1, 3, 5], "fog": [1, 3]}


def script(name: str) -> None:
    """A page without the frame of `main.py`; one about a run shows the first."""
    from robustbench_sgdm.core import resources
    from robustbench_sgdm.dashboard import pages, run_data, sources

    page = pages.load_page(resources.root() / "app/views" / f"{name}.py")
    runs = list(sources.available_runs().items()) if page.needs_run else []
    page.function(*[run_data.open_run(*run) for run in runs[:1]])


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Opens one page with some words on its command line and an address."""

    def open_view(name: str, *words: object, **address: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, words)])
        test = AppTest.from_function(script, args=(name,), default_timeout=200)
        for key, value in address.items():
            test.query_params[key] = value
        return test.run()

    return open_view


@pytest.fixture(autouse=True)
def _main_stays() -> Iterator[None]:
    """AppTest puts its script in the place of `__main__`, which processes that are started later would run."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, photographs: list[NDArray[np.uint8]]) -> Path:
    """A folder with a complete run, one that misses cells, one of another version and one half written."""
    folder = tmp_path_factory.mktemp("project")
    known = {c.name: c.fingerprint() for c in corruption.load_corruptions() if c.name in LEVELS}
    models = ["base", "base-sgdm"]
    for name, leave in (("unfinished", 3), ("complete", 0)):
        synthetic_runs.make_run(
            folder,
            name,
            models,
            LEVELS,
            images=12,
            pictures=photographs,
            fingerprints=known,
            leave=leave,
            resamples=False,
        )
    (folder / "old").mkdir()
    (folder / "old/manifest.json").write_text('{"schema": 99}')
    (folder / "torn").mkdir()
    (folder / "torn/manifest.json").write_text('{"schema": 2, "models": {"a": {}}, "data": {}}')
    for age, name in enumerate(("torn", "old", "unfinished", "complete")):
        os.utime(folder / name / "manifest.json", (1_700_000_000 + age, 1_700_000_000 + age))
    return folder


def compared(folder: Path, name: str, models: Sequence[str], **about: Mapping[str, Any]) -> Run:
    """A run with intervals, of which the plan knows no baselines but those that `about` says, by model.

    Under fog the later models are clearly better, under motion blur clearly worse, under gaussian noise the same.
    """
    run = synthetic_runs.make_run(folder, name, models, LEVELS, images=8, resamples=True)
    facts = {model.replace("_", "-"): fields for model, fields in about.items()}
    run = rewrite(run, models={m: {"baseline": None, **facts.get(m, {})} for m in models})
    for cell in run.cells:
        shift = {"fog": 6, "motion_blur": -6}.get(cell.corruption, 0) * models.index(cell.model)
        synthetic_runs.write_samples(run, cell, 45 - 6 * cell.severity + shift)
    return Run.open(run.path)


@pytest.fixture(scope="session")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of two and three checkpoints, of module variants with their baselines, and of seed groups."""
    folder = tmp_path_factory.mktemp("comparisons")
    compared(folder, "two", ["a", "b"])
    compared(folder, "three", ["a", "b", "c"])
    variants = {"n_sgdm": {"baseline": "n"}, "s_sgdm": {"baseline": "s"}}
    compared(folder, "variants", ["n", "n-sgdm", "s", "s-sgdm"], **variants)
    seeds = {f"{m}_seed{s}": {"group": m, "seed": s} for m in ("n", "m") for s in (0, 1)}
    compared(folder, "seeds", ["n-seed0", "n-seed1", "m-seed0", "m-seed1"], **seeds)
    return folder


@pytest.fixture(scope="session")
def complete(project: Path) -> Run:
    """The complete run."""
    return Run.open(project / "complete")


@pytest.fixture(scope="session")
def app(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Starts the dashboard as its users do, once for each choice of words; returns its address."""
    own = tmp_path_factory.getbasetemp()
    cache = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    running: dict[tuple[str, ...], Any] = {}

    def start(*words: str) -> str:
        if words not in running:
            running[words] = serving.Serving(project, *words, environment={"ROBUSTBENCH_CACHE": str(cache)})
            running[words].__enter__()
        return str(running[words].address)

    yield start
    said = [server.words() for server in running.values()]
    for server in running.values():
        server.__exit__()
    assert not any("Traceback" in text for text in said), said


class Visitor:
    """A page of the browser that notes what goes wrong: console errors, failed and foreign requests."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.wrong: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.wrong.append(f"{message.text} {message.location}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.wrong.append(f"left the machine: {request.url}")

    def go(self, path: str = "", *, images: bool = True) -> None:
        self.page.goto(f"{self.address}/{path}")
        self.page.locator("[data-testid=stMain] :is(p, label, h3):visible").first.wait_for()
        self.settle()
        if path.startswith("images") and images:
            self.show_images()

    def show_images(self) -> None:
        """Ask for what no address gets by itself."""
        self.page.get_by_role("button", name="Show the images").click()
        pictures, stages = (
            self.page.locator(".stage image[href^='data:image/png']"),
            self.page.locator(".stage"),
        )
        pictures.first.wait_for()
        self.until(lambda: pictures.count() == stages.count())
        self.settle()

    def settle(self) -> None:
        """Wait until no script runs and the page has stayed as it is for some looks; for what follows use `until`."""
        self.page.evaluate("delete window.lastLook")
        self.page.wait_for_function(UNCHANGED, polling=50)

    def until(self, holds: Callable[[], Any]) -> None:
        """Assert what the server's next answer makes true, however long the answer takes."""
        self.wait(holds)
        assert holds()

    def wait(self, holds: Callable[[], Any]) -> None:
        """Wait until it holds, or for as long as an answer may take."""
        end = time.monotonic() + PATIENCE / 1000
        while not holds() and time.monotonic() < end:
            self.page.wait_for_timeout(50)

    def text(self) -> str:
        return str(self.page.inner_text("[data-testid=stMain]"))

    def counts(self) -> list[str]:
        """Matched, missed and false above each pane."""
        self.page.locator(".counts b").first.wait_for()
        return [str(t) for t in self.page.locator(".counts").all_inner_texts()]

    def choose(self, key: str, option: str) -> None:
        """Choose in a list of the bar, and wait until the server has run the page with the choice.

        The address has it at once, but Streamlit drops it if the page is left before the server has it.
        """
        self.settle()
        self.page.locator(f".st-key-{key} input").click()
        choice = self.page.get_by_role("option", name=option, exact=True)
        choice.wait_for()
        self.page.evaluate(WATCH_FOR_RUN)
        choice.click()
        self.page.wait_for_function("window.hasRun")
        self.settle()

    def address_has(self, choices: Mapping[str, list[str]]) -> None:
        """Wait until the address says these choices."""

        def said() -> dict[str, list[str]]:
            query = parse_qs(urlsplit(self.page.url).query)
            return {key: query.get(key, []) for key in choices}

        self.wait(lambda: said() == choices)
        assert said() == choices

    def wait_for_address(self, words: str) -> None:
        self.page.wait_for_url(lambda url: words in url)


VISITORS = pytest.StashKey[list[Visitor]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test fails, its report says what its windows show."""
    report = yield
    if report.when == "call" and report.failed:
        for visitor in item.stash.get(VISITORS, []):
            with contextlib.suppress(Exception):
                shown = visitor.page.locator("body").inner_text(timeout=5000)
                report.sections.append((visitor.page.url, shown))
    return report


@pytest.fixture
def visit(
    browser: Any, app: Callable[..., str], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Visitor]]:
    """Opens a window on the app; at the end nothing may have gone wrong in any."""
    contexts: list[Any] = []
    visitors: list[Visitor] = request.node.stash.setdefault(VISITORS, [])

    def open_window(width: int = 1280, scheme: str = "light", words: tuple[str, ...] = ()) -> Visitor:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        visitors.append(Visitor(context.new_page(), app(*words)))
        return visitors[-1]

    yield open_window
    for context in contexts:
        context.close()
    assert [v.wrong for v in visitors if v.wrong] == []
