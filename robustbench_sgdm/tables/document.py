"""Tables as one document."""

from collections.abc import Iterable
from typing import Literal

from robustbench_sgdm.tables.csv_text import to_csv
from robustbench_sgdm.tables.table import Table, to_latex, to_markdown

DocumentFormat = Literal["csv", "markdown", "latex"]

_WRITERS = {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}


def to_document(tables: Iterable[Table], form: DocumentFormat) -> str:
    """The text of tables, one below the other with an empty line between them."""
    return "\n".join(map(_WRITERS[form], tables))
