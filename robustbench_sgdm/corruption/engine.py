"""Applies a corruption to a batch: checks what goes in, runs an engine, checks what comes out."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustbench_sgdm.core import errors, resources
from robustbench_sgdm.core.errors import CorruptionError, RobustBenchError, UsageError
from robustbench_sgdm.core.seeding import BatchRng, derive_seed
from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import imgaug_engine
from robustbench_sgdm.corruption.composition import Composition
from robustbench_sgdm.corruption.decorator import MAX_SEVERITY
from robustbench_sgdm.corruption.definition import Corruption

Engine = Callable[[Corruption, Tensor, float, Sequence[int]], Tensor]


def apply_corruption(
    corruption: Corruption,
    images: Tensor,
    severity: float,
    *,
    seed: int,
    image_ids: Sequence[int],
    engine: str = "torch",
) -> Tensor:
    """Corrupt a batch; severity 0 returns a copy.

    Args:
        corruption: what to do.
        images: uint8 RGB (B, 3, H, W); left as it is.
        severity: any real number in [0, 5]; whole for the imgaug engine.
        seed: of the run.
        image_ids: one per image; pixels depend on it, on the seed, the corruption and the severity only.
        engine: `torch` (ours, on the images' device) or `imgaug` (the reference, on the CPU).

    Returns:
        uint8 (B, 3, H, W) on the device of `images`, sharing no memory with it.

    Raises:
        UsageError: the images, the severity or the engine are not such.
        CorruptionError: the corruption's function raised or returned something else than it must.
    """
    _check_batch(images, image_ids)
    if not (math.isfinite(severity) and 0 <= severity <= MAX_SEVERITY):
        raise UsageError(f"severity {severity} is not in [0, {MAX_SEVERITY}]")
    if engine not in ENGINES:
        raise errors.unknown_name_error("engine", engine, ENGINES)
    if severity == 0 or len(images) == 0:
        return images.clone()
    if isinstance(corruption, Composition):
        corruption.check_severity(severity)
        for part in corruption.parts:
            images = apply_corruption(
                part.corruption,
                images,
                part.effective_severity(severity),
                seed=seed,
                image_ids=image_ids,
                engine=engine,
            )
        return images
    seeds = [derive_seed(seed, corruption.name, severity, image_id) for image_id in image_ids]
    return ENGINES[engine](corruption, images.contiguous(), severity, seeds)


def _torch(corruption: Corruption, images: Tensor, severity: float, seeds: Sequence[int]) -> Tensor:
    strength = corruption.strength(severity)
    before = None if _is_ours(corruption.path) else images.clone()
    try:
        out = corruption.function(images, strength, BatchRng(seeds, images.device))
    except (RobustBenchError, torch.OutOfMemoryError):  # both mean something to the caller
        raise
    except Exception as error:
        raise CorruptionError(f"{_where(corruption)} raised {type(error).__name__}: {error}") from error
    if before is not None and not _are_equal(before, images):
        raise CorruptionError(f"{_where(corruption)} changed its input; work on a copy, `images.clone()`")
    _check_output(corruption, images, out)
    shared = before is not None and out.data_ptr() == images.data_ptr()  # never by ours
    return out.clone() if shared else out


@cache
def _is_ours(path: Path) -> bool:
    """Whether a file is one of our folder, which the contract tests hold to leaving their input as it is."""
    return path.is_relative_to((resources.root() / "corruptions").resolve())


def _are_equal(a: Tensor, b: Tensor) -> bool:
    """Whether two batches of bytes are equal; NumPy sees that ten times as fast as torch."""
    return np.array_equal(a.numpy(), b.numpy()) if a.device.type == "cpu" else torch.equal(a, b)


def _imgaug(corruption: Corruption, images: Tensor, severity: float, seeds: Sequence[int]) -> Tensor:
    if corruption.explicit_parameters is not None:
        raise UsageError(f"the imgaug engine has the published strengths only, not {corruption.name}")
    done = []
    for image, image_seed in zip(images.permute(0, 2, 3, 1).cpu().numpy(), seeds, strict=True):
        done.append(torch.from_numpy(imgaug_engine.corrupt(corruption.name, image, severity, image_seed)))
    return to_device(torch.stack(done).permute(0, 3, 1, 2).contiguous(), images.device)


ENGINES: dict[str, Engine] = {"torch": _torch, "imgaug": _imgaug}


def _check_batch(images: Tensor, image_ids: Sequence[int]) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise UsageError(f"images must be uint8 (B, 3, H, W), not {_describe(images)}")
    if len(image_ids) != len(images):
        raise UsageError(f"{len(images)} images need as many image ids, not {len(image_ids)}")


def _check_output(corruption: Corruption, images: Tensor, out: object) -> None:
    if not isinstance(out, Tensor):
        raise CorruptionError(f"{_where(corruption)} returned {type(out).__name__}, not a tensor")
    if (out.dtype, out.shape, out.device) != (images.dtype, images.shape, images.device):
        raise CorruptionError(
            f"{_where(corruption)} returned {_describe(out)}; it must return {_describe(images)}"
        )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} on {tensor.device}"


def _where(corruption: Corruption) -> str:
    return f"{corruption.path}: {corruption.qualname}"
