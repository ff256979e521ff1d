"""Training recipes as data: what Ultralytics' trainer is told, one table for both arms of a comparison."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from robustbench_sgdm.errors import unknown

# Common to every recipe: nothing is downloaded, drawn or sent, and a seed decides everything.
_QUIET = {"pretrained": False, "plots": False, "save_json": False, "deterministic": True, "compile": False}

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # From scratch in few iterations: a step per small batch, so that warm-up and averaging are soon done.
        "quick": {
            **_QUIET,
            "optimizer": "AdamW",
            "lr0": 0.002,
            "lrf": 0.02,
            "cos_lr": True,
            "momentum": 0.9,
            "weight_decay": 0.01,
            "warmup_epochs": 1.0,
            "warmup_bias_lr": 0.0,
            "warmup_momentum": 0.9,
            "nbs": 1,
            "cache": "ram",
            "amp": False,
            "conf": 0.01,  # in the validation after each epoch only, where the many weakest boxes cost most
            "mosaic": 0.0,
            "close_mosaic": 0,
            "scale": 0.2,
            "translate": 0.1,
            "fliplr": 0.5,
            "hsv_h": 0.015,
            "hsv_s": 0.4,
            "hsv_v": 0.3,
            "auto_augment": None,
            "erasing": 0.0,
        },
        # Ultralytics' own defaults, whatever the installed version has.
        "ultralytics": {**_QUIET, "amp": False},
    }
)


def recipe(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a recipe, with a user's overrides.

    Raises:
        UsageError: no such recipe; the nearest names are offered.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return {**RECIPES[name], **overrides}
