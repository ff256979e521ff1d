"""Both arms trained for an epoch on a dozen drawn images: equal starts and batches, sound files."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image as Pillow

from robustbench_sgdm.api import train
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import (
    DataError,
    RobustBenchError,
    TrainingFailedError,
    UnsafeFileError,
    UsageError,
)
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.detectors.ultralytics import adapter, weights, zoo
from robustbench_sgdm.store import read_logs
from robustbench_sgdm.training import (
    TrainedRun,
    TrainingData,
    TrainingProgress,
    comparison,
    initialization,
    make_bundled_weights,
    runner,
)
from robustbench_sgdm.training.comparison import read_comparison, run_name
from robustbench_sgdm.training.trainer import ReproducibleTraining
from tests.support.doc_pages import documented_columns

MODELS = ("yolov8n", "yolov8n-sgdm")
SMALL: dict[str, Any] = {"epochs": 1, "imgsz": 64, "batch": 4}


def drawn(root: Path, name: str, count: int) -> Dataset:
    """Noise with one bright rectangle an image, of two classes."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    images, annotations = [], []
    for number in range(1, count + 1):
        picture = rng.integers(0, 80, (96, 96, 3), np.uint8)
        picture[10:60, 10:50] = rng.integers(80, 255, 3)
        path = root / f"{name}-{number}.png"
        Pillow.fromarray(picture).save(path)
        images.append(Image(number, path, 96, 96))
        box = {"bbox": [10.0, 10.0, 40.0, 50.0], "area": 2000.0, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": 3 + number % 2, **box})
    return Dataset(name, name, images, [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}], annotations)


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    return TrainingData.of("drawn", drawn(tmp_path / "data", "train", 12), drawn(tmp_path / "data", "val", 4))


