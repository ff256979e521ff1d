"""Write tiny checkpoints of every family with the Ultralytics that is installed, and what its own network puts out.

    python make.py OUT.tar.xz

Run once for each release that is tested, in an environment with that release. Each checkpoint is what `YOLO.save`
writes; beside it lies the raw output of the file's own modules for `image()`.
"""

import copy
import io
import logging
import math
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_VERBOSE="false")

import torch
import ultralytics
import yaml
from ultralytics.nn import tasks

FAMILIES = {
    "yolov5": "v5/yolov5",
    "yolov6": "v6/yolov6",
    "yolov8": "v8/yolov8",
    "yolov8-p2": "v8/yolov8-p2",
    "yolov9": "v9/yolov9t",
    "yolov10": "v10/yolov10n",
    "yolov10x": "v10/yolov10x",
    "yolo11": "11/yolo11",
    "yolo12": "12/yolo12",
    "yolo26": "26/yolo26",
    "rtdetr": "v8/yolov8-rtdetr",
}
TINY = [0.25, 0.0625, 128]  # depth, width, most channels
ATTENTION = [0.25, 0.125, 1024]  # attention takes at least 64 channels
SCALES = {
    **dict.fromkeys(("yolov10", "yolov10x", "yolo11", "yolo26"), ATTENTION),
    "yolo12": [0.25, 0.25, 512],
}
DECODER = ["nc", 32, 20, 2, 2, 1, 64]  # width, queries, points, heads, layers, width inside
FUSED = ("yolov6", "yolov8", "yolov10", "yolov10x", "yolo26")


def image() -> torch.Tensor:
    """(1, 3, 64, 64) in [0, 1]."""
    return torch.arange(3 * 64 * 64).mul(7919).remainder(251).div(250).view(1, 3, 64, 64)


def fill(network: torch.nn.Module) -> None:
    """Values that differ from place to place and compress well; every BatchNorm does something."""
    for number, (name, tensor) in enumerate(sorted(network.state_dict().items())):
        if not tensor.is_floating_point() or name.endswith("dfl.conv.weight"):
            continue
        pattern = (
            torch.arange(tensor.numel()).mul(2 * number + 3).remainder(23).sub(11).div(11).view(tensor.shape)
        )
        if tensor.ndim > 1:
            pattern = pattern / math.sqrt(tensor[0].numel())
        elif name.endswith("running_var"):
            pattern = pattern.abs() + 0.5
        elif name.endswith("weight"):
            pattern = 1 + 0.5 * pattern
        else:
            pattern = 0.2 * pattern
        tensor.copy_(pattern)


def output(network: torch.nn.Module) -> torch.Tensor:
    """The first tensor that the network puts out for `image()`."""
    found: Any = copy.deepcopy(network).float().eval()(image())
    while not isinstance(found, torch.Tensor):
        found = found[0]
    return found


def main(target: Path) -> None:
    logging.disable(logging.CRITICAL)
    folder = Path(ultralytics.__file__).parent / "cfg/models"
    with tarfile.open(target, "w:xz") as archive, torch.no_grad():

        def add(name: str, content: Any) -> None:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            entry = tarfile.TarInfo(name)
            entry.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(entry, buffer)

        for name, place in FAMILIES.items():
            path = folder / f"{place}.yaml"
            if not path.exists():
                continue
            config = yaml.safe_load(path.read_text())
            config.update(nc=3, scale="n", scales={"n": SCALES.get(name, TINY)}, yaml_file=path.name)
            if name == "rtdetr":
                config["head"][-1][-1] = DECODER
            kind: Any = tasks.RTDETRDetectionModel if name == "rtdetr" else tasks.DetectionModel
            network = kind(config, verbose=False)
            fill(network)
            network.names = {0: "cat", 1: "dog", 2: "traffic light"}
            network.args = {"imgsz": 64}
            network.task = "detect"
            network = network.half().eval()
            for fused in (False, True) if name in FUSED else (False,):
                if fused:
                    network = network.float().fuse(verbose=False).half()
                stem = f"{name}-fused" if fused else name
                checkpoint = {"model": network, "ema": None, "train_args": {"imgsz": 64}}
                add(f"{stem}.pt", {**checkpoint, "version": ultralytics.__version__, "epoch": -1})
                add(f"{stem}.output.pt", output(network))
    print(ultralytics.__version__, target.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
