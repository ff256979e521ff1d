"""The linter of the documentation's English finds what it should, and nothing in prose that is plain."""

import ast
from pathlib import Path

import pytest

from robustbench_sgdm.core import resources
from tests.support.doc_pages import ROOT

prose = resources.import_file(ROOT / "tools" / "prose.py")

LONG = " ".join(["word"] * (prose.MAX_WORDS + 1)) + "."
SHORT = "Short one."


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (f"# Head\n\n{LONG} Short. Short.\n", 3, "31 words"),
        (f"* One.\n* {LONG}\n", 2, "31 words"),
        ("The run goes on where it stopped.\n", 1, "write resumes"),
        ("One.\n\nWe utilise it.\n", 3, "write use"),
        ("Mend it\nand it works.\n", 1, "write fix"),
        (f"| a | {LONG} |\n|---|---|\n", 1, "31 words"),
        ("|---|\n| one | `x` is resumed anew |\n", 2, "write again"),
        (f"```{{glossary}}\nAP\n  Short.\n\nterm\n  {LONG}\n```\n\n```\nanew\n```\n", 6, "31 words"),
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
        "| " + " | ".join(["word"] * 40) + " |\n|---|\n",
        f"{SHORT}\n\n| {LONG[:-6]} |\n",
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


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('"""Anew."""\nraise UsageError("x is in use; "\n  f"start {name} anew")\n', [2]),
        ('def f():\n    """Made anew."""\n    return f"{a} {shown(\'mend it\')}"\n', [3]),
        ('# anew\nlabel = "Start again"\nanew = 1\n', []),
    ],
)
def test_texts_in_code_are_held_to_the_word_list(tmp_path: Path, text: str, lines: list[int]) -> None:
    (tmp_path / "page.py").write_text(text)
    assert [line for line, _ in prose.source_findings(tmp_path / "page.py")] == lines


def test_help_of_commands_is_too() -> None:
    tree = ast.parse('def run():\n    """Start anew."""\n')
    assert [text for _, text in prose.literals(tree, is_shown=True)] == ["Start anew."]


def test_a_paragraph_is_known_by_its_first_line() -> None:
    assert list(prose.paragraphs("# A\n\none\ntwo\n\n* three\n  four\n* five\n")) == [
        (3, "one two"),
        (6, "three four"),
        (8, "five"),
    ]