@dataclass
class Watched:
    """Two trained arms, the batches that each saw, what was reported, and what they were trained on."""

    runs: list[TrainedRun]
    batches: dict[str, list[tuple[tuple[str, ...], bytes]]]
    reports: list[TrainingProgress]
    data: TrainingData


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One run of both arms, for the tests that only look."""
    root = tmp_path_factory.mktemp("comparison")
    given = TrainingData.of("drawn", drawn(root / "data", "train", 12), drawn(root / "data", "val", 4))
    made = Watched([], {}, [], given)

    class Watch(ReproducibleTraining):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            seen = made.batches.setdefault(str(self.args.model), [])
            seen.append((tuple(batch["im_file"]), batch["img"].numpy().tobytes()))
            done: dict[str, Any] = super().preprocess_batch(batch)
            return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTBENCH_CACHE", str(root / "cache"))
        patch.setattr(runner, "ReproducibleTraining", Watch)
        made.runs = train(MODELS, data=given, project=root / "runs", report=made.reports.append, **SMALL)
        yield made


@pytest.mark.parametrize("arm", range(2))
def test_a_run_leaves_ultralytics_files_and_ours(watched: Watched, arm: int) -> None:
    folder = watched.runs[arm].folder
    assert folder.parts[-3:] == ("runs", "drawn", f"{MODELS[arm]}-seed0")
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {
        *("args.yaml", "results.csv", "weights/best.pt", "weights/last.pt"),
        *("best.safetensors", "best.md", "recipe.yaml", "health.csv", "result.json"),
    }
    beside = {file.name for file in folder.parent.iterdir() if file.is_file()}
    assert beside == {".lock", "data.yaml", "recipe.yaml", "runs.csv", "summary.csv"}


def test_every_column_of_a_training_is_in_the_reference(watched: Watched) -> None:
    folder = watched.runs[0].folder
    for name in ("runs.csv", "summary.csv"):
        assert documented_columns(name) == {"": set(pd.read_csv(folder.parent / name).columns)}
    health = [pd.read_csv(run.folder / "health.csv").columns for run in watched.runs]
    quantities = {column.partition("/")[0] for columns in health for column in columns}
    assert documented_columns("health.csv") == {"": quantities}


def test_nothing_is_written_beside_the_data(watched: Watched) -> None:
    folder = watched.data.train.images[0].path.parent
    assert {file.suffix for file in folder.iterdir()} == {".png"}


def test_both_arms_see_the_same_pixels_in_the_same_order(watched: Watched) -> None:
    baseline, grafted = watched.batches.values()
    assert len(baseline) == 3
    assert baseline == grafted


def test_arms_start_equal_wherever_they_share_a_tensor() -> None:
    baseline, grafted = (
        initialization.initialize_model(name, ["cat", "dog"], seed=5).model.state_dict() for name in MODELS
    )
    moved = {name.replace("model.22.", "model.25."): tensor for name, tensor in baseline.items()}
    assert all(torch.equal(grafted[name], tensor) for name, tensor in moved.items())
    assert {name.split(".")[1] for name in grafted.keys() - moved.keys()} == {"22", "23", "24"}


def test_a_seed_decides_the_start_and_leaves_the_callers_randomness_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (
        initialization.initialize_model(MODELS[1], ["cat"], seed).model.state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("arm", range(2))
def test_the_weights_are_read_and_detect(watched: Watched, arm: int) -> None:
    trained = watched.runs[arm]
    read = weights.read_weights(trained.weights)
    assert read.classes == ("cat", "dog")
    assert read.meta["model"] == MODELS[arm]
    assert read.meta["imgsz"] == "64"
    detector = adapter.load_detector(trained.weights, InferenceConfig(imgsz=64, conf=0.0))
    (found,) = detector.predict([torch.zeros(3, 96, 96, dtype=torch.uint8)])
    assert len(found) > 0


@pytest.mark.parametrize("arm", [0, 1])
@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoints_say_what_they_were_trained_with(watched: Watched, arm: int, name: str) -> None:
    folder = watched.runs[arm].folder
    path = folder / f"weights/{name}.pt"
    said = torch.load(path, weights_only=False)["train_args"]
    wanted = yaml.safe_load((folder / "args.yaml").read_text())
    assert said == wanted and weights.read_weights(path).imgsz == wanted["imgsz"] != 640


@pytest.mark.parametrize("arm", range(2))
def test_best_safetensors_holds_what_best_pt_holds(watched: Watched, arm: int) -> None:
    trained = watched.runs[arm]
    ours, theirs = (
        weights.read_weights(p).state for p in (trained.weights, trained.folder / "weights/best.pt")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("arm", range(2))
def test_the_card_and_the_recipe_tell_of_the_run(watched: Watched, arm: int) -> None:
    trained = watched.runs[arm]
    card = (trained.folder / "best.md").read_text()
    assert f"| AP | {trained.scores.metrics['AP']:.1f} |" in card
    assert weights.read_weights(trained.weights).sha256 in card
    recipe = yaml.safe_load((trained.folder / "recipe.yaml").read_text())
    assert recipe["model"] == MODELS[arm]
    assert recipe["data"]["training images"] == 12
    assert recipe["data"]["validation fingerprint"] == watched.data.val.fingerprint
    assert recipe["arguments"]["optimizer"] == "AdamW"
    assert str(trained.folder.parent) not in card + str(recipe)


def test_progress_counts_batches_and_estimates_what_is_left(watched: Watched) -> None:
    assert [(p.model, p.batch, p.map50_95 is not None) for p in watched.reports] == [
        (model, batch, scored) for model in MODELS for batch, scored in ((1, 0), (2, 0), (3, 0), (3, 1))
    ]
    assert [p.seconds_left > 0 for p in watched.reports] == [True, True, False, False] * 2


def test_a_run_is_installed_as_weights_card_log_and_recipe(watched: Watched, tmp_path: Path) -> None:
    for trained in watched.runs:
        make_bundled_weights.install_weights(
            replace(trained, health=("layer 22: odd",)), watched.data, tmp_path
        )
    suffixes = ("safetensors", "md", "csv")
    assert {f.name for f in tmp_path.iterdir()} == {
        "recipe.yaml",
        *(f"{model}.{suffix}" for model in MODELS for suffix in suffixes),
    }
    for trained in watched.runs:
        installed = weights.read_weights(tmp_path / f"{trained.model}.safetensors")
        assert installed.meta["imgsz"] == "320"
        assert weights.hash_tensors(installed.state) == weights.hash_tensors(
            weights.read_weights(trained.weights).state
        )
        card = (tmp_path / f"{trained.model}.md").read_text()
        assert "| metric | 320 px | 640 px |" in card
        assert "Health of the training: layer 22: odd." in card


@pytest.mark.parametrize(
    ("given", "decay"),
    [
        pytest.param({"recipe": "quick"}, 0.01 * 4, marks=pytest.mark.slow),  # its nbs is 1
        ({"recipe": "quick", "batch": 2, "arguments": {"nbs": 4}}, 0.01),
        (
            {
                "recipe": "ultralytics",
                "epochs": 2,
                "arguments": {"optimizer": "auto", "lr0": 0.3, "warmup_epochs": 3.0},
            },
            0.0005,
        ),
        (
            {
                "recipe": "ultralytics",
                "batch": 12,
                "arguments": {"optimizer": "SGD", "momentum": 0.8, "nbs": 16},
            },
            0.0005 * 12 / 16,
        ),
    ],
)
def test_what_takes_effect_is_recorded(
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    given: dict[str, Any],
    decay: float,
) -> None:
    """Against the optimiser as it is after its last step."""
    seen: list[Any] = []

    class Watch(ReproducibleTraining):
        def optimizer_step(self) -> None:
            super().optimizer_step()
            seen.append(self.optimizer)

    monkeypatch.setattr(runner, "ReproducibleTraining", Watch)
    options: dict[str, Any] = {"data": data, "project": tmp_path, "report": lambda _: None, **SMALL, **given}
    (trained,) = train(MODELS[:1], **options)
    recipe = yaml.safe_load((trained.folder / "recipe.yaml").read_text())
    effective, groups = recipe["effective"], seen[-1].param_groups
    weights_group = next(group for group in groups if group["param_group"] == "weight")
    assert effective["optimizer"] == type(seen[-1]).__name__
    assert effective["weight_decay"] == weights_group["weight_decay"] == pytest.approx(decay)
    assert effective["lr0"] == weights_group["initial_lr"]
    assert effective["momentum"] == weights_group.get("momentum", weights_group.get("betas", [None])[0])
    assert effective["batches per epoch"] == -(-12 // effective["batch"])
    health = pd.read_csv(trained.folder / "health.csv")
    assert health["steps"].sum() == len(seen)
    assert any("optimiser step" in line for line in trained.health)
    assert weights.read_weights(trained.weights).meta["effective"]
    arguments = given.get("arguments", {})
    is_auto = arguments.get("optimizer") == "auto"
    assert (effective["lr0"] != arguments.get("lr0", effective["lr0"])) == is_auto
    assert ("optimizer=auto" in caplog.text) == is_auto


def test_one_step_on_one_image_is_not_a_training(data: TrainingData, tmp_path: Path) -> None:
    (trained,) = train(MODELS[:1], data=data, project=tmp_path, report=lambda _: None, fraction=0.01, **SMALL)
    said = "; ".join(trained.health)
    for part in ("1 optimiser step, too few", "1 training image, fewer than a batch of 4", "AP is 0"):
        assert part in said
    assert said in (trained.folder / "best.md").read_text()
    assert said in pd.read_csv(trained.folder.parent / "runs.csv")["health"][0]


def test_a_validation_split_without_objects_is_said(data: TrainingData, tmp_path: Path) -> None:
    empty = replace(data, val=replace(data.val, annotations=[]))
    (trained,) = train(MODELS[:1], data=empty, project=tmp_path, report=lambda _: None, fraction=0.4, **SMALL)
    assert any("contain no object" in line for line in trained.health)
    assert trained.scores.metrics["AP"] is None


def test_a_second_start_says_where_the_unfinished_comparison_lies(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And one that was meant to be continued under a name that is not there begins, and says so."""

    class Killed(BaseException):
        pass

    class Dying(ReproducibleTraining):
        def optimizer_step(self) -> None:
            raise Killed

    options: dict[str, Any] = {
        "data": data,
        "project": tmp_path,
        "report": lambda _: None,
        "name": "s",
        **SMALL,
    }
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(runner, "ReproducibleTraining", Dying)
        train(MODELS, seeds=(0, 1), **options, fraction=0.4)
    with pytest.raises(DataError, match=r"4 of its 4 runs have no result.*--resume --name s"):
        read_comparison(tmp_path / "s")
    assert "unfinished" not in caplog.text
    (again,) = train(MODELS[:1], **options, fraction=0.4)
    told = caplog.text
    assert again.folder.parent == tmp_path / "s2" and read_comparison(tmp_path / "s2") == [again]
    assert (
        f"{tmp_path / 's'} is an unfinished comparison" in told
        and f"this one writes {tmp_path / 's2'}" in told
    )
    assert (
        "--resume --name s" in told
        and "yolov8n seed 0, yolov8n seed 1, yolov8n-sgdm seed 0 and 1 more" in told
    )


