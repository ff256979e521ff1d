"""Paper: the printed numbers of the SGDM paper beside recomputed ones."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
import yaml

import robustbench_sgdm
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.dashboard import jobs, widgets
from robustbench_sgdm.dashboard.pages import page

TABLES = {
    "2": "modules on VOC",
    "3": "dynamic convolutions in SGDM",
    "4": "backbones",
    "5": "modules on COCO",
    "6": "razor ratio",
    "7": "strip kernel",
    "8": "split ratio",
}
MARKS = {
    "equal": "✓ equal",
    "by rule": "✓ by rule",
    "differs": "✗ differs",
    "to train": "○ to train",
    "to measure": "○ to measure",
}
QUANTITIES = {
    "params": "parameters, M",
    "flops": "GFLOPs",
    "time": "time / baseline",
    "ap50": "AP50",
    "ap": "AP",
}


@page("Paper", icon=":material/article:", order=6)
def paper() -> None:
    """One table: each printed number, the recomputed one, the verdict and the reason."""
    number = widgets.segmented_control("Table of the paper", list(TABLES), "table")
    st.subheader(f"Table {number}: {TABLES[number]}", anchor=False)
    meanwhile = st.empty()
    with meanwhile.container():
        st.caption("The paper's numbers. Parameters and operations are being counted.")
        widgets.show_table(_printed(number))
    frame = _recomputed(number)
    meanwhile.empty()
    compared = frame[~frame["verdict"].isin(["to train", "to measure"])]
    equal = int((compared["verdict"] != "differs").sum())
    untrained = int((frame["verdict"] == "to train").sum())
    with st.container(horizontal=True, gap="small"):
        st.metric("Printed numbers", len(frame), border=True, width=190)
        if len(compared):
            st.metric("Reproduced", f"{equal} of {len(compared)}", border=True, width=290)
        if untrained:
            st.metric("AP that needs training", untrained, border=True, width=240)
    verdicts = [verdict for verdict in MARKS if verdict in set(frame["verdict"])]
    chosen = widgets.multiselect("Verdicts", verdicts, "verdicts", default=verdicts)
    selected = frame[frame["verdict"].isin(chosen)]
    if selected.empty:
        widgets.empty_state("No verdict chosen", "Choose one above.", ":material/check_box:")
    else:
        _show_comparison(selected)
    st.download_button(
        "This table, CSV",
        escaping.csv(frame),
        f"table-{number}.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


@st.cache_data
def _printed(number: str) -> pd.DataFrame:
    """The table as the paper has it: a row per detector and module."""
    file = Path(robustbench_sgdm.__file__).with_name("paper") / "tables.yaml"
    facts = yaml.safe_load(file.read_text("utf-8"))
    key = next(k for k in facts if k.startswith(f"table_{number}_"))
    rows = []
    for row, values in facts[key].items():
        if row in ("columns", "note"):
            continue
        several = values if isinstance(values, dict) else {"": values}
        rows += [
            {"row": str(row), "module": module, **_named(facts[key], v)} for module, v in several.items()
        ]
    return pd.DataFrame(rows)


def _named(table: dict[str, Any], values: list[float]) -> dict[str, float]:
    return dict(zip(table["columns"], values, strict=False))


@st.cache_data(show_spinner="Building the table's models to count their parameters; under a minute, once")
def _recomputed(number: str) -> pd.DataFrame:
    """The table's cells, counted by another process, so that this one loads no detector."""
    done = jobs.run_command("paper", "--table", number, "--format", "csv")
    if done.returncode:
        raise DataError(f"table {number} cannot be recomputed: {done.stderr.strip()[-300:]}")
    return escaping.from_csv_frame(pd.read_csv(io.StringIO(done.stdout), dtype={"row": str}))


def _show_comparison(frame: pd.DataFrame) -> None:
    number = st.column_config.NumberColumn
    widgets.show_table(
        frame.assign(
            verdict=frame["verdict"].map(MARKS),
            quantity=frame["quantity"].map(
                QUANTITIES | ({"flops": "MACs, G"} if (frame["table"] == 6).all() else {})
            ),
            column=frame["column"].fillna("–"),
        ),
        height="content" if len(frame) <= 24 else 640,
        column_order=["row", "column", "quantity", "printed", "value", "at_640", "verdict", "why", "model"],
        column_config={
            "row": st.column_config.TextColumn("Row", pinned=True),
            "column": st.column_config.TextColumn("Module"),
            "quantity": st.column_config.TextColumn("Quantity"),
            "printed": number("Printed", format="%.3g"),
            "value": number("Here, paper's rule", format="%.3f"),
            "at_640": number(
                "Here, true 640", format="%.2f", help="Operations of the same layers on a 640 x 640 image."
            ),
            "verdict": st.column_config.TextColumn("Verdict"),
            "why": st.column_config.TextColumn("Reason", width="large"),
            "model": st.column_config.TextColumn("Model in the zoo"),
        },
        placeholder="–",
        alt="Each printed number beside the recomputed one",
    )
