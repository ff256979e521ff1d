"""Images as a run's detectors saw them, kept for figures on machines without the data."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, UnsafeFileError
from robustbench_sgdm.store.cells import cell_key
from robustbench_sgdm.store.runs import Run

LONGEST = 800
"""Pixels of the longer side; larger images are kept smaller."""


def image_path(run: Run, corruption: str, severity: float, image_id: int) -> Path:
    """Where an image lies, `images/<corruption>/<severity>/<image id>.jpg`, whether or not it is there."""
    return run.path / "images" / corruption / f"{severity:g}" / f"{image_id}.jpg"


def write_image(run: Run, corruption: str, severity: float, image_id: int, pixels: NDArray[np.uint8]) -> Path:
    """Write (H, W, 3) RGB pixels as JPEG, with what they were made from as its comment."""
    picture = Pillow.fromarray(pixels)
    picture.thumbnail((LONGEST, LONGEST), Pillow.Resampling.LANCZOS)
    stamp = _stamp(run, corruption, severity)
    path = image_path(run, corruption, severity, image_id)
    buffer = io.BytesIO()  # Pillow, writing to a full disk itself, leaves half a JPEG and says nothing
    picture.save(buffer, "JPEG", quality=92, subsampling=0, comment=stamp.encode())
    run.files.write_bytes(path, buffer.getvalue(), sync=False)
    return path


def has_image(run: Run, corruption: str, severity: float, image_id: int) -> bool:
    """Whether an image is there and shows what the run's detectors saw."""
    try:
        path = image_path(run, corruption, severity, image_id)
        with run.files.open(path) as file, Pillow.open(file, formats=("JPEG",)) as picture:
            return picture.info.get("comment") == _stamp(run, corruption, severity).encode()
    except UnsafeFileError:
        raise
    except Exception:  # noqa: BLE001 - whatever a damaged file provokes, it is not that picture
        return False


def read_image(run: Run, corruption: str, severity: float, image_id: int) -> NDArray[np.uint8]:
    """A kept image, (H, W, 3) RGB.

    Raises:
        DataError: it is not there, damaged, or of another run.
    """
    path = image_path(run, corruption, severity, image_id)
    if not has_image(run, corruption, severity, image_id):
        raise DataError(
            f"{path} is missing or of another run; make it with: robustbench figure side-by-side {run.path}"
        )
    try:
        with run.files.open(path) as file, Pillow.open(file, formats=("JPEG",)) as picture:
            if max(picture.size) > LONGEST:
                raise ValueError(
                    f"{picture.width} x {picture.height} px, kept ones have {LONGEST} at the most"
                )
            return np.array(picture.convert("RGB"))
    except Exception as error:
        raise DataError(f"{path} cannot be decoded ({error}); delete it") from error


def _stamp(run: Run, corruption: str, severity: float) -> str:
    """Hash of all that decides the pixels beside the image's id."""
    manifest = run.manifest
    parts: dict[str, Any] = {"data": manifest.data.fingerprint, "severity": float(severity)}
    if corruption != CLEAN:
        settings, recorded = manifest.settings, manifest.corruptions.get(corruption)
        parts |= {"corruption": recorded and recorded.fingerprint, "seed": settings.seed}
        parts |= {"engine": settings.engine, "device": settings.device_kind}
    return cell_key(**parts)