def test_resuming_what_is_not_there_is_said(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "_train_all", lambda *_: [])
    for told in (True, False):  # the first start leaves something to resume
        train(MODELS[:1], data=data, project=tmp_path, name="typo", resume=True, **SMALL)
        assert (f"{tmp_path / 'typo'} has no comparison to resume" in caplog.text) == told
        caplog.clear()


def losses(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results.csv").drop(columns="time")


def test_the_same_seed_gives_the_same_losses(watched: Watched, data: TrainingData, tmp_path: Path) -> None:
    """To every digit of results.csv (six) and every bit of the weights, on one thread of one machine."""
    again = train(MODELS[1:], data=data, project=tmp_path / "runs", report=lambda _: None, **SMALL)[0]
    first = watched.runs[1]
    pd.testing.assert_frame_equal(losses(first.folder), losses(again.folder), check_exact=True)
    one, two = (weights.hash_tensors(weights.read_weights(r.weights).state) for r in (first, again))
    assert one == two


@pytest.mark.slow
def test_bfloat16_on_the_cpu_and_a_share_of_the_images(data: TrainingData, tmp_path: Path) -> None:
    changed = {**SMALL, "classes": ["dog"], "fraction": 0.5, "arguments": {"amp": "bf16"}}
    (trained,) = train(MODELS[1:], data=data, project=tmp_path / "runs", report=lambda _: None, **changed)
    assert not torch.is_autocast_enabled("cpu")
    recipe = yaml.safe_load((trained.folder / "recipe.yaml").read_text())
    assert recipe["arguments"]["amp"] == "bf16"
    assert recipe["data"]["training images"] == 6
    read = weights.read_weights(trained.weights)
    assert read.classes == ("dog",)
    assert all(tensor.isfinite().all() for tensor in read.state.values())


def test_a_taken_folder_gets_a_number(tmp_path: Path) -> None:
    taken = [runner.free_folder(tmp_path, "a", exist_ok).name for exist_ok in (False, False, False, True)]
    assert taken == ["a", "a2", "a3", "a"]
    (tmp_path / "file").touch()
    with pytest.raises(RobustBenchError, match=r"cannot make .*give another --project"):
        runner.free_folder(tmp_path / "file", "a", False)
    (tmp_path / "unmounted").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RobustBenchError, match="give another --project"):
        runner.free_folder(tmp_path / "unmounted", "a", False)


