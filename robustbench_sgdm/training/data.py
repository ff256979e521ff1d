"""What a training run reads: two data sets, and their export for Ultralytics' trainer."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
import ultralytics.cfg
from torch import Tensor

from robustbench_sgdm import datasets
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.progress import Progress, no_progress
from robustbench_sgdm.datasets import SCENES_VAL, Dataset, coco, image_decoding, scenes, ultralytics_yaml
from robustbench_sgdm.datasets.cache import cache_dir
from robustbench_sgdm.datasets.coco_2017 import coco_folder, coco_json
from robustbench_sgdm.datasets.export import to_yolo
from robustbench_sgdm.detectors.letterbox import letterbox
from robustbench_sgdm.training.trainer import SplitFolders

SCENES_TRAIN = 2000
"""Images in the training split of `scenes`."""


@dataclass(frozen=True)
class TrainingData:
    """A training split and a validation split.

    Attributes:
        name: for folders and cards.
        train: learned from.
        val: chooses the best epoch.
        metadata: what a card says about the data's origin.
    """

    name: str
    train: Dataset
    val: Dataset
    metadata: dict[str, Any]

    @classmethod
    def of(cls, name: str, train: Dataset, val: Dataset) -> Self:
        """Two data sets with the same classes.

        Raises:
            UsageError: their classes differ.
        """
        if train.classes != val.classes:
            odd = sorted(set(train.classes) ^ set(val.classes)) or ["their order"]
            raise UsageError(f"{train.source} and {val.source} differ in classes: {', '.join(odd[:5])}")
        return cls(name, train, val, {"train": train.source, "val": val.source})


def make_scenes_data(
    count: int = SCENES_TRAIN, seed: int = 0, progress: Progress = no_progress
) -> TrainingData:
    """The rendered `scenes`, made in the cache folder on first use.

    Args:
        count: training images; validation always has `SCENES_VAL`.
        seed: of the renderer.
        progress: called while each split is rendered.
    """
    train = _scenes("train", count, seed, progress)
    val = _scenes("val", SCENES_VAL, seed, progress)
    return TrainingData("scenes", train, val, _renderer(seed))


def _renderer(seed: int) -> dict[str, Any]:
    return {"renderer": f"scenes, version {scenes.VERSION}", "renderer seed": seed}


def _scenes(split: str, count: int, seed: int, progress: Progress) -> Dataset:
    root = cache_dir() / f"scenes-v{scenes.VERSION}"
    loaded = coco.load_coco(
        scenes.write_split(root, split, count, seed=seed, progress=partial(progress, "rendering scenes"))
    )
    return replace(loaded, source=f"scenes, {split}")


def load_training_data(train: str, val: str | None = None, progress: Progress = no_progress) -> TrainingData:
    """Data by the name or path that a user gives.

    Args:
        train: `scenes`; `coco` (train2017 and val2017 in Ultralytics' datasets folder); an Ultralytics dataset YAML, by
            path or by its name there (`VOC.yaml`, `coco.yaml`), which brings both splits; or the training split as a COCO
            json.
        val: the validation split as a COCO json or a YAML; a YAML's own, and that of `scenes` and `coco`, if None.
        progress: called while `scenes` is rendered.

    Raises:
        UsageError: no such data, or a json without its validation split.
        DataError: the data are not what they should be, or not on this machine.
    """
    if train == "scenes" and val is None:
        return make_scenes_data(progress=progress)
    if val is None and train != "coco" and Path(train).suffix not in _YAML:
        if Path(train).exists():
            raise UsageError(f"{train} is the training split alone; give the validation split with --val")
        raise UsageError(
            f"no data set {train!r}: give scenes, coco, an Ultralytics dataset YAML (a path, VOC.yaml, coco.yaml), or "
            "the training split as a COCO json and the validation split with --val"
        )
    loaded = _split(train, "train", progress), _split(val or train, "val", progress)
    data = TrainingData.of(Path(train).stem, *loaded)
    return replace(data, metadata=data.metadata | _renderer(0)) if "scenes" in (train, val) else data


_YAML = {".yaml", ".yml"}


def _split(source: str, split: str, progress: Progress) -> Dataset:
    """One split; a YAML may be one that Ultralytics brings along."""
    if source == "scenes":
        return _scenes(split, SCENES_TRAIN if split == "train" else SCENES_VAL, 0, progress)
    if source == "coco":
        # Ultralytics' own download of the training split has lists and label files, and no json of it.
        lists = split == "train" and (coco_folder() / "train2017.txt").is_file()
        if not lists or (coco_folder() / "annotations" / "instances_train2017.json").is_file():
            return datasets.load_dataset(str(coco_json(split)))
        source = "coco.yaml"
    path = Path(source)
    bundled = _DATASETS / source
    if path.suffix in _YAML and (path.is_file() or bundled.is_file()):
        return ultralytics_yaml.load_ultralytics_yaml(path if path.is_file() else bundled, split)
    return datasets.load_dataset(source, progress=progress)  # a json is the split that its place says


_DATASETS = Path(ultralytics.cfg.__file__).parent / "datasets"


def sample_batches(dataset: Dataset, imgsz: int, count: int = 64, batch: int = 8) -> list[Tensor]:
    """Some images of a data set, spread over it, as a network sees them: float (B, 3, imgsz, imgsz) in [0, 1]."""
    chosen = dataset.images[:: max(1, len(dataset) // count)][:count]
    pictures = (torch.from_numpy(image_decoding.read_image(i).transpose(2, 0, 1).copy()) for i in chosen)
    squares = torch.stack([letterbox(picture, imgsz)[0] for picture in pictures])
    return [squares[i : i + batch].float() / 255 for i in range(0, len(squares), batch)]


def export_splits(data: TrainingData, classes: Sequence[str] | None) -> SplitFolders:
    """Both splits as Ultralytics reads them, in the cache folder; made once for each content.

    Raises:
        DataError: an empty split, or a box outside its image.
        UsageError: a class that the data does not have.
    """
    return SplitFolders(
        _export_dataset(data.train, classes),
        _export_dataset(data.val, classes),
        tuple(classes) if classes is not None else data.train.classes,
    )


def _export_dataset(dataset: Dataset, classes: Sequence[str] | None) -> Path:
    folder = cache_dir() / "yolo" / _key(dataset, classes)
    if not folder.is_dir():
        # Two runs may export the same split at once: whole folders are moved into place, the first one stays.
        draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        try:
            to_yolo(dataset, draft, classes)
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder / "images"


def _key(dataset: Dataset, classes: Sequence[str] | None) -> str:
    """Changes with the annotations and the images' places, sizes and times; cheaper than reading images."""
    files = [(str(i.path), i.id, (stat := i.path.stat()).st_size, stat.st_mtime_ns) for i in dataset.images]
    truth = [[a["image_id"], a["category_id"], a["bbox"], a["iscrowd"]] for a in dataset.annotations]
    content = json.dumps([files, truth, list(dataset.classes), classes and list(classes)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
