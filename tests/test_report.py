"""Tables, figure and report of a stored run; what they print reads back as what is stored."""

import re
from pathlib import Path

import html5lib
import pytest
from matplotlib.figure import Figure

from robustbench_sgdm import figures, report, tables
from robustbench_sgdm.errors import DataError
from robustbench_sgdm.store import Run


def test_differences_are_model_minus_baseline(small_run: Run) -> None:
    results = small_run.results()
    (table,) = tables.corruption_tables(results, small_run.pairs)
    assert table.title == "gaussian_noise"
    assert table.columns == [
        "severity", "AP base", "AP base-module", "AP Δ", "AP50 base", "AP50 base-module", "AP50 Δ",
        "AP_S base", "AP_S base-module", "AP_S Δ",
    ]  # fmt: skip
    assert [row[0] for row in table.rows] == ["0 (clean)", "2", "4"]
    assert table.rows[1][1:4] == ["30.00", "31.50", "+1.50"]
    assert table.rows[0][7:] == ["–", "–", "–"]  # no small object in the data


def test_the_report_is_one_valid_file_with_the_stored_numbers(small_run: Run) -> None:
    path = report.write_html(small_run)
    text = path.read_text("utf-8")
    html5lib.HTMLParser(strict=True).parse(text)
    assert not re.search(r"""(src|href|url\()=?["']?(https?:)?//""", text) and "<script" not in text
    for row in tables.corruption_tables(small_run.results(), small_run.pairs)[0].rows:
        for cell in row:
            assert f">{cell}<" in text
    assert "&lt;script&gt;" in text  # the data set's name, escaped
    assert report.write_html(small_run).read_text("utf-8") == text


def test_an_empty_run_is_refused_and_a_partial_one_says_so(small_run: Run) -> None:
    (small_run.store.folder(small_run.cells[-1]) / "scores.json").unlink()
    assert "<strong>Incomplete:</strong> 1 of 6" in report.write_html(small_run).read_text("utf-8")
    for cell in small_run.cells[:-1]:
        (small_run.store.folder(cell) / "scores.json").unlink()
    with pytest.raises(DataError, match="no complete cell"):
        report.write_html(small_run)


def test_the_curves_are_the_numbers(small_run: Run) -> None:
    figure = figures.severity_curves(small_run.results())
    assert isinstance(figure, Figure)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["base-module"].get_xydata().tolist() == [[0, 40], [2, 31.5], [4, 20]]  # type: ignore[union-attr]
    assert len({line.get_color() for line in lines.values()}) == 2


def test_drawing_leaves_no_style_behind(small_run: Run, tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.svg(figures.severity_curves(small_run.results()))
    assert dict(mpl.rcParams) == before
