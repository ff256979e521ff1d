"""Every figure of a run by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from robustbench_sgdm import errors
from robustbench_sgdm.figures.bars import losses_by_class, means, sizes
from robustbench_sgdm.figures.contact import sheet_of
from robustbench_sgdm.figures.differences import differences_of
from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.errors import errors_of
from robustbench_sgdm.figures.losses import losses
from robustbench_sgdm.figures.material import Material
from robustbench_sgdm.figures.psnr import psnr
from robustbench_sgdm.figures.severity import severity
from robustbench_sgdm.figures.side_by_side import flipped


@dataclass(frozen=True)
class Kind:
    """A figure that a run can have.

    Attributes:
        summary: one line for `--help`.
        draw: raises DataError with the reason where the run cannot have it.
    """

    summary: str
    draw: Callable[[Material], Drawn]


def draw(name: str, material: Material) -> Drawn:
    """Draw a run's figure.

    Raises:
        UsageError: there is no such figure.
        DataError: the run lacks what it needs.
    """
    if name not in FIGURES:
        raise errors.unknown("figure", name, FIGURES)
    return FIGURES[name].draw(material)


FIGURES: Mapping[str, Kind] = {
    "severity": Kind("AP against severity with interval bands, a panel per corruption", severity),
    "differences": Kind(
        "differences corruption by severity as a heat map, significance marked", differences_of
    ),
    "means": Kind("mPC and rPC by family with intervals", means),
    "sizes": Kind("AP of small, medium and large objects, clean and corrupted", sizes),
    "errors": Kind("error types by severity as stacked bars", errors_of),
    "psnr": Kind("AP against the measured PSNR of the corrupted images", psnr),
    "classes": Kind("AP lost by class", losses_by_class),
    "losses": Kind("training losses of the weights, where their logs are known", losses),
    "side-by-side": Kind("detections of both models on clean and corrupted images", flipped),
    "contact-sheet": Kind("one image under every corruption and severity", sheet_of),
}
"""All figures, in the order of the report."""