def test_starts_at_once_get_a_folder_each(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def start(_: int) -> Path:
        together.wait()
        return runner.free_folder(tmp_path, "a", False)

    for number in range(1, 9):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(start, range(8)))
        assert len(list(tmp_path.iterdir())) == 8 * number


def test_a_comparison_is_worked_on_by_one_process(data: TrainingData, tmp_path: Path) -> None:
    """That a dead one holds nothing is shown where one is killed and resumed."""
    options: dict[str, Any] = {"data": data, "project": tmp_path, "name": "a", **SMALL, "fraction": 0.4}
    refused: list[str] = []

    def meanwhile(_: TrainingProgress) -> None:
        with pytest.raises(RobustBenchError) as error:
            train(MODELS[:1], exist_ok=True, **options)
        refused.append(str(error.value))

    (done,) = train(MODELS[:1], report=meanwhile, **options)
    assert refused and all(f"another process works on {tmp_path / 'a'}" in text for text in refused)
    assert done.weights.is_file()


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
@pytest.mark.parametrize(
    "name",
    ["yolov8n-seed0/health.csv", "yolov8n-seed0/args.yaml", "yolov8n-seed0/weights/.last.pt", "data.yaml"],
)
def test_links_do_not_lead_out_of_a_comparison(
    data: TrainingData, tmp_path: Path, name: str, kind: str
) -> None:
    """Ultralytics writes into its folder by path, so nothing of it may be there before."""
    outside = tmp_path / "outside.csv"
    outside.write_text("mine")
    path = tmp_path / "runs" / "a" / name
    path.parent.mkdir(parents=True)
    plant(path, kind, outside)
    with pytest.raises(UnsafeFileError, match=rf"{path.name} is a {kind}"):
        train(MODELS[:1], data=data, project=tmp_path / "runs", name="a", exist_ok=True, **SMALL)
    assert outside.read_text() == "mine"


