"""Write a split of `scenes` to disk: PNG images and a COCO annotation file."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robustbench_sgdm.core import atomic_io
from robustbench_sgdm.datasets.scenes.render import CLASSES, VERSION, Scene, render_scene


def write_split(
    root: Path, split: str, count: int, *, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write images and, last of all, `<root>/annotations/<split>.json`; return its path.

    A split that is complete and of the same version, seed and count is left alone. `progress` is called with
    the number of images done and `count`. Images are PNG: lossless, so that corruptions which act on
    compression or fine detail start from pixels without block artefacts, whatever decoder reads them.
    """
    target = root / "annotations" / f"{split}.json"
    info = {"description": "scenes", "version": VERSION, "seed": seed, "split": split, "count": count}
    folder = root / "images" / split
    if _is_written(target, info) and len(list(folder.glob("*.png"))) >= count:
        return target
    # Gone before its images change, so that no file ever describes other images than those beside it.
    target.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []

    def one(index: int) -> Scene:
        scene = render_scene(index, split=split, seed=seed)
        _save(folder / _name(index), scene)
        return scene

    # Threads: most of the time is spent in OpenCV and NumPy, which release the interpreter lock.
    with _fast_thread_switching(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for index, scene in enumerate(pool.map(one, range(count))):
            height, width = scene.image.shape[:2]
            images.append({"id": index + 1, "file_name": _name(index), "width": width, "height": height})
            annotations += _annotations(scene, index + 1, len(annotations) + 1)
            if progress:
                progress(index + 1, count)
    categories = [{"id": i + 1, "name": name, "supercategory": "object"} for i, name in enumerate(CLASSES)]
    data = {
        "info": info,
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    atomic_io.write_text(target, json.dumps(data))
    return target


@contextmanager
def _fast_thread_switching() -> Iterator[None]:
    """Hand the interpreter lock over sooner: many short calls into OpenCV else wait 5 ms each to get it back."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _name(index: int) -> str:
    return f"{index + 1:06d}.png"


def _is_written(target: Path, info: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(target.read_bytes())["info"] == info)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _save(path: Path, scene: Scene) -> None:
    pixels = np.ascontiguousarray(scene.image[..., ::-1])
    # Atomic, since another process may be making the same data set.
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise OSError(f"cannot encode {path}")
    atomic_io.write_bytes(path, data.tobytes(), sync=False)


def _annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """COCO entries of one image: bbox is x, y, width, height in px."""
    return [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": int(label) + 1,
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "area": float(area),
            "iscrowd": 0,
        }
        for i, (box, label, area) in enumerate(zip(scene.boxes, scene.labels, scene.areas, strict=True))
    ]
