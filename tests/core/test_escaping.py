"""Text from files in each place that it is written into: shown as it is, read back as it was, obeyed by nothing."""

import html as standard
import io
import re
import string
import unicodedata
from xml.etree import ElementTree

import html5lib
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from robustbench_sgdm import gate
from robustbench_sgdm.cli import console
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.figures import fonts

PIECES = (
    *(
        "a",
        "b",
        " ",
        "  ",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\0",
        "\x1b[2J",
        "\x1b]8;;http://a\x07",
        "\x1b]52;c;YQ==\x07",
        "\x9b",
        "\x85",
    ),
    *(
        "\u202a",
        "\u202e",
        "\u2066",
        "\u2069",
        "\u200e",
        "\u200f",
        "\u061c",
        "\u200b",
        "\u200c",
        "\u200d",
        "\u2060",
        "\ufeff",
    ),
    *(
        "\u2028",
        "\u2029",
        "\u00ad",
        "\u034f",
        "\u3164",
        "\ud800",
        "\udcff",
        "\uffff",
        "\ufdd0",
        "\U000e0041",
        "é",
        "猫",
        "می",
        "👩",
    ),
    *("=", "+", "-", "@", "'", "''", '"', ",", ";", "1", "-1.5", "+2e3", "=1+2", "-x", "＝"),
    *(
        "<b>",
        "</script>",
        "<!--",
        "&amp;",
        "]]>",
        "[b]",
        "[/]",
        "[link=http://a]",
        ":smile:",
        "\\",
        "::error::",
        "##[group]",
        "##vso[task.x]",
    ),
    *("$x$", "$\\frac{$", "*", "`", "|", "![a](http://a)", "datum.x", "signal", "nan", "", "None"),
)
texts = st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | st.text(max_size=20)
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(texts)
def test_what_is_visible_has_nothing_hidden(text: str) -> None:
    shown = escape_control_chars(text)
    for place, one in enumerate(shown):
        joins = (
            one in "\u200c\u200d"
            and place
            and shown[place - 1] > "\u02ff"
            and shown[place - 1] not in "\u200c\u200d"
        )
        assert joins or (unicodedata.category(one) not in HIDDEN and one not in "\uffff\ufdd0\u3164\u034f")
    shown.encode("utf-8")
    assert escape_control_chars(shown) == shown
    assert escape_control_chars(text, "\n\t").replace("\n", "\\n").replace("\t", "\\t") == shown


@pytest.mark.parametrize(
    "text", ["می‌خواهم", "क्‍ष", "👨‍👩‍👧", "café", "naïve – “x”", "猫 カ", "حرف", "1️⃣", "a\u00a0b"]
)
def test_words_of_every_script_stay(text: str) -> None:
    assert escape_control_chars(text) == text == escaping.terminal(text)


def test_joiners_that_join_nothing_are_written_out() -> None:
    assert escape_control_chars("pay\u200dpal \u200c") == "pay\\u200dpal \\u200c"
    assert escape_control_chars("می\u200c\u200c") == "می\u200c\\u200c"


@given(texts)
def test_a_terminal_shows_a_line_and_obeys_nothing(text: str) -> None:
    shown = escaping.terminal(text)
    assert shown.isprintable() or not set(map(unicodedata.category, shown)) & HIDDEN - {"Cf"}
    assert not shown.lstrip().startswith("::") and not re.search(r"##\w*\[", shown)


@given(texts)
@settings(deadline=None)
def test_a_cell_of_the_terminal_is_its_text(text: str) -> None:
    """No markup of rich, no emoji, no style and no line end."""
    cell = console.table_cell(text)
    assert cell.plain == escaping.terminal(text) and "\n" not in cell.plain and not cell.spans
    drawn = io.StringIO()
    Console(file=drawn, width=10_000, emoji=False, force_terminal=True, color_system="truecolor").print(
        cell, soft_wrap=True
    )
    assert "\x1b" not in drawn.getvalue()


@given(texts)
def test_html_is_one_text(text: str) -> None:
    element = html5lib.parseFragment(
        f'<p title="{escaping.html(text)}">{escaping.html(text)}</p>', namespaceHTMLElements=False
    )[0]
    assert list(element) == [] and element.text in (
        escape_control_chars(text),
        escape_control_chars(text) or None,
    )
    assert element.get("title") == escape_control_chars(text) == standard.unescape(escaping.html(text))


