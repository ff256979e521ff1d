"""Reproduces the corrupted images that figures show, from the data set's images and the run's seed."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.corruption import Corruption
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.store import Run, has_image, write_image


def make_corrupted_images(
    run: Run,
    wanted: Iterable[tuple[str, float, int]],
    corruptions: Mapping[str, Corruption],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Store the images of (corruption, severity, image id) that the run does not have yet.

    Args:
        run: that keeps them.
        wanted: which.
        corruptions: the run's, by name.
        progress: called with the number of images just made.

    Returns:
        How many were made.

    Raises:
        DataError: an image is missing, or a corruption changed since the run.
    """
    todo: dict[int, list[tuple[str, float]]] = {}
    for corruption, severity, image_id in wanted:
        if not has_image(run, corruption, severity, image_id):
            todo.setdefault(image_id, []).append((corruption, severity))
    if not todo:
        return 0
    images = run.ground_truth().dataset_images()
    for image_id, versions in todo.items():
        if image_id not in images:
            raise DataError(f"{run.path} has no image {image_id}; its first ids are {_first_ids(images)}")
        clean = decoding.read_image(images[image_id])
        for name, severity in dict.fromkeys(versions):
            pixels = clean
            if name != CLEAN:
                corrupting.check_reproducible(run.manifest.settings.engine)
                if name not in corruptions:
                    raise DataError(
                        f"corruption {name!r} is not installed; pass its folder with --corruption-dir"
                    )
                pixels = _reproduce(run, corruptions[name], severity, clean, image_id)
            write_image(run, name, severity, image_id, pixels)
            progress(1)
    return sum(map(len, todo.values()))


def _reproduce(
    run: Run, corruption: Corruption, severity: float, clean: NDArray[np.uint8], image_id: int
) -> NDArray[np.uint8]:
    settings, recorded = run.manifest.settings, run.manifest.corruptions.get(corruption.name)
    return corrupting.reproduce(
        corruption,
        clean,
        severity,
        seed=settings.seed,
        image_id=image_id,
        engine=settings.engine,
        fingerprint=recorded.fingerprint if recorded else None,
    )


def _first_ids(images: Mapping[int, Image]) -> str:
    return ", ".join(map(str, list(images)[:5]))
