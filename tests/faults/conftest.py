"""What the fault tests share: the process that forks runs, and the run that nothing disturbs."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.harness import Runs, Undisturbed, undisturbed


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    own = tmp_path_factory.getbasetemp()
    session = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    started = Runs(tmp_path_factory.mktemp("logs"), session / "cache")
    yield started
    started.close()


@pytest.fixture(scope="session")
def expected(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return undisturbed(runs, tmp_path_factory.mktemp("undisturbed"))
