"""How `make docs` builds the site: Sphinx, MyST for Markdown, Furo for the looks. Nothing is fetched."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tools")]

import reference  # type: ignore[import-not-found]  # noqa: E402 - found by the line above

from robustbench_sgdm import __version__  # noqa: E402

project = "RobustBench-SGDM"
author = "the authors of RobustBench-SGDM"
copyright = "the authors of RobustBench-SGDM, AGPL-3.0-or-later"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["data", "cluster"]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
default_role = "code"  # docstrings put names in single backticks
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"RobustBench-SGDM {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options: dict[str, Any] = {"top_of_page_buttons": []}


def setup(app: Any) -> None:
    """Write the generated reference before anything is read; make docstrings and pages fit the site."""
    app.connect("builder-inited", _write_reference)
    app.connect("autodoc-process-docstring", _mark_code, priority=100)  # before napoleon takes sections apart
    app.connect("html-page-context", _let_keys_scroll)


def _write_reference(app: Any) -> None:
    reference.write_pages(Path(app.srcdir) / "reference" / "generated")


def _mark_code(_app: Any, _what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """An indented block after a colon is code."""
    for place in range(len(lines) - 2):
        text, gap, code = lines[place : place + 3]
        if text.endswith(":") and not gap and code.startswith(" " * (len(text) - len(text.lstrip()) + 4)):
            lines[place] = f"{text}:"


def _let_keys_scroll(_app: Any, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Blocks that scroll can be reached with the keyboard."""
    body = context.get("body", "").replace("<pre>", '<pre tabindex="0">')
    context["body"] = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
