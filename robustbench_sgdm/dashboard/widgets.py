"""Streamlit's widgets with their state in the address, and the parts that pages share.

Widgets are called as in Streamlit. Each keeps its choice in the session, also while another page is shown, and in the
address, and reports an address that asks for what is not on offer.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import pandas as pd
import streamlit as st
from streamlit.errors import StreamlitAPIException

from robustbench_sgdm.core import escaping, palette
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import jobs, session
from robustbench_sgdm.tables import format_number

T = TypeVar("T")
Parameters = ParamSpec("Parameters")

QUERY: Literal["query-params"] = "query-params"
_MAX_LABEL = 80  # characters on a button
_LATEST = 7_270_000_000.0  # s since 1970; in 2200, tables take dates until 2262
_KEPT = "{}: kept"
_OFFERED = "{}: offered"


def model_colors(models: Sequence[str]) -> dict[str, str]:
    """The color of each model as #rrggbb, as in the report's figures; lighter on a dark background."""
    return palette.model_colors(models, dark=st.context.theme.type == "dark")


def show_legend(colors: Mapping[str, str]) -> None:
    """Show the color of each model, as of `model_colors`."""
    spans = [
        f'<span style="white-space:nowrap"><span aria-hidden="true" style="display:inline-block;width:.8em;'
        f'height:.8em;border-radius:50%;background:{color};margin-right:.4em"></span>{escaping.html(model)}</span>'
        for model, color in colors.items()
    ]
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.2rem 1.2rem">{"".join(spans)}</div>')


def show_table(frame: pd.DataFrame, **options: Any) -> Any:
    """Show a table; `options` are those of `st.dataframe`, whose selection is the answer."""
    return st.dataframe(escaping.frame(frame), hide_index=True, **options)


def warn_invalid_query(key: str, options: Iterable[object], label: str) -> None:
    """Warn if the address asks for something that is not available; the widget shows its default."""
    known = {str(option) for option in options}
    for value in st.query_params.get_all(key):
        if value not in known:
            short = value if len(value) <= 60 else f"{value[:60]}…"
            st.warning(
                f"The address asks for {escaping.markdown(repr(short))} under “{label}”, which is not available.",
                icon=":material/link_off:",
            )


def reconcile_choice(key: str, options: Sequence[Any], default: Any) -> bool:
    """Fit a widget's choice in this session to its options, which another widget may have changed.

    The visitor's own choice stays if it is still on offer. Everything else follows the default, so that a choice made
    for one run or table hides nothing of another.

    Args:
        key: of the widget.
        options: on offer now; for a slider its two bounds.
        default: one of them, or a list of them for a widget with several choices; for a slider its value or range.

    Returns:
        Whether the options changed under the choice; the address has the old choice until the widget is drawn.
    """
    wanted = st.session_state.pop(session.WANTED.format(key), None)
    is_wanted = wanted is not None and set(wanted if isinstance(wanted, list) else [wanted]) <= set(options)
    if is_wanted:
        st.session_state[key] = wanted
        if wanted != default:
            with contextlib.suppress(
                StreamlitAPIException
            ):  # the page before has this widget, and Streamlit writes it
                st.query_params[key] = wanted
    memory = _OFFERED.format(key)
    offered, usual, is_own = st.session_state.get(memory, (options, default, False))
    is_back = key not in st.session_state and key not in st.query_params  # from a page without this widget
    if is_back and is_own and (kept := st.session_state.get(_KEPT.format(key))) is not None:
        fitted = fit_choice(kept, offered, options, default)
        st.session_state[key], offered, usual = fitted, options, default
    # Read once: a visitor who leaves during the run empties the session.
    chosen = st.session_state.get(key)
    changed = chosen is not None and (offered, usual) != (options, default)
    if chosen is not None:
        is_own = is_own or chosen != usual or is_wanted
        if changed:
            chosen = fit_choice(chosen, offered, options, default) if is_own else default
            is_own = is_own and chosen != default
            st.session_state[key] = chosen
        if is_own and key not in st.query_params:
            # After a change of page, or Streamlit lets the widget follow the address, which lacks it.
            st.session_state[key] = chosen
    st.session_state[memory] = options, default, is_own
    return changed


