"""Ultralytics' own detection models by their names: `yolo11n`, `yolov8m-p2`, `yolov10x`, `rtdetr-l`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import ultralytics
from ultralytics.utils import YAML

from robustbench_sgdm.detectors.ultralytics.architecture import HEADS, QUERY_HEAD

_VERSION = re.compile(r"(yolov?\d+)(-.*)?")  # where Ultralytics looks for the letter of the scale


@cache
def library_model_names() -> tuple[str, ...]:
    """Every model YAML of the installed Ultralytics that ends in a detection head, at each of its scales."""
    found = []
    for path in sorted((Path(ultralytics.__file__).parent / "cfg/models").glob("*/*.yaml")):
        config = YAML.load(path)  # type: ignore[no-untyped-call]
        version = _VERSION.fullmatch(path.stem)
        if config["head"][-1][2] not in (*HEADS, QUERY_HEAD):
            continue
        scales = config.get("scales") if version else None
        found += [f"{version[1]}{scale}{version[2] or ''}" for scale in scales or ()] if version else []
        found += [] if scales else [path.stem]
    return tuple(found)
