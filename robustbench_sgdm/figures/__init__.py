"""Figures: pure functions from frames to a matplotlib Figure; style by context manager.

draw("severity", RunAnalysis(run))   # any figure of a run by its name in `all_figures()`, with caption and data
"""

from robustbench_sgdm.figures.bars import draw_class_drops, draw_mean_bars, draw_size_bars
from robustbench_sgdm.figures.compact_map import CompactMap, draw_compact_map
from robustbench_sgdm.figures.confusion import draw_confusion
from robustbench_sgdm.figures.contact import draw_contact_sheet
from robustbench_sgdm.figures.differences import draw_difference_map
from robustbench_sgdm.figures.error_types import draw_error_types
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.first_failure import draw_survival
from robustbench_sgdm.figures.flipped_objects import FlippedPanel, draw_flipped_objects
from robustbench_sgdm.figures.losses import draw_loss_curves
from robustbench_sgdm.figures.mean_curve import draw_mean_curve
from robustbench_sgdm.figures.operating_point import draw_precision_recall, draw_reliability
from robustbench_sgdm.figures.pareto import draw_pareto
from robustbench_sgdm.figures.psnr import draw_quality_curves
from robustbench_sgdm.figures.registry import all_figures, draw, figure
from robustbench_sgdm.figures.run_analysis import ImageRef, RunAnalysis
from robustbench_sgdm.figures.severity import draw_severity_curves
from robustbench_sgdm.figures.shift import draw_shift
from robustbench_sgdm.figures.side_by_side import Panel, PanelRow, draw_panels, draw_side_by_side
from robustbench_sgdm.figures.style import (
    check_suffix,
    colors_of,
    data_uri,
    encode_jpeg,
    encode_svg,
    plot_style,
    save_figure,
)

__all__ = [
    "CompactMap",
    "FigureResult",
    "FlippedPanel",
    "ImageRef",
    "Panel",
    "PanelRow",
    "RunAnalysis",
    "all_figures",
    "check_suffix",
    "colors_of",
    "data_uri",
    "draw",
    "draw_class_drops",
    "draw_compact_map",
    "draw_confusion",
    "draw_contact_sheet",
    "draw_difference_map",
    "draw_error_types",
    "draw_flipped_objects",
    "draw_loss_curves",
    "draw_mean_bars",
    "draw_mean_curve",
    "draw_panels",
    "draw_pareto",
    "draw_precision_recall",
    "draw_quality_curves",
    "draw_reliability",
    "draw_severity_curves",
    "draw_shift",
    "draw_side_by_side",
    "draw_size_bars",
    "draw_survival",
    "encode_jpeg",
    "encode_svg",
    "figure",
    "plot_style",
    "save_figure",
]
