"""The options of RDConv and SGDM: named once for the modules, for their cost and for whatever parses them."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from typing import Literal

Spatial = Literal["shared", "channel"]
Cheap = Literal["depthwise", "pointwise"]


@dataclass(frozen=True)
class RDConvOptions:
    """How an RDConv of n channels is built.

    Attributes:
        razor: m / n, in (0, 1]; 0.5 in the paper (table 6).
        kernels: K, 4 in the paper.
        strip: length of the spatial branch's strip kernels, odd; 15 in the paper (table 7).
        hidden: width between fc1 and fc2. A choice; n if None.
        kernel_size: k, odd.
        spatial: "shared", one k x k map for all channels, or "channel", one per intrinsic channel. A choice.
        cheap: "depthwise" k x k or "pointwise" 1 x 1. A choice.
        guided: start the bank as a modulator near 1, for use with a guide; else as a plain convolution.
    """

    razor: float = 0.5
    kernels: int = 4
    strip: int = 15
    hidden: int | None = None
    kernel_size: int = 3
    spatial: Spatial = "shared"
    cheap: Cheap = "depthwise"
    guided: bool = False


@dataclass(frozen=True)
class SGDMOptions:
    """How an SGDM of c channels is built.

    Attributes:
        split: n / c, in (0, 1/3]; 0.25 in the paper (table 8).
        razor: share of n that is convolved dynamically, in (0, 1]; 0.5 in the paper (table 6).
        strip: length of the spatial attention's strip kernels, odd; 15 in the paper (table 7).
        kernels: K, 4 in the paper.
        static: length k * k of the static strip kernels, the square of an odd k; 9 in the paper.
        hidden: width inside the kernel attention. A choice; n if None.
        spatial: "shared" or "channel", see `RDConvOptions`. A choice.
        cheap: "depthwise" or "pointwise", see `RDConvOptions`. A choice.
        gamma: first BatchNorm weight. A choice: 1 to train from scratch; 0 makes the module exactly the
            identity, for grafting into a pretrained detector.
    """

    split: float = 0.25
    razor: float = 0.5
    strip: int = 15
    kernels: int = 4
    static: int = 9
    hidden: int | None = None
    spatial: Spatial = "shared"
    cheap: Cheap = "depthwise"
    gamma: float = 1.0


def module_signature(options: type) -> Signature:
    """Of a module built as `cls(channels, ...)` with these options, in order or by name, as model YAMLs have them."""
    channels = Parameter("channels", Parameter.POSITIONAL_OR_KEYWORD, annotation=int)
    return Signature([channels, *signature(options).parameters.values()])


def channel_count(channels: int, ratio: float) -> int:
    """Whole channels in `ratio` of `channels`, rounded down so that three shares of a third always fit."""
    return int(channels * ratio + 1e-9)
