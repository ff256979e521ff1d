"""The dashboard's first page: a run's curves and tables, from stored results alone.

Started by `robustbench dashboard`, which passes the folder of runs.
"""

import sys
from pathlib import Path

import streamlit as st

from robustbench_sgdm import figures, tables
from robustbench_sgdm.errors import DataError
from robustbench_sgdm.store import Run, list_runs
from robustbench_sgdm.types import METRICS


def page(project: Path) -> None:
    """Show one of the runs below `project`; the address remembers which, and which metric."""
    st.set_page_config(page_title="RobustBench-SGDM", layout="wide")
    names = [path.name for path in list_runs(project)]
    if not names:
        st.info(f"No runs in {project} yet. Make one: robustbench run --model yolov8n-sgdm --noise gaussian")
        return
    name = st.sidebar.selectbox("Run", names[::-1], key="run", bind="query-params")
    metric = st.sidebar.selectbox("Metric", METRICS, key="metric", bind="query-params")
    try:
        show(Run.open(project / name), metric)
    except DataError as error:
        st.error(str(error))


def show(run: Run, metric: str) -> None:
    """One run: what it is, curves, a table per corruption."""
    st.title(" against ".join(run.plan["models"]))
    st.caption(f"{run.plan['data']['name']} · {run.plan['data']['images']} images · {run.path}")
    results = run.results()
    if missing := run.missing():
        st.warning(
            f"{len(missing)} of {len(run.cells)} cells are missing: run the same command again to finish"
        )
    if results.empty:
        return
    st.pyplot(figures.severity_curves(results, metric), width="content")
    for table in tables.corruption_tables(results, run.pairs):
        st.subheader(table.title)
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        st.dataframe(rows, hide_index=True)
    st.download_button("results.csv", results.to_csv(index=False), "results.csv", "text/csv")


page(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/robustness"))
