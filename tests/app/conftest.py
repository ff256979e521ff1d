"""A stored run with pictures, the dashboard as a process, a real browser."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_sgdm import content, corruption
from robustbench_sgdm.store import Run

SUPPORT = content.root() / "benchmarks" / "support"
made_run = content.load_file(SUPPORT / "made_run.py")
serving = content.load_file(SUPPORT / "serving.py")

LEVELS = {"gaussian_noise": [1, 3, 5], "motion_blur": [1, 3, 5], "fog": [1, 3]}


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
    known = {c.name: c.fingerprint() for c in corruption.load() if c.name in LEVELS}
    models = ["base", "base-sgdm"]
    for name, leave in (("unfinished", 3), ("complete", 0)):
        made_run.make_run(
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
    (folder / "old/plan.yaml").write_text("schema: 99\n")
    (folder / "torn").mkdir()
    (folder / "torn/plan.yaml").write_text("schema: 1\nmodels: {a: {}}\ndata: {}\ncorruptions: {}\nsettings:")
    for age, name in enumerate(("torn", "old", "unfinished", "complete")):
        os.utime(folder / name, (1_700_000_000 + age, 1_700_000_000 + age))
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
