"""Loss curves: what is drawn is what the logs hold, whoever wrote them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbench_sgdm import cli, figures
from robustbench_sgdm.errors import DataError, UsageError
from robustbench_sgdm.store import read_logs

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


def test_a_line_per_model_and_a_band_for_its_seeds(tmp_path: Path) -> None:
    for seed, shift in enumerate((0.0, 1.0)):
        log(tmp_path / f"a-seed{seed}", [3 + shift, 2 + shift, 1 + shift], padded=bool(seed))
    other = log(tmp_path / "elsewhere" / "train", [4, 3])
    (other / "args.yaml").write_text("model: yolo11n.pt\n")
    figure = figures.loss_curves(read_logs([tmp_path, other]), smooth=0)
    box = figure.axes[0]
    lines = {str(line.get_label()): line for line in box.lines if not str(line.get_label()).startswith("_")}
    assert list(lines) == ["a (2 seeds)", "yolo11n"]
    assert np.array_equal(lines["a (2 seeds)"].get_ydata(), [3.5, 2.5, 1.5])
    assert np.array_equal(lines["yolo11n"].get_xdata(), [1, 2])
    (band,) = box.collections
    assert band.get_paths()[0].get_extents().ymax == 4 and band.get_paths()[0].get_extents().ymin == 1
    assert [axis.get_title() for axis in figure.axes] == ["box loss", "cls loss", "dfl loss"]


def test_smoothing_keeps_a_constant_and_bridges_what_is_missing(tmp_path: Path) -> None:
    figure = figures.loss_curves(read_logs([log(tmp_path / "m", [2.0, float("nan"), 2.0, 2.0])]), smooth=0.4)
    assert np.allclose(figure.axes[0].lines[1].get_ydata(), 2.0)


def test_an_epoch_that_a_log_repeats_counts_once(tmp_path: Path) -> None:
    """Its last row, as the run went on from there."""
    log(tmp_path / "a-seed0", [3, 2, 1])
    again = log(tmp_path / "a-seed1", [5, 9, 3]) / "results.csv"
    rows = again.read_text().splitlines()
    again.write_text("\n".join([*rows[:3], rows[2].replace("9", "4"), *rows[3:]]) + "\n")
    figure = figures.loss_curves(read_logs([tmp_path]), smooth=0)
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
    figures.save(figures.loss_curves(read_logs([Path(one) for one in logs])), out)
    assert out.read_bytes() == first


def test_a_png_is_fine_enough_for_print(tmp_path: Path) -> None:
    figure = figures.loss_curves(read_logs([WEIGHTS / "yolov8n.csv"]))
    figures.save(figure, tmp_path / "x.png")
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
        figures.save(figures.loss_curves(read_logs([WEIGHTS / "yolov8n.csv"])), tmp_path / "x.gif")


def test_a_model_keeps_its_colour() -> None:
    alone, together = (
        figures.colors(["yolov8n-sgdm"]),
        figures.colors(["yolov8n", "yolov8n-cbam", "yolov8n-sgdm"]),
    )
    assert alone["yolov8n-sgdm"] == together["yolov8n-sgdm"]
    assert len(set(together.values())) == 3
