"""Every figure of a run by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace

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
from robustbench_sgdm.tables import identical_words

DRAW: Mapping[str, Callable[[Material], Drawn]] = {
    "severity": severity,
    "differences": differences_of,
    "means": means,
    "sizes": sizes,
    "errors": errors_of,
    "psnr": psnr,
    "classes": losses_by_class,
    "losses": losses,
    "side-by-side": flipped,
    "contact-sheet": sheet_of,
}
"""What draws each of `types.FIGURES`, in the order of the report."""

_ALONE = ("losses", "contact-sheet")  # they compare nothing


def draw(name: str, material: Material) -> Drawn:
    """Draw a run's figure; its caption names the pairs that put out the same.

    Raises:
        UsageError: there is no such figure.
        DataError: the run lacks what it needs.
    """
    if name not in DRAW:
        raise errors.unknown("figure", name, DRAW)
    drawn = DRAW[name](material)
    if name in _ALONE:
        return drawn
    same = "".join(f" {identical_words(*pair, why)}." for pair, why in material.identical.items())
    return replace(drawn, caption=drawn.caption + same)
