"""The words of the glossary, `docs/glossary.md`: hints of the dashboard and of reports come from there."""

import re
from collections.abc import Iterable, Mapping
from functools import cache

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import DataError

_ENTRY = re.compile(r"^(\S.*)\n((?:  .+\n?)+)", re.MULTILINE)


@cache
def terms() -> Mapping[str, str]:
    """Every term with its definition, in the order of the page; code is in backticks.

    Raises:
        DataError: the page is not there.
    """
    path = resources.root() / "docs" / "glossary.md"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; install robustbench-sgdm again") from error
    _, _, content = text.partition("```{glossary}\n")
    return {name: " ".join(words.split()) for name, words in _ENTRY.findall(content)}


def define(term: str) -> str:
    """The definition of a term, in whole sentences.

    Args:
        term: as the glossary spells it.

    Raises:
        KeyError: the glossary lacks it.

    >>> define("clean").partition(":")[0]
    'Severity 0'
    """
    return terms()[term]


def define_briefly(term: str) -> str:
    """The first sentence of a definition, without its full stop and what it has in brackets, such as a source.

    >>> define_briefly("P"), define_briefly("rPC")
    ('the score on clean images', 'relative performance under corruption: mPC in percent of P')
    """
    first = re.split(r"\.(?: |$)", re.sub(r" \([^()]*\)", "", define(term)))[0]
    is_abbreviation = len(first.split()[0]) > 1 and first[:2].isupper()
    return first if is_abbreviation else first[0].lower() + first[1:]


def explain(names: Iterable[str]) -> str:
    """A sentence for each term that the glossary has.

    >>> explain(["P", "no term"])
    'P: the score on clean images.'
    """
    return " ".join(f"{name}: {define_briefly(name)}." for name in names if name in terms())
