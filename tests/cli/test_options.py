"""List options: commas, repeats, ranges, brackets."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_sgdm.cli import options
from robustbench_sgdm.errors import UsageError

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}(\[[a-z]=[0-9](,[a-z]=[0-9]){0,2}\])?", fullmatch=True)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.lists(NAMES, unique=True, max_size=6))
def test_commas_and_repeats_are_the_same(names: list[str]) -> None:
    assert options.split(names) == options.split([",".join(names)]) == names


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (["0-5"], [0, 1, 2, 3, 4, 5]),
        (["1,3"], [1, 3]),
        (["3", "1", "1"], [1, 3]),
        (["0-1,2.5"], [0, 1, 2.5]),
        (["0"], [0]),
    ],
)
def test_severities(given_: list[str], expected: list[float]) -> None:
    assert options.severities(given_) == expected


@pytest.mark.parametrize("bad", ["6", "-1", "x", "5-0", "nan", "inf", "1e9", "0-9", "1-"])
def test_bad_severities_name_the_bound(bad: str) -> None:
    with pytest.raises(UsageError, match=r"outside \[0, 5\]|neither a number|backwards"):
        options.severities([bad])


def test_unbalanced_brackets() -> None:
    for bad in ("a[b", "a]b", "a]["):
        with pytest.raises(UsageError, match="unbalanced"):
            options.split([bad])


def test_weights_by_order_and_by_name(tmp_path: Path) -> None:
    models = ["a", "b[x=1]"]
    assert options.weights(["w.pt"], models) == {"a": Path("w.pt"), "b[x=1]": Path("w.pt")}
    assert options.weights(["1.pt,2.pt"], models) == {"a": Path("1.pt"), "b[x=1]": Path("2.pt")}
    assert options.weights(["b[x=1]=2.pt"], models) == {"b[x=1]": Path("2.pt")}
    with pytest.raises(UsageError, match="'c' is not a model"):
        options.weights(["c=w.pt"], models)
    with pytest.raises(UsageError, match="3 --weights for 2 models"):
        options.weights(["1.pt,2.pt,3.pt"], models)
