"""The linter of the documentation's English finds what it should, and nothing in prose that is plain."""

import pytest

from robustbench_sgdm.core import resources
from tests.support.doc_pages import ROOT

prose = resources.import_file(ROOT / "tools" / "prose.py")

LONG = " ".join(["word"] * (prose.MAX_WORDS + 1)) + "."


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (f"# Head\n\n{LONG} Short. Short.\n", 3, "31 words"),
        (f"* One.\n* {LONG}\n", 2, "31 words"),
        ("The run goes on where it stopped.\n", 1, "write resumes"),
        ("One.\n\nWe utilise it.\n", 3, "write use"),
        ("Mend it\nand it works.\n", 1, "write fix"),
        (
            "\n\n".join(" ".join(["word"] * 20) + "." for _ in range(3)),
            1,
            "20.0 words a sentence on the whole page",
        ),
    ],
)
def test_what_is_found(text: str, line: int, says: str) -> None:
    assert [(where, says in what) for where, what in prose.findings(text)] == [(line, True)]


@pytest.mark.parametrize(
    "text",
    [
        f"```bash\n{LONG}\n```\n",
        f"| {LONG} |\n|---|\n",
        f"# {LONG}\n",
        f"    {LONG[:-1]}\n",
        f"`{LONG}` is one word.\n",
        f"One ({LONG}) aside.\n",
        " ".join(["word"] * 20) + ". " + "Short one. " * 5,
        "[fix](mend.md) `mend`.\n",
        f"`one` {LONG[:-12]}. `two` starts another sentence.\n",
    ],
)
def test_what_is_not(text: str) -> None:
    assert not list(prose.findings(text))


def test_a_paragraph_is_known_by_its_first_line() -> None:
    assert list(prose.paragraphs("# A\n\none\ntwo\n\n* three\n  four\n* five\n")) == [
        (3, "one two"),
        (6, "three four"),
        (8, "five"),
    ]
