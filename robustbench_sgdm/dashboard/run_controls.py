"""The bar that all pages about a run share: one control for each notion, with its choice in the address.

A page draws those that apply to it. What is chosen on one page stays chosen on the others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import streamlit as st

from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import components, session, widgets
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.tables import humanize

ALL = "all"
MEAN = "mean"
OWN_BASELINES = "each variant's own"
"""The choice of baseline for a run that has several."""

SIZES = {ALL: "", "small": "_S", "medium": "_M", "large": "_L"}
"""Sizes of objects, with the ending of COCO's metrics of them."""

_STATISTICS = tuple(name for name in METRICS if "_" not in name)
_OF_SIZES = {"AP": "AP", "AR": "AR100"}  # the only statistics that COCO measures by size
_OLD_KEYS = {"models": ("right", "live_models"), "severity": ("at",), "pair": ("classes_of",)}
_BAR: ContextVar[Any] = ContextVar("bar", default=None)  # of the page that this thread draws
_COPY_LINK = components.register("copy_link")


@contextmanager
def frame() -> Iterator[Any]:
    """Draw the bar that all pages about a run share, and let the page add its controls; gives the bar."""
    bar = st.container(key="bar", horizontal=True, gap="small", vertical_alignment="bottom")
    token = _BAR.set(bar)
    try:
        yield bar
    finally:
        _BAR.reset(token)


def control_bar() -> Any:
    """The bar at the top of the page, for `with`: the controls of a page stand there, beside the run."""
    bar = _BAR.get()
    return bar or st.container(horizontal=True, gap="small", vertical_alignment="bottom")


def copy_link() -> None:
    """A button that copies the page's address, which says everything that is chosen."""
    _COPY_LINK(key="copy_link", width="content")


def select_run(names: Sequence[str]) -> str:
    """The run that a page shows, kept from page to page.

    It is in the address even if it is the first one: another one may be first tomorrow.
    """
    widgets.warn_invalid_query("run", names, "Run")
    wanted = [st.query_params.get("run"), st.session_state.get("last run"), names[0]]
    first = next(name for name in wanted if name in names)
    chosen = str(
        st.selectbox(
            "Run", names, index=names.index(first), key="run", width=180, on_change=session.record_interaction
        )
    )
    st.session_state["last run"] = chosen
    if st.query_params.get("run") != chosen:
        st.query_params["run"] = chosen
    return chosen


def select_baseline(view: RunView, *, own: bool = True) -> RunView:
    """The run with every model compared with the baseline that is chosen here; by default with its own pairs.

    Args:
        view: the run as it is.
        own: whether each variant may keep its own baseline, if the run has several baselines.
    """
    models, pairs = list(view.run.groups), view.run.baseline_pairs
    if len(models) < 2:
        widgets.warn_invalid_query("baseline", models, "Baseline")
        return view
    first = pairs[0][0]
    has_several = own and set(view.against(first).run.baseline_pairs) != set(pairs)
    options, default = ([OWN_BASELINES, *models], OWN_BASELINES) if has_several else (models, first)
    baseline = widgets.selectbox("Baseline", options, "baseline", default=default, width=150)
    # The run's own view where the choice compares the same: nobody has asked for a verdict on single pairs then.
    compared = view if baseline == OWN_BASELINES else view.against(baseline)
    return view if set(compared.run.baseline_pairs) == set(pairs) else compared


def select_pair(view: RunView, *, with_models: bool = False) -> tuple[str, str] | None:
    """What is shown as a difference.

    Args:
        view: the run, with the pairs on offer.
        with_models: whether each model by itself is on offer too.

    Returns:
        The baseline, "" for a model by itself, and the model; None if nothing is on offer.
    """
    label = "Show" if with_models else "Difference"
    named = {name: ("", name) for name in view.run.groups if with_models}
    named |= {f"{model} − {baseline}": (baseline, model) for baseline, model in view.run.baseline_pairs}
    if len(named) < 2:
        widgets.warn_invalid_query("pair", named, label)
        return next(iter(named.values()), None)
    _read_old_key("pair", list(named))
    return named[widgets.selectbox(label, list(named), "pair", width=200)]


