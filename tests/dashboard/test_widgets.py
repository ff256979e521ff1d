"""What a visit holds of a widget never hides what another run or table has."""

from collections.abc import Sequence
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from robustbench_sgdm.dashboard import widgets


def script() -> None:
    import streamlit as st

    from robustbench_sgdm.dashboard import widgets

    kind, options, default = st.session_state["asked for"]
    if not kind:
        return
    if kind == "multiselect":
        st.session_state["got"] = widgets.multiselect("What", options, "what", default=default)
    elif kind == "slider":
        st.session_state["got"] = widgets.slider("What", "what", options[0], options[1], default, 1)
    else:
        st.session_state["got"] = getattr(widgets, kind)("What", options, "what", default=default)


def shown(test: AppTest, kind: str, options: Sequence[Any], default: Any) -> Any:
    test.session_state["asked for"] = kind, options, default
    test.run()
    assert not test.exception
    return test.session_state["got"]


@pytest.fixture
def page() -> AppTest:
    return AppTest.from_function(script)


def test_what_was_not_on_offer_is_shown(page: AppTest) -> None:
    assert shown(page, "multiselect", ["equal", "to train"], ["equal", "to train"]) == ["equal", "to train"]
    assert shown(page, "multiselect", ["equal", "differs"], ["equal", "differs"]) == ["equal", "differs"]
    page.multiselect[0].set_value(["differs"])
    assert shown(page, "multiselect", ["equal", "differs"], ["equal", "differs"]) == ["differs"]
    assert shown(page, "multiselect", ["equal", "by rule"], ["equal", "by rule"]) == ["by rule"]
    assert shown(page, "multiselect", ["equal"], ["equal"]) == ["equal"]


def test_what_a_visitor_left_out_stays_so(page: AppTest) -> None:
    shown(page, "multiselect", ["a", "b", "c"], ["a", "b", "c"])
    page.multiselect[0].set_value(["a", "c"])
    assert shown(page, "multiselect", ["a", "b", "c"], ["a", "b", "c"]) == ["a", "c"]
    assert shown(page, "multiselect", ["a", "b", "d"], ["a", "b", "d"]) == ["a", "d"]


@pytest.mark.parametrize("kind", ["selectbox", "segmented_control"])
def test_a_choice_follows_the_default_unless_it_is_the_visitors_own(page: AppTest, kind: str) -> None:
    metrics = ["AP", "AP50", "AR"]
    assert shown(page, kind, metrics, "AP") == "AP"
    assert shown(page, kind, metrics, "AP50") == "AP50"
    getattr(page, kind)[0].set_value("AR")
    assert shown(page, kind, metrics, "AP50") == "AR"
    assert shown(page, kind, metrics, "AP") == "AR"
    assert shown(page, kind, ["AP", "AP50"], "AP") == "AP"
    assert shown(page, kind, metrics, "AP50") == "AP50"


def test_the_address_is_obeyed_until_its_word_is_not_on_offer(page: AppTest) -> None:
    page.query_params["what"] = "b"
    assert shown(page, "selectbox", ["a", "b"], "a") == "b"
    assert shown(page, "selectbox", ["a", "b", "c"], "c") == "b"
    assert shown(page, "selectbox", ["a", "c"], "c") == "c"
    assert not page.warning


def test_a_range_grows_with_its_bounds(page: AppTest) -> None:
    assert shown(page, "slider", (1, 50), (1, 50)) == (1, 50)
    assert shown(page, "slider", (1, 90), (1, 90)) == (1, 90)


@pytest.mark.parametrize(
    ("chosen", "bounds", "fitted"),
    [((10, 90), (1, 200), (10, 200)), ((10, 90), (1, 5), (5, 5)), ((1, 40), (5, 80), (5, 40))],
)
def test_a_chosen_range_keeps_what_fits(chosen: Any, bounds: Any, fitted: Any) -> None:
    assert widgets.fit_choice(chosen, (1, 90), bounds, bounds) == fitted
    assert widgets.fit_choice(chosen[1], (1, 90), bounds, 1) == min(chosen[1], bounds[1])


@pytest.mark.parametrize(
    ("kind", "options", "default", "chosen"),
    [
        ("selectbox", ["a", "b"], "a", "b"),
        ("segmented_control", ["a", "b"], "a", "b"),
        ("multiselect", ["a", "b"], ["a", "b"], ["b"]),
        ("slider", (1, 9), 1, 5),
    ],
)
def test_a_choice_is_kept_if_the_page_is_left_before_it_is_drawn_again(
    page: AppTest, kind: str, options: Sequence[Any], default: Any, chosen: Any
) -> None:
    shown(page, kind, options, default)
    widget = page.button_group[0] if kind == "segmented_control" else getattr(page, kind)[0]
    widget.set_value(chosen)
    shown(page, "", [], None)
    page.query_params.clear()  # as Streamlit forgets a widget on a page without it
    del page.session_state["what"]
    assert shown(page, kind, options, default) == chosen
