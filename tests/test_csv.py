"""Every table that is written without rows still has its header, so that pandas reads it."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from robustbench_sgdm import robustness, tables
from robustbench_sgdm.store import IMAGE_QUALITY, Run
from robustbench_sgdm.store.runs import LATENCY, RESULTS
from robustbench_sgdm.training import comparison


@pytest.fixture
def begun(small_run: Run, tmp_path: Path) -> Run:
    """The same cells as `small_run`, of which no cell is complete yet."""
    return Run.create_or_resume(tmp_path / "begun", "begun", small_run.manifest)


EMPTY: dict[str, Callable[[Run], pd.DataFrame]] = {
    "results": Run.results,
    "latency": Run.read_latency,
    "image quality": Run.read_image_quality,
    "summary": robustness.summary,
    "error types": robustness.error_types,
    "calibration": robustness.calibration,
    "bins": robustness.calibration_bins,
    "runs": lambda _: comparison.runs_table([]),
    "runs' summary": lambda _: comparison.summarize_runs(comparison.runs_table([])),
    "comparison": lambda _: tables.comparison_rows(
        pd.DataFrame(columns=["model", "baseline", "metric", "estimate", "low", "high"]),
        pd.DataFrame(columns=["model", "corruption", "metric", "severity", "low", "high", "used"]),
        {},
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_table_without_rows_has_its_header(begun: Run, name: str) -> None:
    frame = EMPTY[name](begun)
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert list(again.columns) == list(frame.columns) != []


def test_the_files_of_a_run_that_only_began(begun: Run, small_run: Run) -> None:
    begun.write_results()
    begun.write_latency(begun.read_latency())
    begun.write_image_quality(begun.read_image_quality())
    for name, columns in (("results", RESULTS), ("latency", LATENCY), ("image_quality", IMAGE_QUALITY)):
        frame = pd.read_csv(begun.path / f"{name}.csv")
        assert frame.empty and tuple(frame.columns) == columns
    assert tuple(small_run.results().columns) == RESULTS
    assert begun.results().dtypes["AP"] == small_run.results().dtypes["AP"]
