"""The dashboard's page on real run directories, through Streamlit's own test runner."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import content
from robustbench_sgdm.store import Run
from robustbench_sgdm.types import METRICS


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AppTest]:
    monkeypatch.setattr(sys, "argv", ["results.py", str(tmp_path)])

    def open_page() -> AppTest:
        return AppTest.from_file(content.root() / "app/results.py", default_timeout=60).run()

    return open_page


def test_no_runs_yet(page: Callable[[], AppTest]) -> None:
    shown = page()
    assert not shown.exception and "robustbench run" in shown.info[0].value


def test_a_run(page: Callable[[], AppTest], tmp_path: Path, small_run: Run) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/plan.yaml").write_text("schema: 99")
    shown = page()
    assert not shown.exception
    for name in (small_run.path.name, "other"):
        shown = shown.selectbox(key="run").select(name).run()
        assert not shown.exception
        assert bool(shown.error) == (name == "other")
    shown = shown.selectbox(key="run").select(small_run.path.name).run()
    for metric in METRICS:
        shown = shown.selectbox(key="metric").select(metric).run()
        assert not shown.exception and shown.dataframe
