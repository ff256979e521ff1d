"""Loss curves: what is drawn is what the logs hold, whoever wrote them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from robustbench_sgdm import cli, figures
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.store import logs_without_record, read_logs

WEIGHTS = Path(__file__).parents[2] / "robustbench_sgdm/weights"


def log(folder: Path, losses: list[float], padded: bool = False) -> Path:
    """A results.csv as Ultralytics writes it; its older versions padded the columns."""
    names = [
        "epoch",
        *(f"{split}/{part}_loss" for split in ("train", "val") for part in ("box", "cls", "dfl")),
    ]
    head = ",".join(f"{name:>23}" if padded else name for name in names)
    rows = [",".join(map(str, [i + 1, *[loss] * 6])) for i, loss in enumerate(losses)]
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder


RECIPE: dict[str, Any] = {
    "model": "yolov8n",
    "start": "yolov8n initialised with seed 0, then base.pt (sha256 ab): 355 tensors loaded",
    "init": "base.pt (sha256 ab)",
    "data": {"name": "scenes", "training images": 8, "classes": ["a", "b"]},
    "recipe": "quick",
    "arguments": {"epochs": 3, "lr0": 0.01, "seed": 0, "device": "cpu"},
    "versions": {"torch": "2.6"},
}


def recorded(folder: Path, losses: list[float], seed: int = 0, **changed: Any) -> Path:
    """A run of ours, as the record beside it says."""
    content = {**RECIPE, "start": RECIPE["start"].replace("seed 0", f"seed {seed}")}
    for key, value in {"seed": seed, "device": f"cuda:{seed}", **changed}.items():
        place = content if key in content else content["arguments"] if key != "data_name" else content["data"]
        place |= {"name" if key == "data_name" else key: value}
        content = {**content, "arguments": {**content["arguments"]}, "data": {**content["data"]}}
    log(folder, losses)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder


def lines(paths: list[Path]) -> dict[str, list[float]]:
    figure = figures.draw_loss_curves(read_logs(paths), smooth=0)
    drawn = figure.axes[0].lines
    named = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in drawn}
    return {name: values for name, values in named.items() if not name.startswith("_")}


def test_a_line_per_model_and_a_band_for_its_seeds(tmp_path: Path) -> None:
    for seed, shift in enumerate((0.0, 1.0)):
        recorded(tmp_path / f"a-seed{seed}", [3 + shift, 2 + shift, 1 + shift], seed)
    other = log(tmp_path / "elsewhere" / "train", [4, 3], padded=True)
    (other / "args.yaml").write_text("model: yolo11n.pt\n")
    figure = figures.draw_loss_curves(read_logs([tmp_path, other]), smooth=0)
    box = figure.axes[0]
    lines = {str(line.get_label()): line for line in box.lines if not str(line.get_label()).startswith("_")}
    assert list(lines) == ["yolov8n (2 seeds)", "yolo11n"]
    assert np.array_equal(lines["yolov8n (2 seeds)"].get_ydata(), [3.5, 2.5, 1.5])
    assert np.array_equal(lines["yolo11n"].get_xdata(), [1, 2])
    (band,) = box.collections
    assert band.get_paths()[0].get_extents().ymax == 4 and band.get_paths()[0].get_extents().ymin == 1
    assert [axis.get_title() for axis in figure.axes] == ["box loss", "cls loss", "dfl loss"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"epochs": 5}, "epochs 5"),
        ({"data_name": "VOC"}, "data VOC"),
        ({"recipe": "paper"}, "recipe paper"),
        ({"lr0": 0.1}, "lr0 0.1"),
        ({"weight_decay": 0.1}, "weight_decay 0.1"),
        ({"versions": {"torch": "2.7"}}, "versions torch 2.7"),
        ({"init": "other.pt", "start": "yolov8n initialised with seed 1, then other.pt"}, "init other.pt"),
    ],
)
def test_another_training_has_its_own_line_named_by_what_differs(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    paths = [recorded(tmp_path / f"{seed}", [3, 2], seed) for seed in (0, 1)]
    paths += [recorded(tmp_path / "2", [5, 4], 2, **changed)]
    found = lines(paths)
    assert list(found.values()) == [[3, 2], [5, 4]]
    first, second = found
    assert first.endswith(" (2 seeds)") and second == f"yolov8n ({told})"


def test_a_seed_that_is_there_twice_is_not_two_seeds(tmp_path: Path) -> None:
    """As after a comparison that was begun again in a second folder."""
    paths = [recorded(tmp_path / "s" / "yolov8n-seed0", [9, 9], 0)]
    paths += [recorded(tmp_path / "s2" / f"yolov8n-seed{seed}", [3, 2], seed) for seed in (0, 1)]
    assert lines(paths) == {"yolov8n (s)": [9, 9], "yolov8n (s2) (2 seeds)": [3, 2]}
    assert len(lines([paths[0], paths[0] / "results.csv", paths[0] / ".." / "yolov8n-seed0"])) == 1


def test_what_cannot_be_told_in_a_few_words_is_told_by_its_folder(tmp_path: Path) -> None:
    paths = [
        recorded(tmp_path / name / "run", [3, 2], data={"classes": [name * 9] * 9})
        for name in ("mine", "theirs")
    ]
    assert list(lines(paths)) == ["yolov8n (mine)", "yolov8n (theirs)"]


def test_runs_without_a_record_are_never_pooled(tmp_path: Path) -> None:
    paths = [log(tmp_path / f"a-seed{seed}", [3, 2]) for seed in (0, 1)]
    assert list(lines(paths)) == ["a-seed0", "a-seed1"]
    assert logs_without_record(read_logs(paths)) == [path / "results.csv" for path in paths]
    assert list(lines(paths[:1])) == ["a"]


def test_ultralytics_own_runs_are_pooled_by_their_arguments(tmp_path: Path) -> None:
    def foreign(name: str, **changed: Any) -> Path:
        folder = log(tmp_path / name, [3, 2])
        content = {"model": "yolo11n.pt", "data": "coco8.yaml", "epochs": 3, "seed": 0, "project": None}
        (folder / "args.yaml").write_text(
            yaml.safe_dump(content | {"name": name, "save_dir": name} | changed)
        )
        return folder

    paths = [
        foreign("train"),
        foreign("train2", seed=1, workers=4),
        foreign("train3", seed=2, data="VOC.yaml"),
    ]
    assert list(lines(paths)) == ["yolo11n (data coco8.yaml) (2 seeds)", "yolo11n (data VOC.yaml)"]
    again = foreign("train4")  # Ultralytics' default seed: not a second seed
    assert list(lines([paths[0], again])) == ["yolo11n (train)", "yolo11n (train4)"]
    resumed = foreign("mine", model="/x/runs/mine/weights/last.pt")
    assert list(lines([resumed])) == ["mine"]


@pytest.mark.parametrize(
    "text",
    [
        "model: [a]",
        "{",
        "model: yolov8n\narguments: 3\nseed: [1]\n1: {2: .nan}",
        "model: yolov8n\nclasses: [{2020-01-01: 1}]",
        "model: yolov8n\nepochs: 0x" + "f" * 5000,
        "[]",
    ],
)
def test_a_damaged_record_pools_nothing(tmp_path: Path, text: str) -> None:
    for seed in (0, 1):
        (log(tmp_path / f"a-seed{seed}", [3, 2]) / "recipe.yaml").write_text(text)
    assert len(lines([tmp_path])) == 2


def test_smoothing_keeps_a_constant_and_bridges_what_is_missing(tmp_path: Path) -> None:
    figure = figures.draw_loss_curves(
        read_logs([log(tmp_path / "m", [2.0, float("nan"), 2.0, 2.0])]), smooth=0.4
    )
    assert np.allclose(figure.axes[0].lines[1].get_ydata(), 2.0)


def test_an_epoch_that_a_log_repeats_counts_once(tmp_path: Path) -> None:
    """Its last row, as the run went on from there."""
    recorded(tmp_path / "a-seed0", [3, 2, 1])
    again = recorded(tmp_path / "a-seed1", [5, 9, 3], 1) / "results.csv"
    rows = again.read_text().splitlines()
    again.write_text("\n".join([*rows[:3], rows[2].replace("9", "4"), *rows[3:]]) + "\n")
    figure = figures.draw_loss_curves(read_logs([tmp_path]), smooth=0)
    assert np.array_equal(figure.axes[0].lines[1].get_ydata(), [4, 3, 2])


def test_validation_losses_must_be_there_to_be_drawn(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    file.write_text("epoch,train/box_loss,train/cls_loss,train/dfl_loss\n1,3,2,1\n")
    assert len(read_logs([file])) == 1
    with pytest.raises(DataError, match=r"with val losses: no column val/box_loss"):
        read_logs([file], "val")


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_command_draws_the_embedded_weights_logs(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"fig3.{ending}"
    logs = [str(WEIGHTS / f"{name}.csv") for name in ("yolov8n", "yolov8n-sgdm")]
    monkeypatch.setattr(sys, "argv", ["robustbench", "curves", *logs, "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    first = out.read_bytes()
    assert not stop.value.code and len(first) > 5000
    figures.save_figure(figures.draw_loss_curves(read_logs([Path(one) for one in logs])), out)
    assert out.read_bytes() == first


def test_a_png_is_fine_enough_for_print(tmp_path: Path) -> None:
    figure = figures.draw_loss_curves(read_logs([WEIGHTS / "yolov8n.csv"]))
    figures.save_figure(figure, tmp_path / "x.png")
    width, height = figure.get_size_inches()
    with Image.open(tmp_path / "x.png") as drawn:
        assert drawn.size == pytest.approx((300 * width, 300 * height), abs=1)


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no training log"):
        read_logs([tmp_path])
    (tmp_path / "results.csv").write_text("model,AP\na,1\n")
    with pytest.raises(DataError, match="no column epoch"):
        read_logs([tmp_path])
    with pytest.raises(UsageError, match=r"must end in \.svg"):
        figures.save_figure(
            figures.draw_loss_curves(read_logs([WEIGHTS / "yolov8n.csv"])), tmp_path / "x.gif"
        )


def test_a_model_keeps_its_colour() -> None:
    alone, together = (
        figures.colors_of(["yolov8n-sgdm"]),
        figures.colors_of(["yolov8n", "yolov8n-cbam", "yolov8n-sgdm"]),
    )
    assert alone["yolov8n-sgdm"] == together["yolov8n-sgdm"]
    assert len(set(together.values())) == 3
