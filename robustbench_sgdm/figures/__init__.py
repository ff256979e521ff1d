"""Figures: pure functions from frames to a matplotlib Figure; style by context manager.

draw("severity", Material(run))   # any figure of a run by its name in `figures()`, with caption and data
"""

from robustbench_sgdm.figures.bars import class_drops, mean_bars, size_bars
from robustbench_sgdm.figures.contact import contact_sheet
from robustbench_sgdm.figures.differences import difference_map
from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.errors import error_bars
from robustbench_sgdm.figures.losses import loss_curves
from robustbench_sgdm.figures.material import Material, Shown
from robustbench_sgdm.figures.psnr import damage_curves
from robustbench_sgdm.figures.registry import draw, figure, figures
from robustbench_sgdm.figures.severity import severity_curves
from robustbench_sgdm.figures.side_by_side import Panel, side, side_by_side
from robustbench_sgdm.figures.style import check_ending, colors, jpeg, save, styled, svg, uri

__all__ = [
    "Drawn",
    "Material",
    "Panel",
    "Shown",
    "check_ending",
    "class_drops",
    "colors",
    "contact_sheet",
    "damage_curves",
    "difference_map",
    "draw",
    "error_bars",
    "figure",
    "figures",
    "jpeg",
    "loss_curves",
    "mean_bars",
    "save",
    "severity_curves",
    "side",
    "side_by_side",
    "size_bars",
    "styled",
    "svg",
    "uri",
]
