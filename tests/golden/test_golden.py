"""Outputs on fixed inputs are those of the versions in the code: a change of either without the other fails.

Tolerances are what processors differ by: rounding of a few grey levels in a block of 400 values, of a box's corner.
"""

import json
from typing import Any

import numpy as np
import pytest

from robustbench_sgdm import corruption
from robustbench_sgdm.core import resources, versions

make: Any = resources.import_file(resources.root() / "tests/golden/make.py")
GOLDEN: dict[str, Any] = json.loads(make.FILE.read_text())
RAISE = "raise its version ({}), say in CHANGELOG.md what changed, and run `make golden`"


def test_the_file_is_of_these_versions() -> None:
    numbers = {name: getattr(versions, name) for name in ("CORRUPTIONS", "INFERENCE", "SCORING")}
    assert {name: GOLDEN[name] for name in numbers} == numbers, "run `make golden`"
    assert {one.name: one.version for one in corruption.load_corruptions()} == {
        name: about["version"] for name, about in GOLDEN["corruptions"].items()
    }, "run `make golden`"


@pytest.fixture(scope="module")
def blocks() -> dict[str, Any]:
    found: dict[str, Any] = make.corruptions()
    return found


@pytest.mark.parametrize("name", corruption.load_corruptions().names)
def test_pixels(name: str, blocks: dict[str, Any]) -> None:
    found, golden = (np.array(one[name]["blocks"]) for one in (blocks, GOLDEN["corruptions"]))
    hint = RAISE.format(f"`version` of @corruption, or CORRUPTIONS where {name} is not alone")
    assert np.abs(found - golden).max() < 0.25, hint


def test_boxes() -> None:
    for name, found in make.inference().items():
        for one, golden in zip(found, GOLDEN["inference"][name], strict=True):
            assert len(one) == len(golden), RAISE.format("INFERENCE")
            assert np.abs(np.array(one) - golden).max() < 0.02, RAISE.format("INFERENCE")


def test_scores() -> None:
    found = make.scoring()
    assert found == pytest.approx(GOLDEN["scoring"], abs=1e-9), RAISE.format("SCORING")
