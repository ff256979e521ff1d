"""A data set as Ultralytics' trainer reads it: linked images, label files, all in a folder of ours."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from robustbench_sgdm.core.errors import DataError, unknown_name_error
from robustbench_sgdm.datasets.base import Dataset, Image
from robustbench_sgdm.datasets.image_decoding import read_image

_SLACK = 1.0  # px by which a box may stick out before it is an error: annotators round


def to_yolo(dataset: Dataset, out: Path, classes: Sequence[str] | None = None) -> Path:
    """Write `out/images` (links) and `out/labels` (`class x y w h`, centre form, shares of the image).

    Ultralytics keeps its own files beside images and labels; here they land in `out`, never in the
    folder of the data. Crowds and boxes without area are left out, as Ultralytics' own converter does.

    Args:
        dataset: images and ground truth.
        out: the work folder; what an earlier export left in it is removed.
        classes: the classes to learn, in the order of their labels; all, in the order of their ids, if None.

    Returns:
        `out/images`, which a `data.yaml` can name.

    Raises:
        DataError: no image, or a box outside its image; the message names it.
        UsageError: a class the data set does not have.
    """
    if not dataset.images:
        raise DataError(f"{dataset.source} has no image to train or validate on")
    labels = _labels(dataset, classes)
    boxes: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in dataset.annotations:
        boxes[annotation["image_id"]].append(annotation)
    for part in ("images", "labels"):
        shutil.rmtree(out / part, ignore_errors=True)
        (out / part).mkdir(parents=True)
        (out / f"{part}.cache").unlink(missing_ok=True)
    width = len(str(len(dataset.images)))
    for number, image in enumerate(dataset.images):
        # Numbered, so that equal names in different folders cannot meet and the order stays the json's.
        stem = f"{number:0{width}d}-{image.path.stem}"
        rows = [row for a in boxes[image.id] if (row := _row(a, image, labels, dataset.source))]
        (out / "labels" / f"{stem}.txt").write_text("".join(rows), "utf-8")
        if image.upright:
            _link(image.path, out / "images" / f"{stem}{image.path.suffix.lower()}")
        else:  # Ultralytics would turn it by its EXIF orientation, away from its boxes
            Pillow.fromarray(read_image(image)).save(out / "images" / f"{stem}.png", compress_level=1)
    return out / "images"


def _labels(dataset: Dataset, classes: Sequence[str] | None) -> dict[int, int]:
    """COCO category id -> label."""
    by_name = {str(c["name"]): int(c["id"]) for c in dataset.categories}
    for name in classes or ():
        if name not in by_name:
            raise unknown_name_error(f"class of {dataset.source}:", name, by_name)
    return {by_name[name]: label for label, name in enumerate(classes or by_name)}


def _row(annotation: Mapping[str, Any], image: Image, labels: Mapping[int, int], source: str) -> str:
    """One line of a label file; empty for what is not to be learned."""
    x, y, w, h = annotation["bbox"]
    label = labels.get(annotation["category_id"])
    if label is None or annotation.get("iscrowd") or w <= 0 or h <= 0:
        return ""
    if min(x, y) < -_SLACK or x + w > image.width + _SLACK or y + h > image.height + _SLACK:
        raise DataError(
            f"{source}: annotation {annotation['id']} has box {[x, y, w, h]}, outside image {image.id} "
            f"({image.path.name}, {image.width} x {image.height}); correct it or remove it"
        )
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + w, image.width), min(y + h, image.height)
    centre = (left + right) / 2 / image.width, (top + bottom) / 2 / image.height
    size = (right - left) / image.width, (bottom - top) / image.height
    return f"{label} " + " ".join(f"{v:.9g}" for v in (*centre, *size)) + "\n"


def _link(source: Path, target: Path) -> None:
    """A symbolic link: Ultralytics repairs an image by writing a new file over the link, so the original is unchanged."""
    try:
        target.symlink_to(source.resolve())
    except OSError:  # Windows without the right to link
        shutil.copyfile(source, target)
