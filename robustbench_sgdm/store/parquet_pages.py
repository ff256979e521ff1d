"""The headers of a parquet file's pages, read before Arrow reads the pages: they decide what these cost.

A string can repeat the one before it, or an entry of a dictionary, in a byte or two, and a page can claim to expand
to any size. Arrow believes both, so that a few kilobytes fill the memory.
"""

from collections.abc import Iterator
from typing import IO, Any

import pyarrow.parquet as pq

from robustbench_sgdm.core.untrusted_input import short_repr

_CODECS = frozenset({"UNCOMPRESSED", "SNAPPY"})  # what is written; others expand bytes by the ten thousand
_EXPANDED = 30  # bytes for each byte of the file; Snappy gives 22 at the most
# What is written.
_ENCODINGS = {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 4: "BIT_PACKED", 8: "RLE_DICTIONARY"}
# Fields of a page's header, and the one before an encoding.
_DATA, _DICTIONARY, _DATA_2 = ((5, 1), (7, 1), (8, 3))
_LONGEST_HEADER = 2**16
_DEEPEST = 8


def check(file: pq.ParquetFile, content: IO[bytes], size: int, names: list[str]) -> None:
    """Refuse pages that no run directory has, of the named columns.

    Args:
        file: opened from `content`.
        content: the file's bytes; read at other places than before.
        size: of the file, bytes.
        names: of the columns.

    Raises:
        ValueError: another compression or encoding, columns that share bytes of the file, pages that expand beyond
            `_EXPANDED` times the file, or headers that are damaged.
    """
    left, packed = _EXPANDED * size, size
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema not in names or not column.num_values:
                continue
            if column.compression not in _CODECS:
                raise ValueError(
                    f"it is compressed with {short_repr(column.compression)}, must be with SNAPPY"
                )
            begin, first = column.data_page_offset, column.dictionary_page_offset
            if first and first < begin:  # as Arrow
                begin = first
            # Else each group could be all of the file.
            if (packed := packed - column.total_compressed_size) < 0:
                raise ValueError(f"its columns claim more than its {size:,} bytes")
            for expanded in _pages(content, begin, begin + column.total_compressed_size, size):
                left -= expanded
                if left < 0:
                    raise ValueError(f"its pages claim more than {_EXPANDED} times its {size:,} bytes")


def _pages(content: IO[bytes], at: int, end: int, size: int) -> Iterator[int]:
    """What each page of a column expands to, bytes."""
    if not 0 < at <= end <= size:
        raise ValueError("a column lies outside it")
    while at < end:
        content.seek(at)
        header, length = _Thrift(content.read(min(_LONGEST_HEADER, end - at))).message()
        expanded, packed = header.get((2, _INT)), header.get((3, _INT))
        if not isinstance(expanded, int) or not isinstance(packed, int) or min(expanded, packed) < 0:
            raise ValueError("a page's header is damaged")
        for place, before in (_DATA, _DICTIONARY, _DATA_2):
            fields = header.get((place, _STRUCT))
            encoding = None if fields is None else fields.get((before + 1, _INT))
            if fields is not None and encoding not in _ENCODINGS:
                raise ValueError(
                    f"a page's encoding is {encoding}, must be of {', '.join(_ENCODINGS.values())}"
                )
        yield expanded
        at += length + packed


_INT, _STRUCT = 5, 12  # kinds of fields; whole numbers of 16 and 64 bits count as other kinds


class _Thrift:
    """Reads a structure in Thrift's compact protocol; fields by number and kind."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def message(self) -> tuple[dict[tuple[int, int], Any], int]:
        """The structure, and how many bytes it takes."""
        return self._struct(0), self._at

    def _struct(self, depth: int) -> dict[tuple[int, int], Any]:
        fields: dict[tuple[int, int], Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._signed()
            fields[number, kind] = kind == 1 if kind in (1, 2) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("a page's header is nested too deep")
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._unsigned())
            case 9 | 10:
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._unsigned()
                return [self._value(head & 15, depth + 1) for _ in range(min(count, len(self._data)))]
            case 12:
                return self._struct(depth)
        raise ValueError("a page's header is damaged")  # maps too: parquet has none

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        data = self._data[self._at : self._at + count]
        if len(data) < count:
            raise ValueError("a page's header is cut off")
        self._at += count
        return data

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a page's header is damaged")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
