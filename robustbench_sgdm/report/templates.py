"""The templates in `reports/`: of the report and of the leaderboard."""

from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from robustbench_sgdm.core import resources


def load_template(name: str, filters: Mapping[str, Callable[..., Any]]) -> jinja2.Template:
    """A template that escapes what it is filled with, and fails where something is missing.

    Args:
        name: of the file.
        filters: functions that it calls, by name.
    """
    environment: Any = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.root() / "reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    template: jinja2.Template = environment.get_template(name)
    return template
