"""Which block of a report stands on which page."""

import pytest

from robustbench_sgdm.report.pages import Block, Placed, fill_pages


def heights(pages: list[list[Placed]]) -> list[float]:
    return [sum(one.height for one in page) for page in pages]


def ids(pages: list[list[Placed]]) -> list[list[str]]:
    return [[one.id for one in page] for page in pages]


def text(name: str, height: float = 10) -> Block:
    return Block(name, "text", height)


def figure(name: str, image: float, least: float = 0.8) -> Block:
    return Block(name, "figure", image + 5, image=image, least=least)


def table(name: str, rows: int) -> Block:
    return Block(name, "rows", 10 + 2 * rows + 3, head=10, rows=[2.0] * rows)


def test_a_figure_shrinks_a_little_to_fit() -> None:
    (page,) = fill_pages([text("a", 50), figure("b", 50)], 100)
    assert [one.scale for one in page] == [1.0, 0.9] and heights([page]) == [100]


def test_a_figure_moves_on_and_what_follows_fills_the_page() -> None:
    pages = fill_pages([text("a", 40), figure("b", 80), table("c", 20), text("d", 10)], 100)
    assert ids(pages) == [["a", "c"], ["b", "d"]]


def test_figures_stay_in_order() -> None:
    pages = fill_pages([text("a", 40), figure("b", 80), figure("c", 20), text("d", 10)], 100)
    assert [name for page in ids(pages) for name in page if name in "bc"] == ["b", "c"]


@pytest.mark.parametrize("rows", [20, 40, 47, 100])
def test_a_table_is_cut_into_all_of_its_rows(rows: int) -> None:
    pages = fill_pages([text("a", 50), table("b", rows)], 100)
    parts = [one for page in pages for one in page if one.id == "b"]
    assert [one.first for one in parts] == [0, *(one.last for one in parts[:-1])] and parts[-1].last == rows
    assert all(one.last - one.first >= 3 for one in parts)
    assert max(heights(pages)) <= 100 and min(heights(pages)[:-1]) >= 90


def test_a_short_table_is_cut_only_where_much_would_stay_empty() -> None:
    assert ids(fill_pages([text("a", 75), table("b", 10)], 100)) == [["a"], ["b"]]
    assert ids(fill_pages([text("a", 40), text("x", 20), table("b", 14)], 100)) == [["a", "x", "b"], ["b"]]


def test_a_heading_is_never_alone() -> None:
    assert ids(fill_pages([text("a", 85), text("heading"), table("b", 10)], 100)) == [["a"], ["heading", "b"]]


def test_what_is_higher_than_a_page_ends() -> None:
    pages = fill_pages(
        [figure("a", 300), text("b", 300), Block("c", "rows", 320, 10, [300.0, 5.0, 5.0])], 100
    )
    assert [name for page in ids(pages) for name in page] == ["a", "b", "c"]
    assert fill_pages([], 100) == []
