"""Paper: the printed numbers of the SGDM paper beside recomputed ones."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
import yaml

import robustbench_sgdm
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.dashboard import paper_tables, widgets
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
HEADINGS = {
    "row": "Row",
    "module": "Module",
    "params": "Parameters, M",
    "flops": "GFLOPs",
    "time_ms": "Time, ms",
}
REFRESH_SECONDS = 1.0


@page("Paper", icon=":material/article:", order=6)
def paper() -> None:
    """One table: each printed number, the recomputed one, the verdict and the reason."""
    number = widgets.segmented_control("Table of the paper", list(TABLES), "table")
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        verdicts = widgets.multiselect(
            "Verdicts", list(MARKS), "verdicts", default=[], placeholder="all", width=420
        )
        quantities = widgets.multiselect(
            "Quantities", list(QUANTITIES), "quantities", default=[], placeholder="all", width=320
        )
    st.subheader(f"Table {number}: {TABLES[number]}", anchor=False)
    frame = paper_tables.recomputed(number)
    if frame is None:
        st.caption(
            "The paper's numbers. Parameters and operations are counted once, which takes less than a minute."
        )
        widgets.show_table(_printed(number))
        widgets.fragment(REFRESH_SECONDS)(_wait)(number)
        return
    _show_counts(frame)
    is_shown = frame["verdict"].isin(verdicts or MARKS) & frame["quantity"].isin(quantities or QUANTITIES)
    if not is_shown.any():
        widgets.offer_to_clear("**No such number in this table.**", "verdicts", "quantities")
    else:
        _show_comparison(frame[is_shown])
    st.download_button(
        "This table, CSV",
        escaping.csv(frame),
        f"table-{number}.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _wait(number: str) -> None:
    """Show the table, or what went wrong, as soon as the counting has ended."""
    try:
        is_counted = paper_tables.recomputed(number) is not None
    except DataError:
        is_counted = True  # the page says what went wrong
    if is_counted:
        st.rerun()
    st.caption("Counting parameters and operations …")


def _show_counts(frame: pd.DataFrame) -> None:
    compared = frame[~frame["verdict"].isin(["to train", "to measure"])]
    equal = int((compared["verdict"] != "differs").sum())
    untrained = int((frame["verdict"] == "to train").sum())
    with st.container(horizontal=True, gap="small"):
        st.metric("Printed numbers", len(frame), border=True, width=190)
        if len(compared):
            st.metric("Reproduced", f"{equal} of {len(compared)}", border=True, width=290)
        if untrained:
            st.metric("AP that needs training", untrained, border=True, width=240)


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
    return pd.DataFrame(rows).rename(columns=lambda name: HEADINGS.get(name, str(name).upper()))


def _named(table: dict[str, Any], values: list[float]) -> dict[str, float]:
    return dict(zip(table["columns"], values, strict=False))


def _show_comparison(frame: pd.DataFrame) -> None:
    """The numbers, and below them every reason in full."""
    reasons = [str(why) for why in dict.fromkeys(frame["why"].dropna()) if why]
    places = {why: f"[{number}]" for number, why in enumerate(reasons, 1)}
    number = st.column_config.NumberColumn
    widgets.show_table(
        frame.assign(
            verdict=[
                f"{MARKS[v]} {places.get(why, '')}".strip()
                for v, why in zip(frame["verdict"], frame["why"], strict=True)
            ],
            quantity=frame["quantity"].map(
                QUANTITIES | ({"flops": "MACs, G"} if (frame["table"] == 6).all() else {})
            ),
            column=frame["column"].fillna("–"),
        ),
        height="content" if len(frame) <= 24 else 640,
        column_order=["row", "column", "quantity", "printed", "value", "at_640", "verdict", "model"],
        column_config={
            "row": st.column_config.TextColumn("Row", pinned=True),
            "column": st.column_config.TextColumn("Module"),
            "quantity": st.column_config.TextColumn("Quantity"),
            "printed": number("Printed", format="%.3g"),
            "value": number("Here, paper's rule", format="%.3f"),
            "at_640": number(
                "Here, true 640", format="%.2f", help="Operations of the same layers on a 640 x 640 image."
            ),
            "verdict": st.column_config.TextColumn("Verdict", help="[1]: the reason of this number below."),
            "model": st.column_config.TextColumn("Model in the zoo"),
        },
        placeholder="–",
        alt="Each printed number beside the recomputed one",
    )
    if reasons:
        st.markdown("**Reasons**")
        st.markdown("\n".join(f"{place:d}. {escaping.markdown(why)}" for place, why in enumerate(reasons, 1)))