def keep_choice(key: str, chosen: T) -> T:
    """Keep what a widget says for the next time that it is drawn; Streamlit forgets it on a page without the widget."""
    memory = _OFFERED.format(key)
    options, default, is_own = st.session_state.get(memory, ((), chosen, False))
    st.session_state[memory] = options, default, is_own or chosen != default
    st.session_state[_KEPT.format(key)] = chosen
    return chosen


def _keep_on_change(
    key: str, on_change: Callable[..., None] | None = None, args: Sequence[Any] = ()
) -> Callable[[], None]:
    """Keeps what the visitor chooses before the page is drawn again, as it may be left before.

    Args:
        key: of the widget.
        on_change, args: what else the change calls, while `last_choice` is still the one before.
    """

    def keep() -> None:
        if on_change:
            on_change(*args)
        if (chosen := st.session_state.get(key)) is not None:  # None if the visitor left meanwhile
            keep_choice(key, chosen)

    return keep


def last_choice(key: str) -> Any:
    """What a widget said when it was drawn last; for a callback, which runs after the visitor has changed it."""
    return st.session_state.get(_KEPT.format(key))


def clear_choices(*keys: str) -> None:
    """Let widgets show their defaults again, a text field no text; as a callback."""
    for key in keys:
        memory = _OFFERED.format(key)
        options, default, _ = st.session_state.get(memory, ((), "", False))
        st.session_state[memory] = options, default, False
        st.session_state[key] = default


def offer_to_clear(text: str, *keys: str) -> None:
    """Say that filters exclude everything, and offer to clear them.

    Args:
        text: what is excluded, in Markdown.
        keys: of the filters' widgets.
    """
    with st.container(border=True, horizontal_alignment="center", gap="small", key="nothing_left"):
        st.markdown(text, text_alignment="center")
        st.button("Clear the filters", icon=":material/filter_alt_off:", on_click=clear_choices, args=keys)


