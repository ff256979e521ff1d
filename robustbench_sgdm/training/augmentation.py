"""Registered corruptions as training augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustbench_sgdm import corruption
from robustbench_sgdm.corruption import Corruption

CORRUPTED_SHARE = 0.5
"""Share of the training images that are corrupted."""


@dataclass(frozen=True)
class CorruptionAugmentation:
    """Corrupts half of a training batch, each image by one of some corruptions at a severity drawn from (0, 5].

    Applied after every other augmentation, at training size: evaluation corrupts the image before it is resized.
    Draws follow from (seed, epoch, batch, rank) alone, so every model meets the same.

    Attributes:
        corruptions: to draw from, each as likely.
    """

    corruptions: Sequence[Corruption]

    def __call__(self, images: Tensor, seed: int, epoch: int, batch: int, rank: int = 0) -> Tensor:
        """Corrupt uint8 RGB (B, 3, H, W); a new tensor."""
        rng = np.random.default_rng([seed, epoch, batch, rank])
        chosen = rng.random(len(images)) < CORRUPTED_SHARE
        which = rng.integers(len(self.corruptions), size=len(images))
        severities = 5 * (1 - rng.random(len(images)))
        draw = int(rng.integers(2**62))
        rows = []
        for i in range(len(images)):
            image = images[i : i + 1]
            kind, severity = self.corruptions[which[i]], float(severities[i])
            if kind.explicit_parameters is not None:
                severity = 1.0
            rows.append(
                corruption.apply_corruption(kind, image, severity, seed=draw, image_ids=[i])
                if chosen[i]
                else image
            )
        return torch.cat(rows)

    def attach(self, run: Any) -> None:
        """Callback for the start of training: a spawned process gets its noise with its callbacks."""
        run.noise = self

    def metadata(self) -> dict[str, Any]:
        """For a run's record."""
        return {
            "corruptions": {kind.name: kind.fingerprint() for kind in self.corruptions},
            "share of the images": CORRUPTED_SHARE,
            "severity": "uniform in (0, 5]",
            "applied": "after the other augmentation, at training size",
        }
