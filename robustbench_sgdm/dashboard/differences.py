"""The differences between two models, cell by cell, and the way from a cell to its images."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.dashboard import image_selection, run_data, session, widgets
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.tables import format_p_value, humanize

NEGLIGIBLE = 0.05  # points; with a smaller difference neither model counts as better


def cell_differences(view: RunView, metric: str, pair: tuple[str, str]) -> pd.DataFrame:
    """What the second model of a pair has more than the first, in each cell that both have.

    Returns:
        corruption, severity, change (points), interval and p (in words), significant; empty if nothing compares.
    """
    keys = ["corruption", "severity"]
    wide = run_data.pooled_results(view).pivot_table(index=keys, columns="model", values=metric, sort=False)
    if not set(pair) <= set(wide):
        return pd.DataFrame()
    scores = (wide[pair[1]] - wide[pair[0]]).dropna().rename("change").reset_index()
    table = run_data.intervals(view, metric)
    if table is None:
        return scores.assign(interval="not computed", p="–", significant=False)
    rows = table[
        (table["statistic"] == "score") & (table["baseline"] == pair[0]) & (table["model"] == pair[1])
    ]
    frame = scores[keys].merge(rows, on=keys).dropna(subset="estimate")
    return frame[keys].assign(
        change=frame["estimate"],  # of the trainings that are compared, maybe not all
        interval=[
            widgets.format_interval(*ends, signed=True)
            for ends in zip(frame["low"], frame["high"], strict=True)
        ],
        p=frame["p_holm"].map(format_p_value),
        significant=frame["significant"],
    )


def open_images(
    view: RunView,
    pair: tuple[str, str],
    corruption: str,
    severity: float,
    change: float,
    *,
    image: int | None = None,
) -> None:
    """Open the images of a cell, first those where the model with the higher score finds more.

    Args:
        view: the run.
        pair: the left and the right model.
        corruption: its name.
        severity: of the cell.
        change: what the right model has more, points.
        image: the image to begin with.
    """
    order = image_selection.MAX_DIFFERENT
    if abs(change) >= NEGLIGIBLE:
        order = image_selection.RIGHT_FINDS_MORE if change > 0 else image_selection.LEFT_FINDS_MORE
    show_images(
        view, pair, corruption, severity, {"order": order}, **({} if image is None else {"image": str(image)})
    )


def show_images(
    view: RunView,
    pair: tuple[str, str],
    corruption: str,
    severity: float,
    choices: Mapping[str, str],
    **query: str,
) -> None:
    """Open the images of a cell.

    Args:
        view: the run.
        pair: the left and the right model; equal for the model and what it is compared with.
        corruption: its name.
        severity: of the cell.
        choices: of other widgets of that page.
        query: of its address.
    """
    chosen: dict[str, Any] = {"baseline": pair[0], "severity": f"{severity:g}", **choices}
    if pair[1] != pair[0]:
        chosen["models"] = list(pair)  # all pages share this choice, and others show the pair then
    if "image" in query:  # filters that leave it out are told
        st.session_state.pop(image_selection.LISTED, None)
    if corruption != CLEAN:  # at severity 0 every corruption shows clean images
        chosen["corruption"] = humanize(corruption)
    session.open_page("images", chosen, run=view.name, any="false", **query)
