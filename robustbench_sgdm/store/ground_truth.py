"""A run's ground truth, kept beside its cells so that results can be read without the data set."""

import contextlib
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.store.parquet import column_names, read_frame, read_stamp

_BOX = [(side, pa.float64()) for side in ("x", "y", "w", "h")]
_TABLES = {
    "images": pa.schema(
        [("image_id", pa.int64()), ("file", pa.string()), ("width", pa.int64()), ("height", pa.int64())]
    ),
    "annotations": pa.schema(
        [
            ("image_id", pa.int64()),
            ("category_id", pa.int64()),
            *_BOX,
            ("area", pa.float64()),
            ("iscrowd", pa.int64()),
        ]
    ),
    "categories": pa.schema([("category_id", pa.int64()), ("name", pa.string())]),
}
_SAME_HASH = 1000
_OPTIONAL = {"images": pa.field("upright", pa.bool_())}  # where some image is not


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """COCO's three lists as tables, in the order of the annotation file.

    Attributes:
        images: image_id, file (where the run found it), width, height (px); and, where the EXIF orientation of
            some is not applied, upright.
        annotations: image_id, category_id, x, y, w, h (px, as annotated), area (px^2), iscrowd.
        categories: category_id, name.
    """

    images: pd.DataFrame
    annotations: pd.DataFrame
    categories: pd.DataFrame

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of what scores depend on: ids and sizes of images, objects and classes, in order.

        Where the images lie is no part of it.
        """
        digest = hashlib.sha256()
        for name, schema in _TABLES.items():
            for column in (field.name for field in schema if field.name != "file"):
                digest.update(f"{name} {column} {len(getattr(self, name))}".encode())
                digest.update(json.dumps(getattr(self, name)[column].tolist()).encode())
        return digest.hexdigest()

    def of_image(self, image_id: int) -> Self:
        """The ground truth of one image alone, its annotations counted from 0."""
        objects = self.annotations[self.annotations["image_id"] == image_id]
        return replace(
            self,
            images=self.images[self.images["image_id"] == image_id],
            annotations=objects.reset_index(drop=True),
        )

    def of_category(self, category_id: int) -> Self:
        """The ground truth of one category alone: its objects in all images."""
        objects = self.annotations[self.annotations["category_id"] == category_id]
        return replace(self, annotations=objects.reset_index(drop=True))

    def dataset_images(self) -> dict[int, Image]:
        """The images by id, as the data set has them, to be decoded from where the run found them."""
        upright = self.images.get("upright", pd.Series(True, self.images.index))
        rows = zip(*(self.images[c] for c in ("image_id", "file", "width", "height")), upright, strict=True)
        return {int(i): Image(int(i), Path(file), int(w), int(h), bool(u)) for i, file, w, h, u in rows}

    def write(self, folder: Path, data: str, files: SafeDirectory | None = None) -> None:
        """Write `images.parquet`, `annotations.parquet` and `categories.parquet`, unless they are there.

        Args:
            folder: made as needed.
            data: the data set's fingerprint.
            files: of the run directory that the folder lies in; its own where it lies in none.
        """
        files = files or SafeDirectory(folder)
        for name in _TABLES:
            path, schema = folder / f"{name}.parquet", _schema(name, getattr(self, name).columns)
            if read_stamp(path, "data", files) == data:
                with contextlib.suppress(DataError):
                    read_frame(path, schema, files)
                    continue
            stamped = schema.with_metadata({"data": data})
            table = pa.Table.from_pandas(getattr(self, name), stamped, preserve_index=False)
            table = table.replace_schema_metadata(stamped.metadata)
            files.write(path, lambda file, table=table: pq.write_table(table, file, write_page_checksum=True))  # type: ignore[misc]

    @classmethod
    def read(cls, folder: Path, data: str, files: SafeDirectory | None = None) -> Self:
        """Read what `write` wrote, with the same arguments.

        Raises:
            DataError: a file is missing, damaged, or belongs to other data.
        """
        tables, files = {}, files or SafeDirectory(folder)
        for name in _TABLES:
            path = folder / f"{name}.parquet"
            if read_stamp(path, "data", files) != data:
                raise DataError(
                    f"{path} is missing or of other data; start the run again with the same command"
                )
            tables[name] = read_frame(path, _schema(name, column_names(path, files)), files)
        for name, key in (("images", "image_id"), ("categories", "category_id")):
            known = tables[name][key]
            if _collide(known.to_numpy()):
                raise DataError(f"{folder} has ids of {name} that no table can hold; delete it and run again")
            if not known.is_unique or not tables["annotations"][key].isin(known).all():
                raise DataError(f"{folder} contradicts itself about {name}; delete it and run again")
        return cls(**tables)


def _collide(ids: NDArray[np.int64]) -> bool:
    """Whether thousands of ids are made to have one hash, so that tables of pandas take the square of their number."""
    hashes = ((ids >> 33) ^ ids ^ (ids << 11)) & 0xFFFFFFFF
    return bool(len(ids)) and int(np.unique(hashes, return_counts=True)[1].max()) > _SAME_HASH


def _schema(name: str, columns: Collection[str]) -> pa.Schema:
    """A table's columns, of which some files have one more."""
    more = _OPTIONAL.get(name)
    return _TABLES[name].append(more) if more is not None and more.name in columns else _TABLES[name]
