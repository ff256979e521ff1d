"""A stored run with pictures, the dashboard as a process, a real browser."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
