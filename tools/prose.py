"""Checks the English of the documentation and of the program: short sentences, plain words. `make check` runs it.

    python tools/prose.py [FILE ...]

Prints `file:line: what is wrong` and ends with 1 if anything is. Code and headings of pages are left out. Of Python
files the texts that users see are held to the word list alone: messages, labels, hints, and the help of commands.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]

MAX_WORDS = 30
"""Of a sentence."""

MAX_MEAN = 17.0
"""Words of a page's mean sentence. English of that length is read with ease at 14 years of age."""

WORDS: Mapping[str, str] = {
    r"mend(?:s|ed)?": "fix",
    r"(?:lie|lies|lay) beside": "is next to",
    r"anew": "again",
    r"whither|whence|thereof|therein|hereby|wherein": "plain words",
    r"(?<!there )is no (?:folder|file|directory)": "is not a file",
    r"goes on where": "resumes",
    r"cannot be told": "is unknown",
    r"what is (?:damaged|broken) is refused": "damaged files are rejected",
    r"told apart": "distinguished",
    r"in order to": "to",
    r"utili[sz]e[sd]?": "use",
    r"leverage[sd]?": "use",
    r"it is (?:important|worth) (?:to note|noting)": "nothing: say it",
    r"of today|of before": "the version",
    r"shall": "must",
    r"upon": "on",
    r"amongst|whilst": "among, while",
    r"(?:very|really|simply|just|obviously|easily) ": "nothing",
}
"""Expressions that no page has, and what to write."""


def pages() -> list[Path]:
    """Every page that is written by hand."""
    own = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in path.parts]
    return [*sorted(ROOT.glob("*.md")), *own]


def sources() -> list[Path]:
    """Every file of the program with texts that users see."""
    folders = ("robustbench_sgdm", "app", "corruptions")
    templates = (ROOT / "reports").rglob("*.j2")
    return sorted([*(path for one in folders for path in (ROOT / one).rglob("*.py")), *templates])


def findings(text: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of a page.

    Args:
        text: of the page, Markdown.
    """
    lengths = []
    for line, paragraph in paragraphs(text):
        yield from _wrong_words(line, paragraph)
        counts = [(_count(sentence), sentence) for sentence in sentences(paragraph)]
        lengths += [count for count, _ in counts]
        yield from _long_sentences(line, counts)
    for line, cell in cells(text):  # which are short, and would lower the mean
        yield from _wrong_words(line, cell)
        yield from _long_sentences(line, [(_count(sentence), sentence) for sentence in sentences(cell)])
    if lengths and (mean := sum(lengths) / len(lengths)) > MAX_MEAN:
        yield 1, f"{mean:.1f} words a sentence on the whole page, at most {MAX_MEAN:g}"


def _wrong_words(line: int, text: str) -> Iterator[tuple[int, str]]:
    for pattern, better in WORDS.items():
        if found := re.search(rf"(?<![\w-]){pattern}(?![\w-])", text, re.IGNORECASE):
            yield line, f"{found[0].strip()!r}: write {better}"


def _long_sentences(line: int, counts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for count, sentence in counts:
        if count > MAX_WORDS:
            yield line, f"{count} words, at most {MAX_WORDS}: {sentence[:60]}..."


def _count(sentence: str) -> int:
    return len(re.findall(r"[^\s–-]*\w[^\s]*", sentence))


def source_findings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of the texts in a Python file or a template."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        texts = literals(
            ast.parse(text), is_shown=path.resolve().is_relative_to(ROOT / "app") or path.parent.name == "cli"
        )
    else:
        texts = enumerate(text.splitlines(), 1)
    for line, one in texts:
        yield from _wrong_words(line, _plain(one))


def literals(tree: ast.AST, *, is_shown: bool) -> Iterator[tuple[int, str]]:
    """(line, text) of the strings of a module, f-strings as one; without docstrings unless these are shown as help."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and not is_shown:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "code" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
            node = ast.Tuple([part for part in node.values if isinstance(part, ast.FormattedValue)])
        yield from literals(node, is_shown=is_shown)


def cells(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every cell of a table, without markup."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("|"):
            for cell in re.split(r"(?<!\\)\|", line)[1:-1]:
                yield number, _plain(cell.strip())


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every paragraph, list item and definition of the glossary, without markup."""
    held: list[str] = []
    start, fence = 0, ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        is_fence = re.match(r"\s*(?:```|:::)", line)
        if is_fence:
            fence = "" if fence else line
        item = re.match(r"\s*(?:[*-]|\d+\.) +", line)
        is_glossary = "{glossary}" in fence
        other = (
            is_fence
            or (fence and not is_glossary)
            or (is_glossary and not line.startswith(" "))  # a term
            or not line.strip()
            or re.match(r"#|\||<!--|!\[|\(.+\)=$| {4}(?!.*\w\.$)", line)
        )
        if (other or item) and held:
            yield start, _plain(" ".join(held))
            held = []
        if not other:
            start = start if held else number
            held.append(line[item.end() :] if item else line.strip())


def sentences(paragraph: str) -> list[str]:
    """A paragraph's sentences; one also ends where a list begins."""
    return [
        one
        for one in re.split(r"(?<=[.!?:;])[\"')]*\s+(?=[A-Z`\"'(\d])|;\s+|(?<=[.!?])\s+(?=code\b)", paragraph)
        if re.search(r"\w", one)
    ]


def _plain(text: str) -> str:
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\([^)]*\)|\*", "", text)  # an aside does not make a sentence hard
    return re.sub(r"\b(?:e\.g|i\.e|et al|cf|vs)\.", "and", text)


def main(names: list[str]) -> int:
    """Check pages; gives the exit code."""
    count = 0
    for path in map(Path, names) if names else [*pages(), *sources()]:
        wrong = findings(path.read_text("utf-8")) if path.suffix == ".md" else source_findings(path)
        for line, what in wrong:
            print(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}: {what}")
            count += 1
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
