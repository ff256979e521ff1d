"""The weights in the package are what their cards say: the file, one recipe and seed for both, the scores."""

import json
import re
from pathlib import Path

import pytest
import yaml

from robustbench_sgdm import datasets
from robustbench_sgdm.detectors import bundled_weights
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.training.evaluate import evaluate_weights

NAMES = ("yolov8n", "yolov8n-sgdm")
each = pytest.mark.parametrize("name", NAMES)


def file(name: str) -> Path:
    path = bundled_weights(name)
    assert path is not None
    return path


@each
def test_the_card_is_of_this_file(name: str) -> None:
    path = file(name)
    found, card = weights.read_weights(path), path.with_suffix(".md").read_text("utf-8")
    assert f"File sha256 `{found.sha256}`" in card and f"Licence {found.meta['licence']}" in card
    assert found.config["yaml_file"] == f"{name}.yaml" and len(found.classes) >= 8
    assert path.stat().st_size == pytest.approx(6e6, rel=0.1)


def test_both_were_trained_alike() -> None:
    one, other = (weights.read_weights(file(name)).meta for name in NAMES)
    stated = yaml.safe_load(file(NAMES[0]).with_name("recipe.yaml").read_text("utf-8"))
    for key in ("data", "arguments", "versions"):
        assert json.loads(one[key]) == json.loads(other[key]) == stated[key]
    assert one["recipe"] == other["recipe"] == stated["recipe"]
    starts = [re.sub("; grafted: .*", "", meta["start"]) for meta in (one, other)]
    assert starts[0] == starts[1] and "seed 0" in starts[0]


@each
@pytest.mark.slow
def test_the_cards_scores_are_theirs(name: str) -> None:
    """Within 0.3: other versions of OpenCV and torch move a pixel or a box by a rounding."""
    scores = evaluate_weights(
        file(name), datasets.load_dataset("scenes"), imgsz=320, batch=8, device="cpu"
    ).metrics
    card = file(name).with_suffix(".md").read_text("utf-8")
    stated = {metric: float(value) for metric, value in re.findall(r"^\| (A[PR]\w*) \| ([\d.]+)", card, re.M)}
    assert stated.keys() == scores.keys()
    assert {metric: scores[metric] for metric in stated} == pytest.approx(stated, abs=0.3)
    assert 50 < stated["AP"] < 80
