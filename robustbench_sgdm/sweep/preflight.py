"""Checks before a run starts: what cannot work should not fail hours later."""

from collections.abc import Sequence

import numpy as np
import torch

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.corruption import Corruption
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.sweep.plan import Plan

_MAX_IMAGES = 4  # that two detectors are compared on


def check_corruptions(
    corruptions: Sequence[Corruption],
    severities: Sequence[float],
    engine: str,
    device: str = "cpu",
    size: tuple[int, int] = (64, 64),
) -> None:
    """Run every corruption once on a grey image.

    Args:
        corruptions: to try.
        severities: at which.
        engine: `torch` or `imgaug`.
        device: that it runs on.
        size: height and width of the image, px; larger ones are cut to 64.

    Raises:
        UsageError: the engine does not support a corruption or a severity.
        DataError: a corruption of the user fails.
    """
    grey = torch.full((1, 3, *(min(side, 64) for side in size)), 128, dtype=torch.uint8, device=device)
    for corruption in corruptions:
        for severity in corruption.effective_severities(severities):
            corrupting.apply_corruption(corruption, grey, severity, seed=0, image_ids=[0], engine=engine)


def have_same_outputs(plan: Plan, baseline: str, model: str) -> bool:
    """Whether two detectors detect the same, judged by the first of a few images in which either detects anything.

    Boxes may differ by a hundredth of a pixel, scores by a hundredth of a percent: rounding.
    """
    for image in plan.dataset.images[:_MAX_IMAGES]:
        pixels = torch.from_numpy(decoding.read_image(image).transpose(2, 0, 1).copy()).to(
            plan.settings.device
        )
        first, second = (plan.models[name].detector.predict([pixels])[0] for name in (baseline, model))
        if len(first) or len(second):
            return len(first) == len(second) and all(
                np.allclose(getattr(first, name), getattr(second, name), rtol=0, atol=tolerance)
                for name, tolerance in (("xyxy", 1e-2), ("scores", 1e-4), ("labels", 0))
            )
    return False