def offer_report(run: Path, lack: str) -> None:
    """Offer to compute a run's intervals and report, which takes a while.

    Args:
        run: its directory.
        lack: what is missing without them, in plain words.
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(lack)
        if st.button("Compute intervals and report", icon=":material/casino:"):
            try:
                with st.spinner("Resampling images and drawing figures, a minute or more", show_time=True):
                    jobs.write_report(run)
            except RobustBenchError as error:
                st.error(escaping.markdown(error), icon=":material/error:")
            else:
                st.rerun()


def fit_choice(chosen: Any, offered: Sequence[Any], options: Sequence[Any], default: Any) -> Any:
    """What remains of a choice among `offered` when there are other options."""
    if isinstance(default, list):
        return [o for o in options if o in (chosen if o in offered else default)] or default
    if isinstance(default, (int, float)):
        return min(max(chosen, options[0]), options[1])
    if isinstance(default, tuple):  # an end at its bound stays at the bound
        ends = zip(chosen, offered, options, strict=True)
        return tuple(new if at == old else min(max(at, options[0]), options[1]) for at, old, new in ends)
    return chosen if chosen in options else default


def selectbox(
    label: str,
    options: Sequence[T],
    key: str,
    *,
    default: T | None = None,
    aliases: Sequence[str] = (),
    **how: Any,
) -> T:
    """`st.selectbox`; `aliases` are valid in the address too."""
    first = default if default in options else options[0]
    if not reconcile_choice(key, options, first):
        warn_invalid_query(key, [*options, *aliases], label)
    chosen: T = st.selectbox(
        label,
        options,
        index=options.index(first),
        key=key,
        bind=QUERY,
        format_func=_printable,
        on_change=_keep_on_change(key),
        **how,
    )
    return keep_choice(key, chosen)


def toggle(label: str, key: str, **how: Any) -> bool:
    """`st.toggle`."""
    warn_invalid_query(key, ("true", "false"), label)
    return bool(st.toggle(label, key=key, bind=QUERY, **how))


def slider(label: str, key: str, low: float, high: float, value: Any, step: float) -> Any:
    """`st.slider`, of one value or of both ends of a range."""
    if not reconcile_choice(key, (low, high), value):
        valid = [text for text in st.query_params.get_all(key) if _is_within(text, low, high)]
        warn_invalid_query(key, valid, label)
    chosen = st.slider(label, low, high, value, step, key=key, bind=QUERY, on_change=_keep_on_change(key))
    return keep_choice(key, chosen)


def _is_within(text: str, low: float, high: float) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def number_input(
    label: str, key: str, low: float, high: float, value: float, step: float, **how: Any
) -> float:
    """`st.number_input`; an address outside the bounds is reported."""
    if not reconcile_choice(key, (low, high), value) and (sent := st.query_params.get(key)) is not None:
        try:
            is_inside = low <= float(sent) <= high
        except ValueError:
            is_inside = False
        warn_invalid_query(key, [sent] * is_inside, label)
        if not is_inside:
            del st.query_params[key]
    kind = int if all(isinstance(number, int) for number in (low, high, value, step)) else float
    bounds = kind(low), kind(high), kind(value), kind(step)
    chosen = st.number_input(label, *bounds, key=key, bind=QUERY, on_change=_keep_on_change(key), **how)
    return float(keep_choice(key, chosen))


def multiselect(
    label: str,
    options: Sequence[str],
    key: str,
    *,
    default: Sequence[str],
    on_change: Callable[..., None] | None = None,
    args: Sequence[Any] = (),
    **how: Any,
) -> list[str]:
    """`st.multiselect`."""
    if not reconcile_choice(key, options, list(default)):
        warn_invalid_query(key, options, label)
    chosen = st.multiselect(
        label,
        options,
        default=list(default),
        key=key,
        bind=QUERY,
        format_func=_printable,
        on_change=_keep_on_change(key, on_change, args),
        **how,
    )
    return keep_choice(key, list(chosen))


def _printable(option: object) -> str:
    return escape_control_chars(str(option))


def segmented_control(label: str, options: Sequence[str], key: str, *, default: str | None = None) -> str:
    """`st.segmented_control`, which reads its options as Markdown: they are escaped."""
    texts: dict[str, str] = {}
    for option in options:
        text = escaping.markdown(option if len(option) <= _MAX_LABEL else f"{option[:_MAX_LABEL]}…")
        texts[text if text not in texts else f"{text} {len(texts)}"] = option
    sent = st.query_params.get(key)  # in a link that was written by hand
    if sent in texts.values() and sent not in texts and key not in st.session_state:
        st.session_state[key] = next(text for text, option in texts.items() if option == sent)
    first = next((text for text, option in texts.items() if option == default), next(iter(texts)))
    if not reconcile_choice(key, list(texts), first):
        warn_invalid_query(key, [*texts, *options], label)
    chosen = st.segmented_control(
        label, list(texts), default=first, required=True, key=key, bind=QUERY, on_change=_keep_on_change(key)
    )
    return texts[keep_choice(key, str(chosen or first))]


def local_time(seconds: float) -> datetime:
    """The time of a file or a record, s since 1970; what a stranger's claims may be no date at all.

    >>> local_time(1e15).year, local_time(-1e15).year in (1969, 1970)
    (2200, True)
    """
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST))


def format_interval(low: float, high: float, *, signed: bool = False) -> str:
    """An interval in words.

    >>> format_interval(1, 2), format_interval(-1, 2, signed=True), format_interval(float("nan"), 2)
    ('1.00 to 2.00', '-1.00 to +2.00', '–')
    """
    if math.isnan(low) or math.isnan(high):
        return "–"
    return f"{format_number(low, signed=signed)} to {format_number(high, signed=signed)}"


@contextmanager
def left_out(name: str) -> Iterator[None]:
    """Warn that another run is left out because something of it cannot be read."""
    try:
        yield
    except (RobustBenchError, OSError, LookupError, TypeError, ValueError) as error:
        st.warning(
            f"{escaping.markdown(name)} is left out: {escaping.markdown(error)}", icon=":material/error:"
        )


def fragment(
    run_every: float | None = None,
) -> Callable[[Callable[Parameters, None]], Callable[Parameters, None]]:
    """`st.fragment` that reports errors of ours, which do not reach its page."""

    def decorate(body: Callable[Parameters, None]) -> Callable[Parameters, None]:
        @wraps(body)
        def guarded(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
            try:
                body(*arguments, **named)
            except RobustBenchError as error:
                empty_state("This cannot be shown", escaping.markdown(error), ":material/error:")

        return st.fragment(guarded, run_every=run_every)

    return decorate


def empty_state(title: str, text: str, icon: str = ":material/inbox:") -> None:
    """Say what would be here, and how to get it.

    Args:
        title: plain text.
        text: Markdown; text from files goes through `escaping.markdown`.
        icon: as Streamlit names it.
    """
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.markdown(f"### {icon} {escaping.markdown(title)}", text_alignment="center")
        st.markdown(text, text_alignment="center")
