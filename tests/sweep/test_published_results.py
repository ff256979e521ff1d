"""P, mPC and rPC of the robust-detection-benchmark's models come out of `score` as published."""

import csv
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import robustbench_sgdm as rb
from robustbench_sgdm import robustness
from robustbench_sgdm.core.constants import BENCHMARK
from robustbench_sgdm.robustness import CorruptionSet
from tests.conftest import write_coco

Row = dict[str, str]
# AP of `faster_rcnn_r50_coco` over severities, in the order of BENCHMARK; of the other models only mPC is known.
MEANS = [
    17.06,
    17.02,
    13.88,
    17.44,
    10.95,
    15.81,
    7.59,
    17.46,
    21.87,
    30.36,
    32.17,
    22.59,
    20.77,
    13.45,
    14.65,
]
NESTED = {
    "AP": ["AP"],
    "AP50": ["AP", "AP50"],
    "AP_S": ["AP", "APs"],
}  # mmdetection's names; AP must be there


def rows() -> list[Row]:
    text = (Path(__file__).parents[1] / "data/mmdetection_robustness.csv").read_text("utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def name(row: Row) -> str:
    return "_".join(row[part] for part in ("data", "model", "scored", "metric"))


def rounding(text: str) -> float:
    """Half of a printed number's last digit."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def unrounded(row: Row) -> tuple[float, float]:
    """P and mPC that print as they do in a row, and so does their ratio: printed digits alone may give another one."""
    clean, mean, ratio = (row[part] for part in ("P", "mPC", "rPC"))
    for offset in (0.0, 0.45, -0.45, 0.9, -0.9):
        p, m = float(clean) + offset * rounding(clean), float(mean)
        if not ratio:
            return p, m
        reach = 0.9 * rounding(mean)
        m = min(max(p * float(ratio) / 100, m - reach), m + reach)
        if abs(100 * m / p - float(ratio)) < 0.9 * rounding(ratio):
            return p, m
    raise AssertionError(f"no P and mPC print as {row}")


def scores(row: Row) -> tuple[float, NDArray[Any]]:
    """P, and scores under corruption, (15, severities), whose mean is the row's mPC.

    The means over severities are the published ones where they are known. Else the scores are chosen, one for each
    corruption: what is tested is aggregation and rounding, not the raw results.
    """
    clean, mean = unrounded(row)
    if name(row) == "coco_faster_rcnn_r50_coco_boxes_AP":
        return clean, np.outer(MEANS, np.linspace(1.5, 0.5, 5))
    return clean, mean * np.linspace(0.5, 1.5, len(BENCHMARK))[:, None]


def nested(row: Row) -> dict[str, Any]:
    """The results as mmdetection's `test_robustness.py` pickles them: fractions, the clean ones with each corruption."""
    clean, under = scores(row)
    return {
        corruption: {
            severity: {"bbox": dict.fromkeys(NESTED[row["metric"]], np.float64(value / 100))}
            for severity, value in enumerate([clean, *values])
        }
        for corruption, values in zip(BENCHMARK, under.tolist(), strict=True)
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Any data set: scores are not compared with it."""
    return write_coco(tmp_path_factory.mktemp("published"), [np.zeros((96, 96, 3), np.uint8)])


@pytest.mark.parametrize("row", rows(), ids=name)
def test_it_comes_out_as_published(tmp_path: Path, data: Path, row: Row) -> None:
    """To the digits of the raw results, and to those of the published table but for its misprints."""
    content = nested(row)
    (tmp_path / "results.pkl").write_bytes(pickle.dumps(content, 2))
    run = rb.score(str(tmp_path / "results.pkl"), model="m", data=data, project=tmp_path, name="r")
    over = CorruptionSet.from_product([*content], [s for s in content["fog"] if s])
    (found,) = robustness.summary(run.directory, sets=[over], metrics=[row["metric"]]).to_dict("records")
    misprints = []
    for part in ("P", "mPC", "rPC"):
        if text := row[part]:
            assert f"{found[part]:.{len(text.partition('.')[2])}f}" == text, part
        # The raw results are known to two digits, so that 40.15 may have been rounded to 40.1.
        if (text := row[f"published_{part}"]) and abs(found[part] - float(text)) > rounding(text) + 0.005:
            misprints.append(part)
    assert misprints == row["misprint"].split()
