"""Figures: pure functions from results to a matplotlib Figure; style by context manager."""

from robustbench_sgdm.figures.contact import contact_sheet
from robustbench_sgdm.figures.losses import loss_curves
from robustbench_sgdm.figures.severity import severity_curves
from robustbench_sgdm.figures.style import colors, save, styled, svg

__all__ = ["colors", "contact_sheet", "loss_curves", "save", "severity_curves", "styled", "svg"]
