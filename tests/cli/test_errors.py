"""A user's mistake: one line that says what to do, exit code 2 for usage and 1 for failure, no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_sgdm import cli
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.detectors.ultralytics import adapter


def outcome(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str]:
    """Exit code and what stood on standard error."""
    monkeypatch.setattr(sys, "argv", ["robustbench", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "--model", "yolov8m-sgmd"], 2, "unknown model"),
        (["run", "--model", "yolov8n-sgmd"], 2, "did you mean yolov8n-sgdm"),
        (["run", "--model", "yolov8n", "--noise", "gausian"], 2, "did you mean gaussian"),
        (["run", "--model", "yolov8n", "--severity", "7"], 2, "outside [0, 5]"),
        (["run", "--model", "yolov8n", "--severity", ""], 2, "--severity is empty"),
        (["run", "--model", "yolov8n", "--noise", ""], 2, "--noise is empty"),
        (["run", "--model", "rtdetr-l-sgdm"], 2, "rtdetr-l ends in RTDETRDecoder"),
        (["run", "--model", "yolov8n", "--device", "mps"], 2, "give cpu, cuda"),
        (["run", "--model", "yolov8n", "--engine", "magic"], 2, "magic"),
        (["run", "--model", "yolov8n", "--engine", "imgaug", "--severity", "1.5"], 2, "1.5"),
        (["run", "--model", "yolov8n", "--fraction", "2"], 2, "outside (0, 1]"),
        (["run", "--model", "yolov8n", "--data", "nowhere.json"], 2, "no data set"),
        (["run", "--model", "yolov8n", "--imgsz", "100"], 2, "imgsz is 100"),
        (["run", "--model", "yolov8n", "--device", "cuda:99"], 2, "cuda:99"),
        (["run", "--model", "absent.pt"], 1, "absent.pt"),
        (["train", "--model", "yolov8n", "--recipe", "papr"], 2, "did you mean paper"),
        (["train", "--model", "yolo11n", "--recipe", "paper"], 2, "no recipe for yolo11n"),
        (["train", "--model", "yolov8n", "--seeds", "0,x"], 2, "seed 'x' is not a whole number"),
        (["train", "--model", "yolov8n", "--set", "seed=3"], 2, "--set seed is a separate option"),
        (["train", "--model", "yolov8n", "--set", "lr=1"], 2, "did you mean lr"),
        (["train", "--model", "yolov8n", "--set", "lr0=abc"], 2, "'lr0=abc' is of invalid type str"),
        (["train", "--model", "yolov8n", "--noise-aug", "gausian"], 2, "did you mean gaussian"),
        (["train", "--model", "yolov8n", "--loggers", "wandbb"], 2, "did you mean wandb"),
        (["train", "--model", "yolov8n", "--device", "98,99"], 2, "cannot be used here"),
        (["train", "--model", "yolov8n", "--data", "nowhere"], 2, "no data set 'nowhere'"),
        (["run"], 2, "--model"),
        (["run", "--modle", "x"], 2, "--modle"),
        (["train", "--model", "yolov8n,yolov5on"], 2, "the original YOLOv5 cannot be trained"),
        (["train", "--model", "yolov8n,rtdetr-l"], 2, "rtdetr-l ends in RTDETRDecoder"),
        (["train", "--model", "yolov8n-sgmd"], 2, "did you mean yolov8n-sgdm"),
        (["nothing"], 2, "nothing"),
    ],
)
def test_usage(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_coco: Path,
    words: list[str],
    code: int,
    message: str,
) -> None:
    if words[0] == "run" and "--data" not in words:
        words = [*words, "--data", str(tiny_coco), "--project", str(tiny_coco.parent)]
    found, text = outcome(capsys, monkeypatch, *words)
    assert (found, message in text) == (code, True), text
    assert "Traceback" not in text


def test_weights_that_hold_code_are_refused_and_not_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_coco: Path
) -> None:
    import torch

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"model": Bomb()}, tmp_path / "evil.pt")
    words = [
        "run",
        "--model",
        str(tmp_path / "evil.pt"),
        "--data",
        str(tiny_coco),
        "--project",
        str(tmp_path),
    ]
    code, text = outcome(capsys, monkeypatch, *words)
    assert code == 1 and "--trust-weights" in text and not (tmp_path / "ran").exists()


def test_shifted_data_have_the_name_of_the_shift_and_models_share_a_warning(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_coco: Path,
    photographs: list[NDArray[np.uint8]],
    coco_of: Callable[..., Path],
) -> None:
    """Both data sets are a `val.json`."""
    categories = [{"id": 1, "name": "unicorn"}, {"id": 2, "name": "horse"}]
    shifted = coco_of(tmp_path / "night", photographs, categories=categories)
    (tmp_path / "shift_test_models.py").write_text(
        "import robustbench_sgdm as rb\n\n\ndef made(name):\n"
        "    return rb.wrap_detector(lambda images: [], classes=['cat', 'fish'], name=name, fingerprint=name)\n\n\n"
        "def one():\n    return made('one')\n\n\ndef two():\n    return made('two')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    models = "shift_test_models:one,shift_test_models:two"
    words = ["run", "--data", str(tiny_coco), "--shift", f"dark={shifted}", "--project", str(tmp_path)]
    code, text = outcome(capsys, monkeypatch, *words, "--model", models)
    assert code == 2 and "one and dark share no class name" in text
    assert text.count("val lacks 1 class of one, two, whose boxes are dropped: fish") == 1


@pytest.mark.parametrize(
    ("first", "message"), [("thing", "share no class name"), ("mug", "--weights yolov8n=FILE")]
)
def test_classes_that_do_not_fit(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_coco: Path,
    first: str,
    message: str,
) -> None:
    """None, and only some of those that embedded weights know."""
    content = json.loads(tiny_coco.read_text())
    content["categories"].append({"id": 99})
    for category in content["categories"]:
        category["name"] = f"thing {category['id']}"
    content["categories"][0]["name"] = first
    tiny_coco.write_text(json.dumps(content))
    words = ["run", "--model", "yolov8n", "--data", str(tiny_coco), "--project", str(tmp_path)]
    code, text = outcome(capsys, monkeypatch, *words)
    assert code == 2 and message in text


def test_the_reference_engine_is_told_small_images_before_it_begins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_coco: Path
) -> None:
    from PIL import Image

    content = json.loads(tiny_coco.read_text())
    last = content["images"][-1]
    Image.new("RGB", (90, 20)).save(tiny_coco.parent.parent / "images/val" / last["file_name"])
    last |= {"width": 90, "height": 20}
    tiny_coco.write_text(json.dumps(content))
    words = ["run", "--model", "yolov8n", "--data", str(tiny_coco), "--project", str(tmp_path)]
    code, text = outcome(capsys, monkeypatch, *words, "--engine", "imgaug")
    assert code == 2 and "not 64 x 20" in text and not list(tmp_path.glob("*/manifest.json"))


@pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="only Linux has a folder that even root cannot write to"
)
def test_no_permission(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_coco: Path, coco_weights: Path
) -> None:
    words = ["run", "--model", "yolov8n", "--weights", str(coco_weights), "--imgsz", "64"]
    code, text = outcome(capsys, monkeypatch, *words, "--data", str(tiny_coco), "--project", "/proc/runs")
    assert code == 1 and "cannot write /proc/runs" in text and "--project" in text and "Traceback" not in text


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
from robustbench_sgdm.cli import main
main()
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_the_unfinished_only(
    tmp_path: Path, photographs: list[NDArray[np.uint8]], coco_of: Callable[..., Path], coco_weights: Path
) -> None:
    """A limit on file size stands in for the disk: the write fails as it would there."""
    names = adapter.load_detector("yolov8n", weights=coco_weights).classes
    data = coco_of(
        tmp_path / "data", photographs, categories=[{"id": i, "name": n} for i, n in enumerate(names)]
    )
    words = [
        "run",
        "--model",
        "yolov8n",
        "--weights",
        str(coco_weights),
        "--data",
        str(data),
        "--imgsz",
        "320",
    ]
    words += ["--severity", "0,1", "--project", str(tmp_path / "runs"), "--name", "r", "--no-report"]

    def go(limit: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", FULL_DISK, str(limit), *words], capture_output=True, text=True
        )

    stopped = go(6000)  # room for the plan, not for a shard
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr
    assert "/shards/" in stopped.stderr and "File too large" in stopped.stderr
    assert "run the same command again" in stopped.stderr
    finished = go(100_000_000)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "runs/r/results.csv").is_file()


def test_a_copy_that_the_disk_has_no_room_for_is_not_half_written(
    tmp_path: Path, photographs: list[NDArray[np.uint8]], coco_of: Callable[..., Path]
) -> None:
    data = coco_of(tmp_path / "data", photographs)
    words = ["corrupt", "--data", str(data), "--noise", "gaussian", "--severity", "3", "--format", "jpg"]
    words += ["--out", str(tmp_path / "out")]
    stopped = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "6000", *words], capture_output=True, text=True
    )
    assert stopped.returncode == 1 and "cannot write" in stopped.stderr and "Traceback" not in stopped.stderr
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_a_terminal_is_not_told_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_coco: Path
) -> None:
    """Names come from files; an escape sequence in one could rewrite what stands on the screen."""
    content = json.loads(tiny_coco.read_text())
    content["categories"][0]["name"] = "\x1b[2Jcat\n::error::\u202e"
    tiny_coco.write_text(json.dumps(content))
    words = ["run", "--model", "yolov8n", "--data", str(tiny_coco), "--project", str(tiny_coco.parent)]
    code, text = outcome(capsys, monkeypatch, *words)
    assert code == 2 and r"\x1b[2Jcat\n::error::\u202e" in text and not set("\x1b\u202e") & set(text)
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())


def test_every_error_says_its_exit_code() -> None:
    pending = [RobustBenchError]
    while pending:
        kind = pending.pop()
        assert kind.exit_code in (1, 2, 130)
        pending += kind.__subclasses__()
