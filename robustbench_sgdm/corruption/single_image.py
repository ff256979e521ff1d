"""One image instead of a batch, and the pixels that a run saw, once more."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.rgb import to_rgb
from robustbench_sgdm.corruption.definition import Corruption
from robustbench_sgdm.corruption.engine import ENGINES, apply_corruption

AnyImage = TypeVar("AnyImage")


def corrupt_image(
    corruption: Corruption,
    image: NDArray[np.uint8],
    severity: float,
    *,
    seed: int,
    image_id: int,
    engine: str = "torch",
) -> NDArray[np.uint8]:
    """`apply_corruption` for one image, (H, W, 3) RGB."""
    batch = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
    noisy = apply_corruption(corruption, batch, severity, seed=seed, image_ids=[image_id], engine=engine)
    return np.ascontiguousarray(noisy[0].permute(1, 2, 0).cpu().numpy())


def corrupt_any_image(
    corruption: Corruption,
    image: AnyImage,
    severity: float,
    *,
    seed: int = 0,
    image_id: int = 0,
    engine: str = "torch",
) -> AnyImage:
    """Corrupt a PIL image, a uint8 (H, W, 3) array, or a uint8 (3, H, W) or (B, 3, H, W) tensor; returns the same type.

    Pictures come back as RGB, whatever their mode.

    Raises:
        UsageError: the image is something else.
    """
    result: Any
    if isinstance(image, Pillow.Image):
        try:
            pixels = to_rgb(image)
        except ValueError as error:
            raise UsageError(f"the image has mode {image.mode}: {error}; convert it to RGB") from None
        result = Pillow.fromarray(
            corrupt_image(corruption, pixels, severity, seed=seed, image_id=image_id, engine=engine)
        )
    elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        result = corrupt_image(corruption, image, severity, seed=seed, image_id=image_id, engine=engine)
    elif isinstance(image, torch.Tensor) and image.dtype == torch.uint8 and image.shape[-3:-2] == (3,):
        batch = image.reshape(-1, *image.shape[-3:])
        ids = range(image_id, image_id + len(batch))
        result = apply_corruption(
            corruption, batch, severity, seed=seed, image_ids=ids, engine=engine
        ).reshape(image.shape)
    else:
        kind = f"{getattr(image, 'dtype', type(image).__name__)} {tuple(getattr(image, 'shape', ()))}"
        raise UsageError(
            f"the image is {kind}; give a PIL image, a uint8 (H, W, 3) array or a uint8 (B, 3, H, W) tensor"
        )
    corrupted: AnyImage = result
    return corrupted


def reproduce(
    corruption: Corruption,
    image: NDArray[np.uint8],
    severity: float,
    *,
    seed: int,
    image_id: int,
    engine: str,
    fingerprint: str | None,
) -> NDArray[np.uint8]:
    """The pixels that a run saw; where it saw them on another device, to the rounding that `seeding` leaves.

    Args:
        corruption: of the run, as it is now.
        image: clean, (H, W, 3) RGB.
        severity: 0 to 5.
        seed: of the run.
        image_id: of the image.
        engine: of the run.
        fingerprint: of the corruption when the run was made.

    Raises:
        DataError: the images were corrupted outside this package, or the corruption changed since.
    """
    check_reproducible(engine)
    if corruption.fingerprint(engine) != fingerprint:
        raise DataError(f"{corruption.name} changed since the run; run again to see it as it is now")
    return corrupt_image(corruption, image, severity, seed=seed, image_id=image_id, engine=engine)


def check_reproducible(engine: str) -> None:
    """Refuse images that no engine of ours made, which cannot be reproduced.

    Raises:
        DataError: the images were corrupted outside this package.
    """
    if engine not in ENGINES:
        raise DataError("the run's images were corrupted outside this package, so they cannot be reproduced")