def select_models(names: Sequence[str], *, nothing: str = ALL, **how: Any) -> list[str]:
    """The models that are shown, in the visitor's order; empty for those that the page shows by itself.

    Args:
        names: on offer.
        nothing: what the page shows then, in words.
        how: of `st.multiselect`.
    """
    if len(names) < 2:
        widgets.warn_invalid_query("models", names, "Models")
        return []
    _read_old_key("models", names)
    shown = escape_control_chars(nothing)
    return widgets.multiselect("Models", names, "models", default=[], placeholder=shown, width=210, **how)


def select_metric(usual: str) -> str:
    """One of COCO's twelve: a statistic, of objects of the size that is chosen beside it.

    Args:
        usual: the statistic where none is chosen.
    """
    sent = st.query_params.get("metric", "")
    if sent in METRICS and sent not in _STATISTICS:  # in an address of a page that offered all twelve
        kind, _, size = sent.partition("_")
        _say_otherwise("metric", {sent: _OF_SIZES[kind]})
        if "size" not in st.session_state:
            st.session_state["size"] = next(name for name, ending in SIZES.items() if ending == f"_{size}")
    chosen = widgets.selectbox("Metric", _STATISTICS, "metric", default=usual, aliases=METRICS, width=105)
    size = select_size(
        help="COCO measures AP and AR by size, and no other statistic: those of the size are shown."
    )
    return chosen if size == ALL else chosen[:2] + SIZES[size]


def select_size(**how: Any) -> str:
    """The size of objects, of `SIZES`; `how` as of `st.selectbox`."""
    return str(widgets.selectbox("Objects", list(SIZES), "size", width=105, **how))


def select_family(names: Sequence[str]) -> str:
    """A family of corruptions, or `ALL`."""
    if not names:
        widgets.warn_invalid_query("family", [ALL], "Corruptions")
        return ALL
    escaped = {escaping.markdown(name): name for name in names}  # in old addresses
    _say_otherwise("family", escaped)
    return widgets.selectbox("Corruptions", [ALL, *names], "family", aliases=list(escaped), width=125)


def select_severity(levels: Sequence[float], *, has_mean: bool = False) -> float:
    """One of some severities, by default the middle one; with `has_mean` also, and by default, NaN for their mean."""
    names = [*[MEAN] * has_mean, *(f"{level:g}" for level in levels)]
    _read_old_key("severity", names)
    default = MEAN if has_mean else names[len(names) // 2]
    chosen = widgets.selectbox("Severity", names, "severity", default=default, width=105)
    return math.nan if chosen == MEAN else float(chosen)


def select_corruption(names: Sequence[str], *, default: str | None = None) -> str:
    """A corruption, shown in words; the address may also have the name that commands use."""
    by_words = {humanize(name): name for name in names}
    _say_otherwise("corruption", {name: humanize(name) for name in names})
    usual = None if default is None else humanize(default)
    return by_words[
        widgets.selectbox("Corruption", list(by_words), "corruption", default=usual, aliases=names, width=150)
    ]


def _say_otherwise(key: str, meaning: Mapping[str, str]) -> None:
    """Let the address say a choice in other words than the widget."""
    sent = st.query_params.get(key)
    if sent is not None and sent in meaning and key not in st.session_state:
        st.session_state[key] = meaning[sent]


def _read_old_key(key: str, options: Sequence[str]) -> None:
    """Read a choice of an address from before all pages called it the same."""
    for old in _OLD_KEYS[key]:
        sent = [value for value in st.query_params.get_all(old) if value in options]
        if sent and key not in st.session_state and key not in st.query_params:
            st.session_state[key] = sent if key == "models" else sent[0]