@given(texts)
def test_a_junit_file_is_xml_with_the_text(text: str) -> None:
    limit = gate.Threshold("fail-under", "rPC", "AP", 10)
    verdicts = [gate.ThresholdResult(limit, text, kept, text) for kept in (True, False)]
    suite = ElementTree.fromstring(gate.to_junit(verdicts))[0]
    assert [case.get("name") for case in suite] == 2 * [
        f"fail-under rPC:AP=10: {escape_control_chars(text, chr(10) + chr(9))}"
    ]


@given(texts)
def test_code_is_between_fences_that_it_does_not_close(text: str) -> None:
    shown = escaping.code(text)
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    inner = shown[len(fence) : -len(fence)]
    assert (
        shown.endswith(fence) and fence not in inner.replace("`" * (len(fence) + 1), "") and "\n" not in shown
    )


FORMULA = tuple("=+-@\t\r\n＝＋－＠")


@given(st.lists(texts, min_size=1, max_size=5), texts)
@settings(deadline=None)
def test_csv_reads_back_and_holds_no_formula(column: list[str], name: str) -> None:
    # A mark at a file's beginning is of its encoding, and pandas calls a column without a name "Unnamed: 0".
    name = name.replace("\0", "").lstrip("\ufeff") or "x"
    utf8 = [text.encode("utf-8", "backslashreplace").decode().replace("\0", "") for text in (name, *column)]
    frame = pd.DataFrame({utf8[0]: pd.Series(utf8[1:], dtype=object), "n": range(len(column))})
    text = escaping.csv(frame)
    raw = pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)
    for value in [raw.columns[0], *raw.iloc[:, 0]]:
        assert not value.startswith(FORMULA) or set(value) <= set(string.digits + "+-.eE")
    again = escaping.from_csv_frame(raw)
    assert list(again.iloc[:, 0]) == utf8[1:] and (again.columns[0] == utf8[0] or utf8[0] == "n")


def test_numbers_in_csv_stay_numbers() -> None:
    frame = pd.DataFrame({"a": [-1.5, float("inf")], "b": [-1, 2], "c": ["-1.5", "+2"], "d": ["-x", "=1"]})
    assert escaping.csv(frame) == "a,b,c,d\n-1.5,-1,-1.5,'-x\ninf,2,+2,'=1\n"


def test_half_a_surrogate_pair_is_written_out_in_csv() -> None:
    assert "\\ud800" in escaping.csv(pd.DataFrame({"a": pd.Series(["x\ud800"], dtype=object)}))


@given(texts)
def test_a_chart_holds_visible_values(text: str) -> None:
    spec = {
        "datasets": {"d": [{"model": text, "x": 1.5}]},
        "encoding": {"color": {"scale": {"domain": [text, None]}}},
    }
    shown = escaping.chart_spec(spec)
    assert shown["datasets"]["d"] == [{"model": escape_control_chars(text), "x": 1.5}]
    assert shown["encoding"]["color"]["scale"]["domain"] == [escape_control_chars(text), None]


@given(texts)
@settings(deadline=None)
def test_a_figure_draws_what_its_fonts_have(text: str) -> None:
    known = fonts.drawable_characters()
    assert all(one in string.printable or ord(one) in known for one in fonts.make_legible(text))


_LATEX_TOKEN = re.compile(
    r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl|textasciigrave"
    r"|textquotesingle|texttimes|textsuperscript|textendash)(?:\{(2?)\})|\\([&%$#_{}])|-{}(?=-)|([^\\{}&%$#_~^<>|\"`'])"
)
_LATEX_MEANING = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotedbl": '"',
    "textasciigrave": "`",
    "textquotesingle": "'",
    "texttimes": "×",
    "textsuperscript": "²",
    "textendash": "–",
}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*PIECES, "\\input{/etc/passwd}", "$x^2$", "50 %", "a & b", "–", "²"]), max_size=12
    )
)
def test_latex_is_text_and_reads_back(pieces: list[str]) -> None:
    """Every character is text or one of the commands for a character: nothing is left that LaTeX would obey."""
    text = "".join(pieces)
    written = escaping.latex(text)
    place, read = 0, ""
    while place < len(written):
        token = _LATEX_TOKEN.match(written, place)
        assert token, (text, written[place:])
        command, _, escaped, plain = token.groups()
        read += _LATEX_MEANING[command] if command else escaped or plain or "-"
        place = token.end()
    shown = " ".join(escape_control_chars(text, "\n\t").split())
    assert read == shown
