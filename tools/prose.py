"""Checks the English of the documentation: short sentences, plain words. `make check` runs it.

    python tools/prose.py [PAGE ...]

Prints `page:line: what is wrong` and ends with 1 if anything is. Code, tables and headings are left out.
"""

import re
import sys
from collections.abc import Iterator, Mapping
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
    r"is no (?:folder|file|directory)": "is not a file",
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


def findings(text: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of a page.

    Args:
        text: of the page, Markdown.
    """
    lengths = []
    for line, paragraph in paragraphs(text):
        for pattern, better in WORDS.items():
            if found := re.search(rf"(?<![\w-]){pattern}(?![\w-])", paragraph, re.IGNORECASE):
                yield line, f"{found[0].strip()!r}: write {better}"
        for sentence in sentences(paragraph):
            words = len(re.findall(r"[^\s–-]*\w[^\s]*", sentence))
            lengths.append(words)
            if words > MAX_WORDS:
                yield line, f"{words} words, at most {MAX_WORDS}: {sentence[:60]}..."
    if lengths and (mean := sum(lengths) / len(lengths)) > MAX_MEAN:
        yield 1, f"{mean:.1f} words a sentence on the whole page, at most {MAX_MEAN:g}"


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every paragraph and list item, without markup."""
    held: list[str] = []
    start, is_code = 0, False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        is_fence = re.match(r"\s*(?:```|:::)", line)
        is_code ^= bool(is_fence)
        item = re.match(r"\s*(?:[*-]|\d+\.) +", line)
        other = (
            is_fence
            or is_code
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
    for page in map(Path, names) if names else pages():
        for line, wrong in findings(page.read_text("utf-8")):
            print(f"{page.relative_to(ROOT) if page.is_relative_to(ROOT) else page}:{line}: {wrong}")
            count += 1
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
