"""What the HTML file has beyond the PDF: drawings that follow light and dark, and tables to download."""

import base64
import re

from robustbench_sgdm import figures, tables
from robustbench_sgdm.core import palette
from robustbench_sgdm.tables import Table

_DARK_TEXT, _DARK_PAGE = "#e6edf3", "#0d1117"  # as in `report.css`
_DARK = {  # of lines and letters, as `plots.mplstyle` has them
    "#24292f": _DARK_TEXT,
    "#000000": _DARK_TEXT,
    "#262626": _DARK_TEXT,
    "#57606a": "#a2acb8",
    "#e1e4e8": "#30363d",
}


def data_uri(svg: str) -> str:
    """A figure for `src`: SVG text, which then follows light and dark."""
    style = _dark_style(is_photograph="data:image/jpeg" in svg)
    return figures.data_uri(svg.replace("<defs>", f"<style>{style}</style><defs>", 1))


def csv_uri(table: Table) -> str:
    """A table as CSV for `href`."""
    content = base64.b64encode(tables.to_csv(table).encode()).decode()
    return f"data:text/csv;charset=utf-8;base64,{content}"


def file_name(title: str) -> str:
    """A plain file name from a title.

    >>> file_name("Means of AP at severities 1, 3, 5")
    'means-of-ap-at-severities-1-3-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:80] or "table"


def _dark_style(*, is_photograph: bool) -> str:
    """Rules for matplotlib's SVG, whose colours are in `style` attributes: letters, lines and grounds turn."""
    rules = [f"svg{{fill:{_DARK_TEXT}}}", _rule('path[style*="fill: #ffffff"]', "fill", _DARK_PAGE)]
    lifted = {color: palette.lift(color) for color in palette.MODEL_COLORS}
    for old, new in {**_DARK, **lifted}.items():
        rules += [_rule(f'[style*="{what}: {old}"]', what, new) for what in ("fill", "stroke")]
    if is_photograph:  # not of maps, whose numbers are dark or light by the colour below them
        rules.append("image{filter:brightness(.85)}")
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


def _rule(selector: str, what: str, color: str) -> str:
    return f"{selector}{{{what}:{color} !important}}"