def plant(path: Path, kind: str, outside: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(outside) if kind == "link" else path.hardlink_to(outside)


def test_links_are_not_read_in_a_comparison(watched: Watched, tmp_path: Path) -> None:
    """By anything that reads a finished one: its tables, its curves, a run of its detectors, `--resume`."""
    folder, other = watched.runs[0].folder.parent, tmp_path / "other"
    shutil.copytree(folder, other)
    before = {p: p.read_bytes() for p in other.rglob("*") if p.is_file()}
    refused = 0
    files = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    files = [
        p for p in files if len(p.parts) == 1 or p.parts[0] == watched.runs[0].folder.name
    ]  # of one training
    for number, file in enumerate(sorted(files)):
        copy = tmp_path / f"{number}"
        shutil.copytree(folder, copy)
        kind = ("link", "hard link", "pipe")[number % 3]
        (copy / file).unlink()
        plant(copy / file, kind, other / file)
        with pytest.raises(UnsafeFileError, match=f"is a {kind}"):
            train(MODELS, data=watched.data, project=tmp_path, name=copy.name, resume=True, **SMALL)
        readers: list[Callable[[], object]] = [
            lambda copy=copy: read_comparison(copy),  # type: ignore[misc]
            lambda copy=copy: comparison.write_tables(copy),  # type: ignore[misc]
            lambda copy=copy: read_logs([copy]),  # type: ignore[misc]
        ]
        for read in readers:
            try:
                read()
            except UnsafeFileError as error:
                assert f"is a {kind}" in str(error)
                refused += 1
    assert refused > 6 and before == {p: p.read_bytes() for p in other.rglob("*") if p.is_file()}


def test_a_model_yaml_starts_as_the_model_that_it_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(zoo.model_config("yolov8n-sgdm[razor=0.25]", 2)))
    named, own = (
        initialization.initialize_model(n, ["cat", "dog"], 5) for n in ("yolov8n-sgdm[razor=0.25]", str(path))
    )
    assert own.model.state_dict().keys() == named.model.state_dict().keys()
    assert run_name(own.name, 0).endswith("mine.yaml-seed0") and "/" not in run_name(own.name, 0)


def test_errors_come_before_any_work(data: TrainingData, tmp_path: Path) -> None:
    empty = replace(data, val=replace(data.val, images=[], annotations=[]))
    wild = [{**data.train.annotations[0], "bbox": [90.0, 0.0, 50.0, 10.0]}]
    outside = replace(data, train=replace(data.train, annotations=wild))
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UsageError, "no model to train", {"models": []}),
        (UsageError, "did you mean yolov8n", {"models": ["yolo8n"]}),
        (UsageError, "unknown recipe 'quik'; did you mean quick", {"recipe": "quik"}),
        (UsageError, "unknown training argument 'lr'; did you mean lr", {"arguments": {"lr": 1}}),
        (UsageError, "save cannot be given", {"arguments": {"save": False}}),
        (UsageError, "lr0=abc", {"arguments": {"lr0": "abc"}, "exist_ok": True}),
        (UsageError, "imgsz is 100", {"imgsz": 100}),
        (UsageError, "unknown class of train: 'kat'; did you mean cat", {"classes": ["kat"]}),
        (UsageError, r"fraction 0 is outside \(0, 1\]", {"fraction": 0}),
        (UsageError, "no data set 'scene'", {"data": "scene"}),
        (DataError, "val has no image", {"data": empty}),
        (DataError, "outside image 1", {"data": outside}),
    ]
    for kind, message, changed in cases:
        options = {"models": ["yolov8n"], "data": data, "project": tmp_path / "runs", **SMALL, **changed}
        with pytest.raises(kind, match=message):
            train(**options)
    assert not (tmp_path / "runs").exists()


def test_what_ultralytics_meets_only_in_training_fails_that_run(data: TrainingData, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": data, "project": tmp_path, **SMALL, "fraction": 0.4}
    with pytest.raises(TrainingFailedError, match="yolov8n-seed0: ZeroDivisionError: float division by zero"):
        train(MODELS[:1], arguments={"momentum": 1.0}, **options)  # Adam divides by 1 - momentum


def test_splits_with_different_classes_are_refused(data: TrainingData) -> None:
    odd = replace(data.val, categories=[{"id": 3, "name": "cat"}, {"id": 4, "name": "cow"}])
    with pytest.raises(UsageError, match="differ in classes: cow, dog"):
        TrainingData.of("odd", data.train, odd)


@pytest.mark.slow
def test_the_trainer_drives_the_temperature_of_dynamic_kernels(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linearly from 30 in the first epoch to 1 in the last of three, in the network and in its average."""
    seen: list[set[float]] = []

    class Watch(ReproducibleTraining):
        def optimizer_step(self) -> None:
            states = (self.model.state_dict(), self.ema.ema.state_dict())
            seen.append({float(v) for s in states for name, v in s.items() if name.endswith("temperature")})
            super().optimizer_step()

    monkeypatch.setattr(runner, "ReproducibleTraining", Watch)
    settings = {**SMALL, "epochs": 3, "batch": 12}  # a step an epoch
    (done,) = train(["yolov8n-sgdm+dyconv"], data=data, project=tmp_path, **settings)
    assert seen == [{30.0}, {15.5}, {1.0}]
    last = weights.read_weights(done.folder / "weights" / "last.pt").state
    assert [float(v) for name, v in last.items() if name.endswith("temperature")] == [1, 1, 1]
