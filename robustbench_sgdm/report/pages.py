"""Which block of a report stands on which page: full pages, figures moved as in a paper, tables cut between rows.

A figure that does not fit where it belongs is made a little smaller, or moves to the top of the next page while what
follows it fills this one. No heading is left alone at the end of a page, and no table with only a row or two.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_LEAST_ROWS = 3  # of a table, before and after a cut
_WHOLE = 14  # rows up to which a table is cut only where a third of a page would stay empty
_HALF = 0.45  # of a page
_MOST_WAITING = 3  # figures that move to the next page, before the page ends for them


@dataclass(frozen=True)
class Block:
    """Something that is set as a whole, or cut between rows. All heights are in points.

    Attributes:
        id: in the document.
        kind: text keeps with what follows it; rows may be cut; a figure may move.
        height: of everything.
        head: of what a table repeats above each part, such as its title.
        rows: heights of the rows; none for text and figures.
        image: the part of a figure's height that shrinks with it.
        least: scale down to which a figure may shrink.
    """

    id: str
    kind: Literal["text", "rows", "figure"]
    height: float
    head: float = 0.0
    rows: Sequence[float] = ()
    image: float = 0.0
    least: float = 1.0

    @property
    def foot(self) -> float:
        """Height of the notes below the rows."""
        return self.height - self.head - sum(self.rows)


@dataclass(frozen=True)
class Placed:
    """A block, or a part of one, on a page.

    Attributes:
        id: of the block.
        scale: of a figure.
        first, last: the rows of this part, from `first` to before `last`; 0 and 0 for all of them.
        height: in points.
    """

    id: str
    height: float
    scale: float = 1.0
    first: int = 0
    last: int = 0


def fill_pages(blocks: Sequence[Block], capacity: float) -> list[list[Placed]]:
    """Place blocks on pages of a height of `capacity` points, in order but for figures that move on."""
    layout = _Layout(capacity)
    for index, block in enumerate(blocks):
        if block.kind == "figure":
            layout.place_figure(block)
        elif block.kind == "text":
            layout.place_text(block, blocks[index + 1 :])
        else:
            layout.place_rows(block)
    layout.end_page()
    while layout.waiting:
        layout.end_page()
    return [page for page in layout.pages if page]


class _Layout:
    """Pages that are complete, the current one, and figures that wait for the next."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.pages: list[list[Placed]] = [[]]
        self.waiting: list[Block] = []
        self.room = capacity

    def put(self, one: Placed) -> None:
        self.pages[-1].append(one)
        self.room -= one.height

    def end_page(self) -> None:
        """Begin a page, with the figures that wait."""
        if not self.pages[-1] and not self.waiting:
            return
        self.pages.append([])
        self.room = self.capacity
        waiting, self.waiting = self.waiting, []
        for figure in waiting:
            if self.waiting or not self.put_figure(figure):
                self.waiting.append(figure)

    def put_figure(self, block: Block) -> bool:
        """Place a figure if it fits, made smaller where that is enough, or where it has a page for itself."""
        caption = block.height - block.image
        scale = (
            1.0 if block.height <= self.room else (self.room - caption) / block.image if block.image else 0.0
        )
        is_alone = not self.pages[-1]
        if scale < block.least and not is_alone:
            return False
        scale = min(max(scale, 0.1), 1.0)
        self.put(Placed(block.id, caption + block.image * scale, scale))
        return True

    def place_figure(self, block: Block) -> None:
        if self.waiting or not self.put_figure(block):
            self.waiting.append(block)
        if len(self.waiting) > _MOST_WAITING:
            self.end_page()

    def place_text(self, block: Block, following: Sequence[Block]) -> None:
        """Place a text where something that belongs to it has room below it: a figure, or the start of a table."""
        own = list(itertools.takewhile(lambda one: one.kind != "text", following))
        figures = [one for one in own if one.kind == "figure"]
        others = [one for one in own if one.kind != "figure"]
        while self.pages[-1] and not self._takes_text(block, figures, others):
            self.end_page()
        self.put(Placed(block.id, block.height))

    def _takes_text(self, block: Block, figures: Sequence[Block], others: Sequence[Block]) -> bool:
        room = self.room - block.height
        if room < 0 or not (figures or others):
            return room >= 0
        if others and _start(others[0], self.capacity) <= room:
            return True
        first = figures[0] if figures and not self.waiting else None
        if first is not None and first.height - first.image * (1 - first.least) <= room:
            return True
        # Its figures alone come pages later: better than a page that stays half empty, worse than a fuller one.
        return bool(figures) and self.room > _HALF * self.capacity

    def place_rows(self, block: Block) -> None:
        first, count = 0, len(block.rows)
        while True:
            rest = block.head + sum(block.rows[first:]) + block.foot
            if rest <= self.room or (not self.pages[-1] and count - first <= 1):
                self.put(Placed(block.id, rest, 1.0, first, count))
                return
            if first == 0 and count <= _WHOLE and self.pages[-1] and 3 * self.room < self.capacity:
                self.end_page()
                continue
            last, room = first, self.room - block.head
            while last < count and block.rows[last] <= room:
                room -= block.rows[last]
                last += 1
            last = min(last, count - _LEAST_ROWS)
            if last - first >= _LEAST_ROWS or (not self.pages[-1] and last > first):
                self.put(Placed(block.id, block.head + sum(block.rows[first:last]), 1.0, first, last))
                first = last
            elif not self.pages[-1]:  # a row higher than a page
                self.put(Placed(block.id, rest, 1.0, first, count))
                return
            self.end_page()


def _start(block: Block, capacity: float) -> float:
    """The least of a block that may stand at the end of a page."""
    if len(block.rows) <= _WHOLE:
        return min(block.height, capacity / 3) if block.rows else block.height
    return block.head + sum(block.rows[:_LEAST_ROWS])
