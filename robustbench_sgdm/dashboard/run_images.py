"""Images as a run's detectors saw them: read and corrupted again, after a click."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.dashboard import image_viewer
from robustbench_sgdm.dashboard.inference import exclusive_use
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.store import Manifest

Pixels = NDArray[np.uint8]

_CACHED_IMAGES = 16  # of at most 10 MB each, as data URLs; pixels themselves are not cached
_CACHED_PREVIEWS = 512  # of at most 60 kB each


@dataclass(frozen=True)
class RunImage:
    """An image as a run saw it. The fields decide its pixels, and caches go by them.

    Attributes:
        file: path of the image.
        width: px.
        height: px.
        upright: whether the EXIF orientation is applied.
        image_id: in the run's ground truth.
        data: fingerprint of the run's images.
        corruption: its name, or `clean`.
        severity: 0 to 5.
        seed: of the run.
        engine: of the run.
        fingerprint: of the corruption when the run was made.
    """

    file: str
    width: int
    height: int
    upright: bool
    image_id: int
    data: str
    corruption: str
    severity: float
    seed: int
    engine: str
    fingerprint: str | None

    @classmethod
    def from_manifest(cls, manifest: Manifest, row: Any, corruption: str, severity: float) -> "RunImage":
        """From a run's manifest and a row of its ground truth's images."""
        name = CLEAN if severity == 0 else corruption
        settings, recorded = manifest.settings, manifest.corruptions.get(name)
        return cls(
            str(row.file),
            int(row.width),
            int(row.height),
            bool(getattr(row, "upright", True)),
            int(row.image_id),
            manifest.data.fingerprint,
            name,
            severity,
            settings.seed,
            settings.engine,
            recorded.fingerprint if recorded else None,
        )

    @cached_property
    def clean(self) -> Pixels:
        """(H, W, 3) RGB.

        Raises:
            DataError: the file is missing or not an image.
        """
        return decoding.read_image(
            Image(self.image_id, Path(self.file), self.width, self.height, self.upright)
        )

    @cached_property
    def pixels(self) -> Pixels:
        """What the run's detectors saw, (H, W, 3) RGB.

        Raises:
            DataError: as `clean`; or the corruption is unknown or has changed since.
        """
        if self.corruption == CLEAN:
            return self.clean
        from robustbench_sgdm import corruption as corrupting

        try:
            one = corrupting.load_corruptions().get(self.corruption)
        except UsageError as error:
            raise DataError(f"{self.corruption} is not among this version's corruptions: {error}") from error
        return corrupting.reproduce(
            one,
            self.clean,
            self.severity,
            seed=self.seed,
            image_id=self.image_id,
            engine=self.engine,
            fingerprint=self.fingerprint,
        )


@st.cache_data(max_entries=_CACHED_IMAGES, show_spinner="Preparing the image")
def image_url(image: RunImage) -> str:
    """A run's image as a data URL.

    Raises:
        DataError: as `RunImage.pixels`.
        RobustBenchError: the server is busy for other visitors.
    """
    with exclusive_use():
        return image_viewer.data_url(image.pixels)


@st.cache_data(max_entries=_CACHED_PREVIEWS, show_spinner=False)
def preview_url(image: RunImage, side: int) -> str:
    """A run's image as a small JPEG in a data URL, its longer side at most `side` px.

    Raises:
        DataError: as `RunImage.pixels`.
        RobustBenchError: the server is busy for other visitors.
    """
    with exclusive_use():
        return image_viewer.preview_url(image.pixels, side)
