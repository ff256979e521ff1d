"""Text from files inside what interprets text: one function for each place that it is written into.

Each begins with `untrusted_input.escape_control_chars`. Figures have their own, `figures.fonts`, which knows what can
be drawn.
"""

import re
from collections.abc import Callable
from csv import QUOTE_MINIMAL, QUOTE_NONNUMERIC
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from robustbench_sgdm.core.untrusted_input import escape_control_chars

if TYPE_CHECKING:
    import pandas as pd

# Orders to build servers: `::error::`, `##[group]`, `##vso[task]`.
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\w*\[)")

# What means something in Markdown: anywhere, and where a line begins (lists, rules, headings). The slash, because
# Streamlit rewrites `:material/` before it parses.
_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#!|$~&^]|:(?=\w)|(?<=:material)/")
_AT_START = re.compile(r"^(?:[-+](?= |$)|[-=](?=[-=]*$)|\d+(?=[.)](?: |$)))")

# What becomes something else when the escapes are gone already: addresses, people, issues, emoji, arrows.
_LATE = re.compile(
    r"://|www\.|(?<!\w)@\w|@[-\w]+\.[-\w.]*[^\W\d_]|#\d|:[\w+-]+:|^(?:<->|->|<-|--|[<>~]=)$", re.IGNORECASE
)
_ICON = re.compile(r"(?<=:)m(?=aterial/)")

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_QUOTED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def terminal(text: str) -> str:
    """Text inside a line of a terminal or of a build server's log: nothing in it moves, colours, copies or commands.

    >>> terminal("::error::" + chr(27) + "[2J")
    '\\\\x3a:error::\\\\x1b[2J'
    """
    return _COMMAND.sub(lambda m: f"{m[0][:-1]}\\x{ord(m[0][-1]):02x}", escape_control_chars(text))


def markdown(text: object) -> str:
    """Text inside a paragraph, a heading, a label or a table's cell of Markdown, of Streamlit's and of GitHub's.

    Characters that mean something get a backslash. A word that would become a link, a person or an emoji in spite of
    that, because those are looked for in finished text, is set as code. Spaces and line ends become one space.

    >>> print(markdown("a*b <i> :red[x] 1.5 - http://a.b"))
    a\\*b \\<i\\> \\:red\\[x\\] 1.5 - `http://a.b`
    """
    words = escape_control_chars(str(text), "\n\t").split()
    return _AT_START.sub(_first, " ".join("\\|".join(map(_word, word.split("|"))) for word in words))


def code(text: object) -> str:
    """Text as code in Markdown; in a table's cell it may hold no `|`.

    >>> code("a`b"), code("`")
    ('``a`b``', '`` ` ``')
    """
    shown = " ".join(escape_control_chars(str(text), "\n\t").split())
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    space = " " if shown[:1] == "`" or shown[-1:] == "`" or not shown else ""
    return f"{fence}{space}{shown}{space}{fence}"


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "–": r"\textendash{}",
    "²": r"\textsuperscript{2}",
    "×": r"\texttimes{}",
}


def latex(text: object) -> str:
    r"""Text inside a paragraph or a table's cell of LaTeX; spaces and line ends become one space.

    >>> print(latex("50 % of a_b \\input{x}"))
    50 \% of a\_b \textbackslash{}input\{x\}
    """
    words = " ".join(escape_control_chars(str(text), "\n\t").split())
    text = "".join(_LATEX.get(character, character) for character in words)
    return re.sub("-(?=-)", "-{}", text)  # two hyphens would become a dash


def html(text: object) -> str:
    """Text inside HTML, in an element or in a quoted attribute.

    >>> html('<b a="1">')
    '&lt;b a=&quot;1&quot;&gt;'
    """
    return escape(escape_control_chars(str(text)))


def xml(text: str) -> str:
    """Text for a writer of XML, which escapes markup itself: without what no XML document may hold."""
    return escape_control_chars(text, "\n\t")


def chart_spec(value: Any) -> Any:
    """The texts of a chart's specification and of its data, made visible; they are values there and no expressions."""
    if isinstance(value, dict):
        return {key: chart_spec(one) for key, one in value.items()}
    if isinstance(value, list):
        return [chart_spec(one) for one in value]
    return escape_control_chars(value) if isinstance(value, str) else value


def frame(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table to be shown, with its texts made visible."""
    return _mapped(table, escape_control_chars)


def csv(table: "pd.DataFrame") -> str:
    """A table as CSV that a spreadsheet reads as text and numbers.

    A text that begins with = + - @, a tab or a line end would be a formula there: it gets an apostrophe before it, as
    OWASP advises. So does a text that begins with apostrophes and then one of these, so that `from_csv` gives each back.
    Numbers stay as they are, negative ones too.
    """
    quoted = _mapped(table, _quoted)
    texts = (*quoted.columns, *quoted.select_dtypes(exclude="number").to_numpy().ravel())
    returns = any(isinstance(text, str) and "\r" in text for text in texts)  # the writer leaves them unquoted
    quoting: Literal[0, 2] = QUOTE_NONNUMERIC if returns else QUOTE_MINIMAL
    text: str = quoted.to_csv(index=False, quoting=quoting)
    return text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is in no file


def from_csv(text: str) -> str:
    """A text as it was before `csv`.

    >>> from_csv("'=1+2"), from_csv("-3"), from_csv("'tis")
    ('=1+2', '-3', "'tis")
    """
    return text[1:] if _QUOTED.match(text) else text


def from_csv_frame(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table that was read from `csv`, with its texts as they were."""
    return _mapped(table, from_csv)


def _quoted(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _mapped(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    import pandas as pd  # here, so that a line on a terminal need not wait for it

    texts = [place for place, kind in enumerate(table.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    changed = table.copy()
    for place in texts:
        column = table.iloc[:, place].tolist()
        new = {text: change(text) for text in {value for value in column if isinstance(value, str)}}
        if any(text != other for text, other in new.items()):
            values = [new[value] if isinstance(value, str) else value for value in column]
            # Of any text: pandas' own kind takes UTF-8 alone.
            replaced: Any = pd.Series(values, table.index, object)
            changed.isetitem(place, replaced)
    return changed.set_axis(
        [change(name) if isinstance(name, str) else name for name in table.columns], axis=1
    )


def _word(word: str) -> str:
    if not _LATE.search(word):
        return _ACTIVE.sub(r"\\\g<0>", word)
    return "m".join(map(code, _ICON.split(word)))  # within code there are no escapes


def _first(match: re.Match[str]) -> str:
    return f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}"
