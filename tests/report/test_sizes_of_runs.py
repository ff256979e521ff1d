"""Reports of small and of large runs: the first page stands alone, nothing is cut off, pages are full, words whole."""

import html
import re
from pathlib import Path
from typing import Any

import html5lib
import pypdf
import pytest

from robustbench_sgdm import report
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.report import build
from robustbench_sgdm.report.table_width import split_to_page
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables import Table
from tests.support.synthetic_runs import make_run

LEVELS = {"gaussian_noise": [1, 3, 5], "fog": [1, 3, 5]}
_POINTS = 72 / 25.4  # in a millimetre
_TOP, _SIDE, _BOTTOM = 17 * _POINTS, 15 * _POINTS, 15 * _POINTS  # margins, as `report.css` has them


def placed(page: Any) -> list[tuple[float, float, str]]:
    """Where each text of a page begins, from its left and its top, in points; without running head and page number."""
    found: list[tuple[float, float, str]] = []
    high = float(page.mediabox.height)

    def visit(text: str, cm: Any, tm: Any, *_: Any) -> None:
        if text.strip():
            left, up = (tm[4] * cm[0] + cm[4], tm[5] * cm[3] + cm[5])
            found.append((left, high - up, text.strip()))

    page.extract_text(visitor_text=visit)
    return [one for one in found if _TOP <= one[1] <= high - _BOTTOM]


def fill(page: Any) -> float:
    """The share of a page's height above its last text."""
    high = float(page.mediabox.height) - _TOP - _BOTTOM
    return (max(top for _, top, _ in placed(page)) - _TOP) / high


def text_of(page: Path) -> str:
    """What a page shows; a place where a line may break is none."""
    text = re.sub(r"<style.*?</style>|<wbr>", "", page.read_text("utf-8"), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", text))


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow), 10])
def test_the_summary_is_one_page(tmp_path: Path, count: int) -> None:
    models = [f"model-{number}" for number in range(count)]
    run = make_run(tmp_path, "run", models, LEVELS, images=8, resamples=True)
    page, paper = report.write_report(RunAnalysis(run), summary_only=True)
    assert (page.name, paper.name) == ("summary.html", "summary.pdf")
    html5lib.HTMLParser(strict=True).parse(page.read_text("utf-8"))
    (only,) = pypdf.PdfReader(paper).pages
    text = " ".join(only.extract_text().split())
    assert "Limits:" in text and all(name in text for name in models) and "Figure 2." in text
    assert min(left for left, *_ in placed(only)) >= _SIDE - 1


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("pair"), "run", ["base", "base-sgdm"], LEVELS, images=24)


@pytest.mark.parametrize("size", ["A4", pytest.param("letter", marks=pytest.mark.slow)])
def test_pages_are_full_and_words_whole(pair: Run, size: str) -> None:
    page, paper = report.write_report(RunAnalysis(pair, resamples=50), page_size=size)
    pages = pypdf.PdfReader(paper).pages
    wide = {"A4": 210 * _POINTS, "letter": 612.0}[size]
    assert abs(float(pages[0].mediabox.width) - wide) < 1 and len(pages) > 4
    assert [number for number, one in enumerate(pages[:-1], 1) if fill(one) < 2 / 3] == []
    for one in pages:
        assert min(left for left, *_ in placed(one)) >= _SIDE - 1
        assert max(left for left, *_ in placed(one)) < wide - _SIDE
    known = {*re.findall(r"[A-Za-z]{3,}", text_of(page)), "continued"}  # of tables over two pages
    printed = {*re.findall(r"[A-Za-z]{3,}", "\n".join(one.extract_text() for one in pages))}
    assert sorted(printed - known) == []


def test_one_image(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", ["base", "base-sgdm"], LEVELS, images=1)
    page, paper = report.write_report(RunAnalysis(run, resamples=20))
    assert "The data are 1 image of made" in text_of(page) and not re.search(r"\bnan\b", text_of(page))
    html5lib.HTMLParser(strict=True).parse(page.read_text("utf-8"))
    assert len(pypdf.PdfReader(paper).pages) > 3


def test_long_tables_fold_on_the_page_except_in_the_summary(
    pair: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They keep their captions and CSVs; on paper nothing is folded."""
    monkeypatch.setattr(build, "_MAX_ROWS", 1)
    page, _ = report.write_report(RunAnalysis(pair, resamples=20))
    text = page.read_text("utf-8")
    html5lib.HTMLParser(strict=True).parse(text)
    tree = html5lib.parse(text, namespaceHTMLElements=False)
    folds = list(tree.iter("details"))
    assert len(folds) > 5
    for fold in folds:
        (table,) = fold.iter("table")
        caption, count = table.findtext("caption"), len(table.findall("tbody/tr"))
        assert count > 1 and fold.findtext("summary") == f"{caption}, {count} rows"
        assert any((link.get("download") or "").endswith(".csv") for link in fold.iter("a"))
    (summary,) = (one for one in tree.iter("header") if one.get("class") == "summary")
    assert list(summary.iter("table")) and not list(summary.iter("details"))


def test_a_wide_table_is_cut_into_parts_that_keep_a_difference_with_its_interval() -> None:
    columns = ["cell"]
    for pair_number in range(8):
        delta = f"AP Δ model{pair_number}"
        columns += [delta, f"Δ model{pair_number} 95 % interval", f"Δ model{pair_number} p (Holm)"]
    rows = [[f"fog {row}", *["+10.25 to +20.75"] * (len(columns) - 1)] for row in range(3)]
    parts = split_to_page(Table("Cells", columns, rows, ["A note."]))
    assert len(parts) > 2 and [part.title for part in parts][1:] == ["Cells (continued)"] * (len(parts) - 1)
    assert [list(part.notes) for part in parts] == [*[[]] * (len(parts) - 1), ["A note."]]
    assert [column for part in parts for column in part.columns[1:]] == columns[1:]
    for part in parts:
        assert part.columns[0] == "cell" and [row[0] for row in part.rows] == [row[0] for row in rows]
        assert (len(part.columns) - 1) % 3 == 0 and all(len(row) == len(part.columns) for row in part.rows)
    assert split_to_page(parts[0]) == [parts[0]]


@pytest.mark.slow
def test_two_hundred_classes(tmp_path: Path) -> None:
    names = [f"class number {number}" for number in range(200)]
    run = make_run(tmp_path, "run", ["base", "base-sgdm"], {"fog": [3]}, images=60, classes=names)
    page, paper = report.write_report(RunAnalysis(run, resamples=20))
    tree = html5lib.parse(page.read_text("utf-8"), namespaceHTMLElements=False)
    rows, *_ = [
        [row.findtext("th") for row in table.findall("tbody/tr")]
        for table in tree.iter("table")
        if (table.findtext("caption") or "").startswith("AP by class")
    ]
    present = {names[i - 1] for i in run.ground_truth().annotations["category_id"]}
    assert {str(row).removesuffix(" (few)") for row in rows} == present and len(present) > 100
    assert page.stat().st_size < 6e6 and paper.stat().st_size < 6e6
    assert [
        number for number, one in enumerate(pypdf.PdfReader(paper).pages[:-1], 1) if fill(one) < 2 / 3
    ] == []
