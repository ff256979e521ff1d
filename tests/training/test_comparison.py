"""Mean and spread over seeds, against their definitions; equal starts; what is logged where."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import ultralytics.cfg
import yaml
from ultralytics.utils import SETTINGS

from robustbench_sgdm import datasets, tables
from robustbench_sgdm.api import train
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError, UnsafeFileError, UsageError
from robustbench_sgdm.datasets import coco
from robustbench_sgdm.detectors.ultralytics import adapter, weights
from robustbench_sgdm.modules import MODULES
from robustbench_sgdm.scoring import Scores
from robustbench_sgdm.training import (
    TrainedRun,
    TrainingData,
    initialization,
    load_training_data,
    make_scenes_data,
    runs_table,
    summarize_runs,
)
from robustbench_sgdm.training import data as data_module
from robustbench_sgdm.training.comparison import (
    check_names,
    check_resumable,
    read_comparison,
    read_plan,
    run_name,
    write_recipe,
    write_tables,
)
from robustbench_sgdm.training.evaluate import evaluate_weights
from robustbench_sgdm.training.trainer import make_callbacks


def run_of(
    model: str, seed: int, ap: float, small: float | None = None, ill: tuple[str, ...] = ()
) -> TrainedRun:
    metrics = {metric: small if metric == "AP_S" else ap for metric in METRICS}
    return TrainedRun(model, seed, Path(model), Scores(metrics, {}), 1, 1.0, 8, ill)


def row(table: pd.DataFrame, model: str, metric: str = "AP") -> Any:
    (found,) = table[(table["model"] == model) & (table["metric"] == metric)].to_dict("records")
    return found


def test_mean_sd_range_and_paired_difference() -> None:
    runs = [run_of("yolov8n", seed, ap) for seed, ap in enumerate((40.0, 42.0, 47.0))]
    runs += [run_of("yolov8n-sgdm", seed, ap) for seed, ap in ((0, 41.0), (2, 46.0))]
    table = summarize_runs(runs_table(runs))
    base, grafted = row(table, "yolov8n"), row(table, "yolov8n-sgdm")
    assert (base["seeds"], base["mean"], base["low"], base["high"]) == (3, 43.0, 40.0, 47.0)
    assert base["sd"] == pytest.approx(13**0.5)  # (9 + 1 + 16) / 2
    assert grafted["baseline"] == "yolov8n"
    assert (grafted["difference"], grafted["difference_sd"]) == (0.0, pytest.approx(2**0.5))  # +1 and -1
    assert pd.isna(base["difference"])


def test_what_is_absent_is_not_averaged_and_one_seed_has_no_spread() -> None:
    table = summarize_runs(
        runs_table([run_of("yolov8n", 0, 40.0), run_of("yolov8n-sgdm", 0, 41.0, small=3.0)])
    )
    assert row(table, "yolov8n", "AP_S")["seeds"] == 0
    assert pd.isna(row(table, "yolov8n-sgdm", "AP_S")["difference"])
    assert table["sd"].isna().all()


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    done = replace(run_of("yolov8n", 1, 40.0, ill=("NaN",)), folder=tmp_path)
    done.write()
    assert TrainedRun.read(tmp_path) == done
    assert TrainedRun.read(tmp_path / "none") is None


@pytest.mark.parametrize(
    "damage",
    [
        {"metrics": {"AP50": 1.0}},
        {"metrics": {**dict.fromkeys(METRICS, 1.0), "AP": "high"}},
        {"per_class": None},
        {"seed": "0"},
        {"health": [1]},
        {"batch": None},
    ],
)
def test_a_damaged_result_is_named(tmp_path: Path, damage: dict[str, Any]) -> None:
    replace(run_of("yolov8n", 0, 40.0), folder=tmp_path).write()
    path = tmp_path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(DataError, match=rf"{path.name} .*(delete|remove) it"):
        TrainedRun.read(tmp_path)


@pytest.mark.parametrize("text", ["[1]", "versions: 1", "{", "!!python/object:os.system x"])
def test_a_damaged_recipe_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(DataError, match=r"recipe\.yaml"):
        check_resumable(tmp_path, {"versions": {}})


def test_the_table_shows_spread_difference_and_what_went_wrong() -> None:
    runs = runs_table(
        [
            run_of("yolov8n", 0, 40.0),
            run_of("yolov8n", 1, 42.0),
            run_of("yolov8n-sgdm", 1, 42.5, ill=("NaN",)),
        ]
    )
    shown = tables.training_table(summarize_runs(runs), runs, ["AP"])
    assert shown.rows == [["yolov8n", "2", "41.00 ± 1.41", "–"], ["yolov8n-sgdm", "1", "42.50", "+0.50"]]
    assert "yolov8n-sgdm seed 1: NaN" in shown.notes


def test_a_grafted_arm_at_epoch_0_scores_exactly_what_its_baseline_does(
    tmp_path: Path, coco_json: Path, coco_weights: Path
) -> None:
    val = coco.load_coco(coco_json).subset(0.06)
    begin = weights.read_weights(coco_weights)
    found = []
    for name in ("yolov8n", "yolov8n-sgdm"):
        arm = initialization.initialize_model(name, begin.classes, 0, begin)
        path = tmp_path / f"{name}.safetensors"
        weights.write_weights(path, arm.model.state_dict(), arm.config, begin.classes)
        found.append(evaluate_weights(path, val, imgsz=320, batch=8))
    assert found[0] == found[1]
    assert found[0].metrics["AP"] > 20  # type: ignore[operator]


def test_a_grafted_arm_at_epoch_0_detects_exactly_what_its_baseline_does(tmp_path: Path) -> None:
    """Without data at hand: random weights that BatchNorm and the head turn into thousands of boxes."""
    base = initialization.initialize_model("yolov8n", ["cat", "dog"], 0)
    start = tmp_path / "start.safetensors"
    weights.write_weights(start, base.model.state_dict(), base.config, ["cat", "dog"], half=False)
    begin = weights.read_weights(start)
    picture = torch.randint(
        0, 256, (3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    boxes = []
    for name in ("yolov8n", "yolov8n-sgdm"):
        arm = initialization.initialize_model(name, ["cat", "dog"], 1, begin)
        path = tmp_path / f"{name}.safetensors"
        weights.write_weights(path, arm.model.state_dict(), arm.config, ["cat", "dog"], half=False)
        (found,) = adapter.load_detector(path, InferenceConfig(imgsz=96, conf=0.0)).predict([picture])
        boxes.append(found)
    assert len(boxes[0]) > 50
    assert all(
        (getattr(boxes[0], part) == getattr(boxes[1], part)).all() for part in ("xyxy", "scores", "labels")
    )


@pytest.mark.parametrize("module", MODULES)
def test_every_module_starts_from_weights(tmp_path: Path, module: str) -> None:
    """As its baseline's function where it can; else from the tensors that both have, which is said."""
    base = initialization.initialize_model("yolov8n", ["cat"], 0)
    start = tmp_path / "w.safetensors"
    weights.write_weights(start, base.model.state_dict(), base.config, ["cat"], half=False)
    begin = weights.read_weights(start)
    baseline, arm = (
        initialization.initialize_model(name, ["cat"], 1, begin) for name in ("yolov8n", f"yolov8n-{module}")
    )
    held = arm.model.state_dict()
    moved = {
        key.replace("model.22.", "model.25."): tensor for key, tensor in baseline.model.state_dict().items()
    }
    assert all(torch.equal(held[key], tensor) for key, tensor in moved.items())
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = torch.equal(arm.model.eval()(picture)[0], baseline.model.eval()(picture)[0])
    assert same == MODULES[module].can_start_as_identity
    assert ("cannot start as the identity" in arm.note) != same
    assert ("at its own initial values" in arm.start) != same


