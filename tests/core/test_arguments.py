"""Arguments from Python: what fits an annotation is made it, and anything else is named."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from robustbench_sgdm.core.arguments import check_argument, check_arguments
from robustbench_sgdm.core.errors import UsageError


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (np.int64(3), int, 3),
        (np.float64(0.5), float, 0.5),
        (2, float, 2),
        ("runs", Path, Path("runs")),
        ("runs", str | Path, "runs"),
        (Path("runs"), str | Path, Path("runs")),
        (None, Path | None, None),
        (np.array([0, 3]), float | Sequence[float], (0, 3)),
        (range(2), Sequence[int], (0, 1)),
        ("fog", Sequence[str], ("fog",)),
        (["a", Path("b")], Sequence[str | Path], ("a", Path("b"))),
        ([np.int64(1), np.int64(2)], Sequence[int], (1, 2)),
        (iter(["fog", Path("b")]), tuple[str, ...], ("fog", "b")),
        (Path("b"), tuple[str, ...] | None, ("b",)),
        ({"yolov8n": "a.pt"}, Mapping[str, Path], {"yolov8n": Path("a.pt")}),
        (["fog", 3], tuple[str, float] | None, ("fog", 3)),
        ("val", Literal["train", "val"], "val"),
        (len, Callable[[str], int], len),
    ],
)
def test_what_fits_becomes_what_the_annotation_says(value: Any, annotation: Any, expected: Any) -> None:
    checked = check_argument("it", value, annotation)
    assert checked == expected and type(checked) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (1.5, int, "it is 1.5, must be a whole number"),
        (True, int, "it is True, must be a whole number"),
        (2**63, int, "it is 9223372036854775808, which takes more than 64 bits"),
        ("1", float | None, "it is '1', must be a number or None"),
        (1, bool, "it is 1, must be True or False"),
        ({3}, float | Sequence[float], "it is {3}, must be a number or a list of numbers"),
        (["fog", 3], Sequence[str], "it is ['fog', 3], must be a list of texts"),
        ("a.pt", Mapping[str, Path], "it is 'a.pt', must be a dict"),
        ("fog", tuple[str, float], "it is 'fog', must be (a text, a number)"),
        (None, Callable[[str], int], "it is None, must be a function"),
        (3, Literal["train", "val"], "it is 3, must be a text"),
        ({"a": 1}, tuple[str, ...], "it is {'a': 1}, must be a list of texts"),
        (3, UsageError, "it is 3, must be UsageError"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        check_argument("it", value, annotation)


def test_a_function_checks_what_it_is_given() -> None:
    @check_arguments
    def join(names: Sequence[str], *, separator: str = "+", given: "Nothing" = 0) -> str:  # type: ignore[name-defined]  # noqa: F821
        return separator.join(names)

    assert join("ab") == "ab" and join(["a", "b"], given=object()) == "a+b"
    with pytest.raises(UsageError, match=r"^separator is 3, must be a text$"):
        join("a", separator=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^join\(\) got an unexpected keyword argument 'seperator'$"):
        join("a", seperator="-")  # type: ignore[call-arg]
