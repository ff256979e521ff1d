"""What the pages are laid out with: widgets whose state stands in the address, and words."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import pandas as pd
import streamlit as st

from robustbench_sgdm.core import escaping, palette
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.tables import format_number, humanize

if TYPE_CHECKING:
    from app.stored import Shown

T = TypeVar("T")
plain, html = escaping.markdown, escaping.html
"""Text inside Markdown and inside HTML; names come from files and addresses."""

Parameters = ParamSpec("Parameters")

QUERY: Literal["query-params"] = "query-params"
_WANTED = "{}: wanted"
_OPENED = "opened at"
_AGREED = "agreed: {}"
_LONGEST = 80  # characters on a button
OWN = "each variant's own"
"""The baseline where a run has several."""


def colors(models: Sequence[str]) -> dict[str, str]:
    """The colour of each model, that of the report's figures, as #rrggbb; lighter on dark ground."""
    return palette.model_colors(models, dark=st.context.theme.type == "dark")


def legend(models: Sequence[str]) -> None:
    """A line that says which colour is whose."""
    spans = [
        f'<span style="white-space:nowrap"><span aria-hidden="true" style="display:inline-block;width:.8em;'
        f'height:.8em;border-radius:50%;background:{color};margin-right:.4em"></span>{html(model)}</span>'
        for model, color in colors(models).items()
    ]
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.2rem 1.2rem">{"".join(spans)}</div>')


def table(frame: pd.DataFrame, **how: Any) -> None:
    """Show a table; `how` is `st.dataframe`'s."""
    st.dataframe(escaping.frame(frame), hide_index=True, **how)


def asked(key: str, options: Iterable[object], what: str) -> None:
    """Say so where the address asks for something that is not there; its widget shows something else."""
    known = {str(option) for option in options}
    for value in st.query_params.get_all(key):
        if value not in known:
            short = value if len(value) <= 60 else f"{value[:60]}…"
            st.warning(
                f"The address asks for {plain(repr(short))} under “{what}”, which is not here "
                "and so not shown.",
                icon=":material/link_off:",
            )


def settle(key: str, options: Sequence[Any], default: Any) -> bool:
    """Fit what a visit holds of a widget to its options, which another choice may have changed.

    What the visitor chose stays where it is on offer. What was not on offer then follows the default, so that a choice
    made for one run or table hides nothing of another; so does what the visitor never chose.

    Args:
        key: of the widget.
        options: that it offers now; for a slider its two bounds.
        default: one of them, or a list of them for a widget with several choices; for a slider its value or range.

    Returns:
        Whether the options changed under the choice; the address still says the old one until the widget is drawn.
    """
    sent = st.session_state.pop(_WANTED.format(key), None)
    if sent in options:
        st.session_state[key] = sent
    memory = f"{key}: offered"
    offered, usual, own = st.session_state.get(memory, (options, default, False))
    changed = key in st.session_state and (offered, usual) != (options, default)
    if key in st.session_state:
        chosen = st.session_state[key]
        own = own or chosen != usual or chosen == sent
        if changed:
            wanted = _fitted(chosen, offered, options, default) if own else default
            own = own and wanted != default
            st.session_state[key] = wanted
    st.session_state[memory] = options, default, own
    return changed


def _fitted(chosen: Any, offered: Sequence[Any], options: Sequence[Any], default: Any) -> Any:
    """What is left of a choice among what was offered, now that there are other options."""
    if isinstance(default, list):
        return [o for o in options if o in (chosen if o in offered else default)] or default
    if isinstance(default, (int, float)):
        return min(max(chosen, options[0]), options[1])
    if isinstance(default, tuple):  # an end that stood at its bound stays there
        ends = zip(chosen, offered, options, strict=True)
        return tuple(new if at == old else min(max(at, options[0]), options[1]) for at, old, new in ends)
    return chosen if chosen in options else default


def pick(
    label: str,
    options: Sequence[T],
    key: str,
    *,
    default: T | None = None,
    aliases: Sequence[str] = (),
    **how: Any,
) -> T:
    """A selectbox that the address remembers; nonsense there, beside options and `aliases`, is told, not obeyed."""
    first = default if default in options else options[0]
    if not settle(key, options, first):
        asked(key, [*options, *aliases], label)
    chosen: T = st.selectbox(
        label, options, index=options.index(first), key=key, bind=QUERY, format_func=_shown, **how
    )
    return chosen


def pick_corruption(names: Sequence[str], *, default: str | None = None) -> str:
    """A corruption, called as everywhere; the address may also have the name that commands have."""
    named = {humanize(name): name for name in names}
    sent = st.query_params.get("corruption")
    if sent is not None and sent in names and "corruption" not in st.session_state:
        st.session_state["corruption"] = humanize(sent)
    usual = None if default is None else humanize(default)
    return named[pick("Corruption", list(named), "corruption", default=usual, aliases=names, width=170)]


def arrive(page: str) -> None:
    """Note that the visitor is on a page: on another one than the address opened, a click led there."""
    if st.session_state.setdefault(_OPENED, page) != page:
        _act()


def has_acted() -> bool:
    """Whether the visitor came to what is shown by a click, not by the address alone that the visit began with."""
    return st.session_state.get(_OPENED) is None


def _act() -> None:
    st.session_state[_OPENED] = None


def agree(what: str) -> None:
    """Note that the visitor asked for something that costs time or trust."""
    st.session_state[_AGREED.format(what)] = True


def is_agreed(what: str, text: str, label: str) -> bool:
    """Whether the visitor asked for something that no address gets by itself; else a button that does.

    Args:
        what: names it in this visit.
        text: what would happen, in Markdown.
        label: of the button.
    """
    if _AGREED.format(what) in st.session_state:
        return True
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(text, width="stretch")
        st.button(label, on_click=agree, args=(what,), type="primary")
    return False