@pytest.mark.parametrize("classes", [1, 200])
@pytest.mark.parametrize("name", ["yolov8n", "yolov6n", "yolo11n", "yolov10n", "yolo26n"])
def test_weights_for_other_classes_start_all_but_the_classifier(
    tmp_path: Path, name: str, classes: int
) -> None:
    """Widths of a head go by the number of classes; those of YOLO11's classifier inside too."""
    base = initialization.initialize_model(name, [str(number) for number in range(80)], 0)
    start = tmp_path / "w.safetensors"
    weights.write_weights(
        start, base.model.state_dict(), base.config, [str(n) for n in range(80)], half=False
    )
    begin = weights.read_weights(start)
    for model in (name, f"{name}-sgdm", f"{name}-cbam"):
        arm = initialization.initialize_model(
            model, [f"class {number}" for number in range(classes)], 1, begin
        )
        held = arm.model.state_dict()
        assert torch.equal(held["model.0.conv.weight"], begin.state["model.0.conv.weight"])
        assert arm.model.names == {number: f"class {number}" for number in range(classes)}


def test_seeds_and_noise_are_recorded(
    tmp_path: Path, boxes: Callable[[Path], TrainingData], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(tmp_path / "cache"))
    settings: dict[str, Any] = {
        "epochs": 1,
        "imgsz": 64,
        "batch": 4,
        "fraction": 0.4,
        "report": lambda _: None,
    }
    noise = ["gaussian_noise"]
    runs = train(
        ["yolov8n"], data=boxes(tmp_path / "data"), seeds=(3, 4), noise=noise, project=tmp_path, **settings
    )
    assert [run.folder.name for run in runs] == ["yolov8n-seed3", "yolov8n-seed4"]
    table = pd.read_csv(runs[0].folder.parent / "summary.csv")
    assert set(table["model"]) == {"yolov8n"} and table["seeds"].max() == 2
    assert "gaussian_noise" in (runs[0].folder / "recipe.yaml").read_text()
    assert "gaussian_noise" in (runs[0].folder.parent / "recipe.yaml").read_text()
    first, second = (pd.read_csv(run.folder / "results.csv")["train/box_loss"][0] for run in runs)
    assert first != second


