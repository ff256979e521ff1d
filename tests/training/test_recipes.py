"""Recipes: table 1 of the paper for each family, and everything overridable."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.training.recipes import RECIPES, recipe

# Table 1 of the SGDM paper: epochs 300, SGD 1e-2, momentum 0.937, "LR decay" 5e-4, 640 px; batch and close-mosaic.
TABLE_1 = {
    "yolov5n": (72, 0),
    "yolov5s": (48, 0),
    "yolov6n": (128, 10),
    "yolov6s": (72, 10),
    "yolov8n": (48, 10),
    "yolov8s": (36, 10),
}


@pytest.mark.parametrize("detector", TABLE_1)
def test_paper_is_table_1(detector: str) -> None:
    batch, close_mosaic = TABLE_1[detector]
    expected = {"epochs": 300, "optimizer": "SGD", "lr0": 0.01, "momentum": 0.937, "weight_decay": 0.0005}
    expected |= {"imgsz": 640, "batch": batch, "close_mosaic": close_mosaic}
    for models in ([detector], [detector, f"{detector}-sgdm", f"{detector}-cbam"]):
        found = recipe("paper", models, {})
        assert {key: found[key] for key in expected} == expected
        assert recipe(f"paper-{detector[:-1]}", models, {}) == found


def test_the_paper_recipe_is_what_the_transcription_says() -> None:
    path = Path(__file__).resolve().parents[3] / "shared" / "references" / "paper_tables.yaml"
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    table: dict[str, Any] = yaml.safe_load(path.read_text())["table_1_recipes"]
    for family in ("yolov5", "yolov6", "yolov8"):
        row = table[family]
        for scale, batch in row["batch"].items():
            found = recipe("paper", [family + scale], {})
            assert (found["batch"], found["epochs"], found["imgsz"]) == (batch, row["epochs"], row["imgsz"])
            assert (found["lr0"], found["weight_decay"]) == (row["lr"], row["lr_decay"])
            assert (found["momentum"], found["close_mosaic"]) == (row["momentum"], row["close_mosaic"] or 0)


def test_overrides_win_and_none_overrides_nothing() -> None:
    found = recipe("paper", ["yolov8n"], {"lr0": 0.02, "epochs": None, "batch": 4, "mixup": 0.1})
    assert (found["lr0"], found["epochs"], found["batch"], found["mixup"]) == (0.02, 300, 4, 0.1)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_how_long_how_large_how_many_and_is_quiet(name: str) -> None:
    models = [name.removeprefix("paper-") + "n" if name.startswith("paper-") else "yolov8n"]
    found = recipe(name, models, {})
    assert {"epochs", "imgsz", "batch"} <= found.keys()
    assert (found["pretrained"], found["plots"], found["deterministic"]) == (False, False, True)


@pytest.mark.parametrize(
    ("name", "models", "message"),
    [
        ("paper-yolov5", ["yolov8n"], "paper-yolov5 is not a recipe for yolov8n: use paper-yolov8"),
        ("paper", ["yolov8n", "yolov8s-sgdm"], "yolov8n and yolov8s are two"),
        ("paper", ["yolo11n"], "no recipe for yolo11n"),
        ("papr", ["yolov8n"], "did you mean paper"),
        ("paper-yolov9", ["yolov8n"], "unknown recipe 'paper-yolov9'"),
    ],
)
def test_a_recipe_for_another_family_is_refused(name: str, models: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe(name, models, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr0": "abc"}, "lr0=abc.* is of invalid type str"),
        ({"lr0": -1}, "lr0=-1.* between 0.0 and 1.0"),
        ({"mosaic": 7}, "mosaic=7.* between 0.0 and 1.0"),
        ({"nbs": 0}, "nbs.* must be >= 1"),
        ({"epochs": 0}, "epochs.* must be >= 1"),
        ({"optimizer": "Adamm"}, "Optimizer 'Adamm' not found in list of available optimizers"),
        ({"amp": "fp8"}, "amp=fp8.* is invalid"),
        ({"batch": 0}, "batch is 0; give a whole number from 1"),
        ({"batch": 0.5}, "batch is 0.5; give a whole number from 1"),
        ({"workers": -1}, "workers is -1; give a whole number from 0"),
        ({"box": -3}, "box is -3; give a finite number from 0"),
        ({"warmup_epochs": -1.0}, "warmup_epochs is -1.0; give"),
        ({"cls": float("inf")}, "cls is inf; give"),
        ({"freeze": "abc"}, "freeze is 'abc'; give how many layers"),
        ({"freeze": [1, -1]}, r"freeze is \[1, -1\]; give"),
        ({"distill_model": "teacher.pt"}, "distill_model cannot be given"),
    ],
)
def test_a_value_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe("quick", ["yolov8n"], given)


def test_values_at_the_edge_are_taken() -> None:
    found = recipe("quick", ["yolov8n"], {"save_period": -1, "box": 0, "freeze": [0, 2], "patience": 0})
    assert (found["save_period"], found["freeze"]) == (-1, [0, 2])
    assert recipe("quick", ["yolov8n"], {"freeze": 10})["freeze"] == 10


@pytest.mark.parametrize("optimizer", ["SGD", "adamw", "MuSGD", "auto", "RMSProp"])
def test_ultralytics_optimizers_are_taken_as_it_takes_them(optimizer: str) -> None:
    assert recipe("ultralytics", ["yolov8n"], {"optimizer": optimizer})["optimizer"] == optimizer