def pick_run(names: Sequence[str]) -> str:
    """The run that a page shows, chosen at its top and kept from page to page.

    It stands in the address even where it is the first: another one may be first tomorrow.
    """
    asked("run", names, "Run")
    wanted = [st.query_params.get("run"), st.session_state.get("last run"), names[0]]
    first = next(name for name in wanted if name in names)
    chosen = str(st.selectbox("Run", names, index=names.index(first), key="run", width=420, on_change=_act))
    st.session_state["last run"] = chosen
    if st.query_params.get("run") != chosen:
        st.query_params["run"] = chosen
    return chosen


def against(shown: "Shown", *, own: bool = True) -> "Shown":
    """The run with every network compared with the one chosen here; by default with its own pairs.

    Args:
        shown: the run as it is.
        own: whether each variant may keep a baseline of its own, where the run has several baselines.
    """
    networks, pairs = list(shown.networks), shown.run.pairs
    if len(networks) < 2:
        asked("baseline", networks, "Baseline")
        return shown
    first = pairs[0][0]
    several = own and set(shown.against(first).run.pairs) != set(pairs)
    options, default = ([OWN, *networks], OWN) if several else (networks, first)
    baseline = pick("Baseline", options, "baseline", default=default, width=200)
    return shown if several and baseline == OWN else shown.against(baseline)


def switch(label: str, key: str, **how: Any) -> bool:
    """A toggle that the address remembers."""
    asked(key, ("true", "false"), label)
    return bool(st.toggle(label, key=key, bind=QUERY, **how))


def slide(label: str, key: str, low: float, high: float, value: Any, step: float, **how: Any) -> Any:
    """A slider that the address remembers, of one value or of both ends of a range."""
    if not settle(key, (low, high), value):
        asked(key, [text for text in st.query_params.get_all(key) if _within(text, low, high)], label)
    return st.slider(label, low, high, value, step, key=key, bind=QUERY, **how)


def _within(text: str, low: float, high: float) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def picks(label: str, options: Sequence[str], key: str, *, default: Sequence[str], **how: Any) -> list[str]:
    """A multiselect that the address remembers."""
    if not settle(key, options, list(default)):
        asked(key, options, label)
    return list(
        st.multiselect(label, options, default=list(default), key=key, bind=QUERY, format_func=_shown, **how)
    )


def _shown(option: object) -> str:
    return escape_control_chars(str(option))


def choose(label: str, options: Sequence[str], key: str, *, default: str | None = None, **how: Any) -> str:
    """A row of buttons of which one is down, that the address remembers; Streamlit reads their texts as Markdown."""
    texts: dict[str, str] = {}
    for option in options:
        text = plain(option if len(option) <= _LONGEST else f"{option[:_LONGEST]}…")
        texts[text if text not in texts else f"{text} {len(texts)}"] = option
    sent = st.query_params.get(key)  # by a link that somebody wrote
    if sent in texts.values() and sent not in texts and key not in st.session_state:
        st.session_state[key] = next(text for text, option in texts.items() if option == sent)
    first = next((text for text, option in texts.items() if option == default), next(iter(texts)))
    if not settle(key, list(texts), first):
        asked(key, [*texts, *options], label)
    chosen = st.segmented_control(
        label,
        list(texts),
        default=first,
        required=True,
        key=key,
        bind=QUERY,
        **how,
    )
    return texts[str(chosen or first)]


def steps(label: str, options: Sequence[str], key: str, *, default: str) -> str:
    """A slider over a few steps that the address remembers."""
    if not settle(key, options, default):
        asked(key, options, label)
    return str(st.select_slider(label, options, value=default, key=key, bind=QUERY))


def go(page: str, *, baseline: str | None = None, **values: str) -> None:
    """Turn to another page, with its address.

    Args:
        page: its name.
        baseline: chosen there; not by the address, in which Streamlit lets only the widget of this page write it.
        values: of the address.
    """
    for key in values:  # Streamlit prefers what the visit holds to an address that says the default
        st.session_state.pop(key, None)
    if baseline is not None:
        st.session_state[_WANTED.format("baseline")] = baseline
    st.switch_page(st.session_state["pages"][page], query_params=values)


def span(low: float, high: float, *, signed: bool = False) -> str:
    """An interval in words.

    >>> span(1, 2), span(-1, 2, signed=True), span(float("nan"), 2)
    ('1.00 to 2.00', '-1.00 to +2.00', '–')
    """
    if math.isnan(low) or math.isnan(high):
        return "–"
    return f"{format_number(low, signed=signed)} to {format_number(high, signed=signed)}"


def fragment(
    run_every: float | None = None,
) -> Callable[[Callable[Parameters, None]], Callable[Parameters, None]]:
    """As `st.fragment`; what is wrong with a run's data becomes words here too, which its page does not hear of."""

    def decorate(body: Callable[Parameters, None]) -> Callable[Parameters, None]:
        @wraps(body)
        def guarded(*arguments: Parameters.args, **named: Parameters.kwargs) -> None:
            try:
                body(*arguments, **named)
            except RobustBenchError as error:
                nothing("This cannot be shown", plain(error), ":material/error:")

        return st.fragment(guarded, run_every=run_every)

    return decorate


def nothing(title: str, text: str, icon: str = ":material/inbox:") -> None:
    """An empty state: what would be here, and how to get it.

    Args:
        title: plain text.
        text: Markdown; what comes from files goes through `plain`.
        icon: as Streamlit names it.
    """
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.markdown(f"### {icon} {plain(title)}", text_alignment="center")
        st.markdown(text, text_alignment="center")
