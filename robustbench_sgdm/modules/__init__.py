"""Modules that can be inserted into a detector: channels in, the same channels out."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from robustbench_sgdm.core.errors import unknown_name_error
from robustbench_sgdm.modules.attention import CoordinateAttention, UltralyticsCBAM, WooCBAM
from robustbench_sgdm.modules.condconv import SGDMCondConv
from robustbench_sgdm.modules.cost import ModuleCost, sgdm_cost
from robustbench_sgdm.modules.dcd import SGDMDCD
from robustbench_sgdm.modules.dyconv import SGDMDyConv
from robustbench_sgdm.modules.dynamic import set_temperature
from robustbench_sgdm.modules.odconv import SGDMODConv
from robustbench_sgdm.modules.options import RDConvOptions, SGDMOptions
from robustbench_sgdm.modules.rdconv import Attention, RDConv
from robustbench_sgdm.modules.rfaconv import RFAConv
from robustbench_sgdm.modules.sgdm import SGDM

__all__ = [
    "MODULES",
    "SGDM",
    "Attention",
    "ModuleCost",
    "ModuleSpec",
    "RDConv",
    "RDConvOptions",
    "SGDMOptions",
    "build_module",
    "set_temperature",
    "sgdm_cost",
]

_SGDM = "SGDM: Static-Guided Dynamic Module Make Stronger Visual Models"


@dataclass(frozen=True)
class ModuleSpec:
    """A module and where it comes from.

    Attributes:
        name: key in `MODULES`.
        cls: built as `cls(channels, **options)`, maps (B, channels, H, W) to the same shape.
        source: publication and the equations or section that define it.
        summary: one line.
    """

    name: str
    cls: type[nn.Module]
    source: str
    summary: str

    @property
    def can_start_as_identity(self) -> bool:
        """Whether `gamma=0` makes it return its input until it is trained."""
        return "gamma" in inspect.signature(self.cls).parameters


_SPECS = (
    ModuleSpec(
        "sgdm",
        SGDM,
        f"{_SGDM}, equations (8) to (10)",
        "four branches; two static strip convolutions guide a razor dynamic convolution",
    ),
    ModuleSpec(
        "rdconv",
        RDConv,
        f"{_SGDM}, equations (5) to (7)",
        "razor dynamic convolution alone, without guide, normalisation or residual",
    ),
    ModuleSpec(
        "sgdm+condconv",
        SGDMCondConv,
        f"{_SGDM}, table 3; CondConv: Conditionally Parameterized Convolutions (Yang et al. 2019)",
        "SGDM with CondConv in RDConv's place",
    ),
    ModuleSpec(
        "sgdm+dyconv",
        SGDMDyConv,
        f"{_SGDM}, table 3; Dynamic Convolution: Attention over Convolution Kernels (Chen et al. 2020)",
        "SGDM with DyConv in RDConv's place; `set_temperature` anneals it",
    ),
    ModuleSpec(
        "sgdm+dcd",
        SGDMDCD,
        f"{_SGDM}, table 3; Revisiting Dynamic Convolution via Matrix Decomposition (Li et al. 2021)",
        "SGDM with DCD in RDConv's place",
    ),
    ModuleSpec(
        "sgdm+odconv",
        SGDMODConv,
        f"{_SGDM}, table 3; Omni-Dimensional Dynamic Convolution (Li et al. 2022)",
        "SGDM with ODConv in RDConv's place; `set_temperature` anneals it",
    ),
    ModuleSpec(
        "cbam",
        WooCBAM,
        "CBAM: Convolutional Block Attention Module (Woo et al. 2018), timm's CbamModule",
        "attention over channels, then over places",
    ),
    ModuleSpec(
        "cbam_ultralytics",
        UltralyticsCBAM,
        "Ultralytics' CBAM, after RTMDet's channel attention",
        "Ultralytics' variant: mean only, one full layer over channels, no BatchNorm",
    ),
    ModuleSpec(
        "ca",
        CoordinateAttention,
        "Coordinate Attention for Efficient Mobile Network Design (Hou et al. 2021), timm's CoordAttn",
        "attention over channels from means over rows and over columns",
    ),
    ModuleSpec(
        "rfaconv",
        RFAConv,
        "RFAConv: Innovating Spatial Attention and Standard Convolutional Operation (Zhang et al. 2023)",
        "3x3 convolution whose taps are weighted at each place",
    ),
)

MODULES: dict[str, ModuleSpec] = {spec.name: spec for spec in _SPECS}


def build_module(name: str, channels: int, **options: Any) -> nn.Module:
    """Build the module `name` of `MODULES` for `channels` channels.

    Raises:
        ValueError: the name or an option is unknown (the nearest are offered), or an option is impossible.
    """
    if name not in MODULES:
        raise ValueError(str(unknown_name_error("module", name, MODULES)))
    cls = MODULES[name].cls
    known = [option for option in inspect.signature(cls).parameters if option != "channels"]
    for option in options:
        if option not in known:
            raise ValueError(str(unknown_name_error(f"option of {name}", option, known)))
    return cls(channels, **options)
