"""Exported models as data: read whole, with bounds, from files and folders that a stranger may have made."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.detectors.runtimes.metadata import FileMetadata

MAX_BYTES = 2**31 - 1
"""Of a model with its weights: what protobuf, and so ONNX in memory, can hold."""


@dataclass(frozen=True)
class TensorSpec:
    """An input as a file declares it.

    Attributes:
        name: of the tensor.
        shape: an int for each axis, None where it may be any.
        dtype: NumPy's name.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model that was read and checked, and not loaded yet.

    Attributes:
        path: the file or folder.
        contents: `model`, and `weights` where they are apart.
        sha256: of everything that decides the output.
        image: the input that takes images.
        metadata: what the file says of itself.
    """

    path: Path
    contents: Mapping[str, bytes] = field(repr=False)
    sha256: str
    image: TensorSpec
    metadata: FileMetadata

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.contents.values()))


def read_own(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a file that lies beside others of a model; no link, pipe or device.

    Raises:
        DataError: it is missing, something else, larger, or cannot be read.
    """
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            raise DataError(
                f"{path} is a link, and links within a model are not followed: put the file there"
            )
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path} is not a regular file")
        if found.st_size > most:
            raise DataError(f"{path} has {found.st_size:,} bytes; the limit is {most:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; copy the whole model again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def digest(*parts: bytes) -> str:
    """sha256 of parts and their lengths."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(f"{len(part)};".encode() + part)
    return sha.hexdigest()
