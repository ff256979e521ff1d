"""What the documentation gives to copy: blocks of code, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustbench_sgdm.core.constants import METRICS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PARSED_ONLY = "<!-- parsed only: "
"""Before a block that tests do not run; the reason follows."""

_FENCE = re.compile(r"^(?:(<!-- .+? -->)\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^|\n\n)((?: {4}.*\n)+)")


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        language: after the fence; empty for an indented one.
        text: without the fence.
        is_run: whether a test of tutorials runs it.
    """

    language: str
    text: str
    is_run: bool

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, continued ones joined, without comments."""
        if self.language not in ("", "bash"):
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def pages() -> list[Path]:
    """Every page that is written by hand."""
    own = [path for path in sorted(DOCS.rglob("*.md")) if "generated" not in path.parts]
    return [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *own]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, fenced and indented ones, in that order."""
    text = page.read_text("utf-8")
    for comment, language, content in _FENCE.findall(text):
        yield Block(language, content, not comment.startswith(PARSED_ONLY))
    for content in _INDENTED.findall(_FENCE.sub("", text)):
        yield Block("", re.sub(r"^ {4}", "", content, flags=re.MULTILINE), False)


def words(command: str) -> list[str]:
    """A command as a shell splits it, up to what it is piped or joined to."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;><")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if set(word) <= set("|&;<>"):
            break
        found.append(word)
    return found


def documented_columns(heading: str) -> dict[str, set[str]]:
    """The columns that `docs/reference/files.md` names under a heading, by file; under "" where it names no files.

    Two names with dots between them stand for all of COCO's statistics from the one to the other.
    """
    text = (DOCS / "reference/files.md").read_text("utf-8")
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    lines = [
        line for line in re.split(r"^#", section, flags=re.MULTILINE)[0].splitlines() if line.startswith("|")
    ]
    heads, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    found: dict[str, set[str]] = {}
    file = ""
    for row in rows:
        cells = dict(zip(heads, row, strict=True))
        file = cells.get("file", "").strip("`") or file
        names = re.findall(r"`([^`]+)`", cells["column"])
        if " ... " in cells["column"]:
            names = list(METRICS[METRICS.index(names[0]) : METRICS.index(names[1]) + 1])
        found.setdefault(file, set()).update(names)
    return found
