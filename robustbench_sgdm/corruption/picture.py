"""One picture instead of a batch, and the pixels that a run saw."""

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_sgdm.corruption.engine import ENGINES, apply
from robustbench_sgdm.corruption.entry import Corruption
from robustbench_sgdm.errors import DataError


def apply_to_picture(
    corruption: Corruption,
    picture: NDArray[np.uint8],
    severity: float,
    *,
    seed: int,
    image_id: int,
    engine: str = "torch",
    device: str = "cpu",
) -> NDArray[np.uint8]:
    """`apply` for one picture, (H, W, 3) RGB."""
    batch = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()).to(device)
    noisy = apply(corruption, batch, severity, seed=seed, image_ids=[image_id], engine=engine)
    return np.ascontiguousarray(noisy[0].permute(1, 2, 0).cpu().numpy())


def apply_again(
    corruption: Corruption,
    picture: NDArray[np.uint8],
    severity: float,
    *,
    seed: int,
    image_id: int,
    engine: str,
    fingerprint: str | None,
    device: str = "cpu",
) -> NDArray[np.uint8]:
    """The pixels that a run saw.

    Args:
        corruption: of the run, as it is now.
        picture: clean, (H, W, 3) RGB.
        severity: 0 to 5.
        seed: of the run.
        image_id: of the picture.
        engine: of the run.
        fingerprint: of the corruption when the run was made.
        device: of the run's kind; pixels of another kind differ in their noise.

    Raises:
        DataError: the images were corrupted elsewhere, or the corruption is another one by now.
    """
    check_own(engine)
    if corruption.fingerprint(engine) != fingerprint:
        raise DataError(
            f"{corruption.name} is not what it was when the run was made; run again to see it as it is now"
        )
    return apply_to_picture(
        corruption, picture, severity, seed=seed, image_id=image_id, engine=engine, device=device
    )


def check_own(engine: str) -> None:
    """Refuse to make again what no engine of ours made.

    Raises:
        DataError: the images were corrupted elsewhere.
    """
    if engine not in ENGINES:
        raise DataError("the run's images were corrupted elsewhere, so they cannot be made again")