def test_ultralytics_yaml_by_name_is_looked_for_where_ultralytics_puts_its_data(
    tmp_path: Path, boxes: Callable[[Path], TrainingData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A miniature in VOC's layout stands in for its 2.8 GB."""
    data = boxes(tmp_path / "boxes")
    root = tmp_path / "datasets" / "VOC"
    for split, source in (("train2012", data.train), ("test2007", data.val)):
        for part in ("images", "labels"):
            (root / part / split).mkdir(parents=True)
        for image in source.images:
            (root / "images" / split / image.path.name).write_bytes(image.path.read_bytes())
            (root / "labels" / split / f"{image.path.stem}.txt").write_text("14 0.5 0.5 0.2 0.2\n")
    for split in ("train2007", "val2012", "val2007"):
        (root / "images" / split).mkdir()
    monkeypatch.setitem(SETTINGS, "datasets_dir", str(tmp_path / "datasets"))
    found = load_training_data("VOC.yaml")
    assert (len(found.train), len(found.val), len(found.train.classes)) == (10, 3, 20)
    assert found.train.classes[14] == "person"
    assert (Path(ultralytics.cfg.__file__).parent / "datasets" / "coco.yaml").is_file()
    with pytest.raises(DataError, match="download the data first"):
        load_training_data("coco.yaml")


def test_a_json_needs_its_validation_split(coco_of: Callable[..., Path], tmp_path: Path) -> None:
    path = coco_of(tmp_path / "tiny", [np.zeros((96, 96, 3), np.uint8)])
    with pytest.raises(UsageError, match="give the validation split with --val"):
        load_training_data(str(path))
    assert len(load_training_data(str(path), str(path)).val) == 1


def test_what_was_skipped_while_reading_is_said(
    tmp_path: Path, boxes: Callable[[Path], TrainingData], caplog: pytest.LogCaptureFixture
) -> None:
    for image in boxes(tmp_path / "boxes").train.images:
        label = tmp_path / "boxes/train" / f"{image.path.stem}.txt"
        label.write_text("0 0.5 0.5 0.2 0.2\n" if image.id > 1 else "7 0.5 0.5 0.2 0.2\n")
    (tmp_path / "boxes/data.yaml").write_text("train: train\nval: train\nnames: [box]\n")
    with pytest.raises(UsageError, match="unknown class"):
        train(["yolov8n"], data=str(tmp_path / "boxes/data.yaml"), classes=["none"])
    assert caplog.text.count("1 of 10 images skipped") == 2


def test_a_value_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    for val in (None, "none.json"):
        with pytest.raises(UsageError, match="lr0=abc"):
            train(["yolov8n"], data=str(tmp_path / "no.json"), val=val, arguments={"lr0": "abc"})


def test_scenes_with_another_validation_split_trains_on_its_training_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(tmp_path))
    for module in (data_module, import_module("robustbench_sgdm.datasets.sources.scenes")):
        monkeypatch.setattr(module, "SCENES_VAL", 3)
    monkeypatch.setattr(data_module, "SCENES_TRAIN", 4)
    found = load_training_data("scenes", "scenes")
    own = make_scenes_data(4)
    assert found.train.fingerprint == own.train.fingerprint != found.val.fingerprint
    assert found.metadata.items() >= own.metadata.items()
    assert found.val.fingerprint == own.val.fingerprint == datasets.load_dataset("scenes").fingerprint
    assert str(tmp_path) not in str(found.metadata)


def test_unknown_classes_and_boxes_outside_are_named(
    tmp_path: Path, boxes: Callable[[Path], TrainingData]
) -> None:
    data = boxes(tmp_path)
    folder = tmp_path / "yolo"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    image = data.train.images[0].path
    (folder / "images" / image.name).write_bytes(image.read_bytes())
    yaml = folder / "data.yaml"
    yaml.write_text("train: images\nval: images\nnames: [box]\n")
    for row, message in (
        ("3 0.5 0.5 0.2 0.2", "a class is above 0"),
        ("0 1.5 0.5 0.2 0.2", "a coordinate is above 1"),
    ):
        (folder / "labels" / f"{image.stem}.txt").write_text(row + "\n")
        with pytest.raises(DataError, match=message):
            load_training_data(str(yaml))


def test_loggers_are_attached_when_asked_for() -> None:
    seen: list[str] = []
    found = make_callbacks([], [{"on_train_start": lambda _: seen.append("ours")}])
    found["on_train_start"][-1](None)
    assert seen == ["ours"]
    with pytest.raises(UsageError, match="unknown logger 'wandbb'; did you mean wandb"):
        make_callbacks(["wandbb"], [])
    with pytest.raises(UsageError, match="logger clearml needs its package: pip install clearml"):
        make_callbacks(["clearml"], [])  # Ultralytics keeps its loggers out of tests, installed or not


def test_a_gpu_that_is_not_there(tmp_path: Path, boxes: Callable[[Path], TrainingData]) -> None:
    data = TrainingData.of("x", boxes(tmp_path).train, boxes(tmp_path).val)
    for device in ("cuda:99", "98,99", "cpu,99"):
        with pytest.raises(UsageError, match="cannot be used here"):
            train(["yolov8n"], data=data, device=device, project=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


SHARED: dict[str, Any] = {
    "init": "none: from scratch",
    "data": {"name": "boxes", "classes": ["box"]},
    "recipe": "quick",
    "arguments": {"epochs": 1},
    "versions": {"torch": "2"},
}


def finished(folder: Path, model: str, seed: int, ap: float, **changed: Any) -> TrainedRun:
    """A run as training leaves it, as far as a comparison reads it."""
    made = replace(run_of(model, seed, ap), folder=folder / run_name(model, seed))
    made.folder.mkdir(parents=True)
    made.write()
    made.weights.touch()
    arguments = {**SHARED["arguments"], "seed": seed, "device": f"cuda:{seed}"}
    record = {"model": model, "start": f"seed {seed}", **SHARED, "arguments": arguments, **changed}
    (made.folder / "recipe.yaml").write_text(yaml.safe_dump(record))
    return made


OPTION = "yolov8n-sgdm[razor=0.25]"


def test_a_comparison_is_read_in_the_order_in_which_it_was_planned(tmp_path: Path) -> None:
    write_recipe(tmp_path, SHARED, [(model, seed) for seed in (1, 0) for model in ("yolov8n", OPTION)])
    made = [finished(tmp_path, m, s, 40.0 + s) for m in ("yolov8n", OPTION) for s in (1, 0)]
    assert read_comparison(tmp_path) == made
    assert not write_tables(tmp_path)
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 4


def test_what_an_unfinished_comparison_lacks_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_recipe(folder, SHARED, [(model, seed) for seed in (0, 1) for model in ("yolov8n", OPTION)])
    finished(folder, "yolov8n", 0, 40.0)
    done = finished(folder, OPTION, 0, 40.0)
    with pytest.raises(DataError) as error:
        read_comparison(folder)
    for part in ("2 of its 4 runs", "yolov8n seed 1", f"{OPTION} seed 1", "--resume --name mine"):
        assert part in str(error.value)
    assert "seed 0" not in str(error.value)
    for seed in (1,):
        for model in ("yolov8n", OPTION):
            finished(folder, model, seed, 40.0)
    done.weights.unlink()
    with pytest.raises(DataError, match=r"best\.safetensors is missing: remove result\.json"):
        read_comparison(folder)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "[1]",
        "versions: 1",
        "runs: [a]",
        "runs: {a: 1}",
        "runs: {}",
        "runs: {a: [x]}",
        "runs: {1: [0]}",
        "runs: {a: [true]}",
        "runs: {a: [0x" + "f" * 5000 + "]}",
        "model: [" + "a" * 5000 + "]\nseeds: [0]",
        "model: [[a]]\nseeds: [0]",
        "model: [a]\nseeds: 0",
        "{",
        "!!python/object:os.system x",
    ],
)
def test_a_folder_that_is_no_comparison_is_refused_in_one_line(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(DataError) as error:
        read_comparison(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_run_given_in_place_of_its_comparison_is_recognised(tmp_path: Path) -> None:
    made = finished(tmp_path, "yolov8n", 0, 40.0)
    with pytest.raises(DataError, match=f"one run of a comparison; give the comparison's folder, {tmp_path}"):
        read_comparison(made.folder)


def test_results_under_another_runs_name_and_links_outside_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_recipe(folder, SHARED, [("yolov8n", 0)])
    made = finished(folder, "yolov8n", 0, 40.0)
    replace(made, seed=7).write()
    with pytest.raises(DataError, match="is of 'yolov8n' seed 7, not of yolov8n seed 0"):
        read_comparison(folder)
    made.write()
    (made.weights).unlink()
    (tmp_path / "other").touch()
    made.weights.symlink_to(tmp_path / "other")
    with pytest.raises(UnsafeFileError, match=r"best.safetensors is a link"):
        read_comparison(folder)


def test_a_plan_grows_with_the_same_comparison_and_is_replaced_by_another(tmp_path: Path) -> None:
    write_recipe(tmp_path, SHARED, [("yolov8n", 0), ("yolov8n", 1)])
    write_recipe(tmp_path, {**SHARED, "arguments": {"epochs": 1, "device": "cuda:1"}}, [(OPTION, 0)])
    assert read_plan(tmp_path) == [("yolov8n", 0), ("yolov8n", 1), (OPTION, 0)]
    check_resumable(tmp_path, {**SHARED, "arguments": {"epochs": 1, "device": "cuda:2"}})
    other = {**SHARED, "recipe": "paper"}
    with pytest.raises(UsageError, match=r"started with other options \(.*recipe quick, now paper"):
        check_resumable(tmp_path, other)
    write_recipe(tmp_path, other, [(OPTION, 1)])
    assert read_plan(tmp_path) == [(OPTION, 1)]


def test_runs_of_another_recipe_in_the_folder_are_no_part_of_the_comparison(tmp_path: Path) -> None:
    write_recipe(tmp_path, SHARED, [("yolov8n", 0), (OPTION, 0)])
    finished(tmp_path, "yolov8n", 0, 40.0)
    finished(tmp_path, OPTION, 0, 41.0)
    finished(tmp_path, "yolov8n", 1, 90.0, recipe="paper")
    assert write_tables(tmp_path) == ["yolov8n-seed1"]
    assert row(pd.read_csv(tmp_path / "summary.csv"), "yolov8n")["mean"] == 40.0
    assert [(run.model, run.seed) for run in read_comparison(tmp_path)] == [("yolov8n", 0), (OPTION, 0)]


def test_models_that_would_share_a_folder_are_refused() -> None:
    check_names(["yolov8n", "yolov8n-sgdm[razor=0.25]", "yolov8n-sgdm[razor=0.5]"])
    with pytest.raises(UsageError, match=r"a/m\.yaml and a_m\.yaml would share a folder"):
        check_names(["a/m.yaml", "a_m.yaml"])
