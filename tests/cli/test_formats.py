"""`--format` of commands whose tables are of text."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from robustbench_sgdm import tables
from robustbench_sgdm.core import escaping
from tests.support.synthetic_runs import make_run


@pytest.mark.parametrize(
    "words", [("list", "figures"), ("list", "corruptions"), ("list", "data"), ("list", "runs"), ("checks",)]
)
def test_documents_have_the_cells_of_the_table(
    words: tuple[str, ...], tmp_path: Path, command: Callable[..., str]
) -> None:
    if words[-1] == "runs":
        make_run(tmp_path, "pair_100%", ["base"], {"fog": [1]}, images=2)
        words += ("--project", str(tmp_path))
    shown = command(*words)
    head, *rows = csv.reader(io.StringIO(command(*words, "--format", "csv")))
    latex = command(*words, "--format", "latex")
    markdown = command(*words, "--format", "markdown")
    assert rows and len(rows) == latex.partition(r"\midrule")[2].count("\\\\\n")
    assert {len(row) for row in rows} == {len(head)}
    for cell in {cell for row in rows for cell in row}:
        assert all(word in shown for word in cell.split())
        assert escaping.latex(cell) in latex and escaping.markdown(cell) in markdown


def test_text_is_to_the_left_in_latex_and_long_text_is_folded() -> None:
    rows = [["a", "1.0", "short", "x" * 41], ["b", "2.0", "words", ""]]
    table = tables.Table("t", ["name", "AP", "kind", "reason"], rows, text=["kind", "reason"])
    assert r"\begin{tabular}{lrlp{0.45\linewidth}}" in tables.to_latex(table)
    assert (
        tables.to_document([table, table], "latex") == f"{tables.to_latex(table)}\n{tables.to_latex(table)}"
    )
