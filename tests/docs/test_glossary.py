"""The glossary: whole sentences in order, the one place where the dashboard's hints come from."""

import ast
import re
from pathlib import Path

from robustbench_sgdm.core import glossary
from robustbench_sgdm.report import build
from tests.support.doc_pages import DOCS, ROOT

SETTINGS = {
    f"st.{name}" for name in ("selectbox", "multiselect", "text_input", "number_input", "slider", "checkbox")
}


def test_every_term_is_defined_in_order_and_in_sentences() -> None:
    terms = glossary.terms()
    listed = [
        line
        for line in (DOCS / "glossary.md").read_text("utf-8").partition("```{glossary}\n")[2].splitlines()
        if line and not line.startswith((" ", "`"))
    ]
    assert list(terms) == listed == sorted(listed, key=str.casefold) and len(set(listed)) == len(listed) > 30
    for name, text in terms.items():
        assert (text.endswith(".") and text[0].isupper()) or text.startswith(("p is", "`")), name


def test_brief_definitions_are_whole() -> None:
    for name, text in glossary.terms().items():
        brief = glossary.define_briefly(name)
        assert brief and not re.search(r"[()]|\b(al|e\.g|i\.e|cf|vs)$", brief), name
        assert text.casefold().startswith(brief.casefold().split(",")[0][:12])


def test_columns_of_the_leaderboard_are_explained_by_the_glossary() -> None:
    """In the code: no hint of a column is a text of its own."""
    (table,) = [
        node
        for node in ast.walk(_tree(ROOT / "app/views/overview.py"))
        if isinstance(node, ast.FunctionDef) and node.name == "_show_leaderboard"
    ]
    hints = [
        word.value
        for node in ast.walk(table)
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "help"
    ]
    assert len(hints) > 6
    for hint in hints:
        assert isinstance(hint, ast.Call) and ast.unparse(hint.func) == "glossary.define"


def test_settings_of_the_run_form_are_explained_by_the_glossary() -> None:
    """In the code: where a label has a term of the glossary in it, the hint is that term's definition."""
    explained = []
    for call in ast.walk(_tree(ROOT / "app/views/run.py")):
        if not isinstance(call, ast.Call) or not call.args or ast.unparse(call.func) not in SETTINGS:
            continue
        label = call.args[0].value if isinstance(call.args[0], ast.Constant) else ""
        if named := [
            term for term in glossary.terms() if re.search(rf"\b{re.escape(term)}\b", str(label), re.I)
        ]:
            hint = "".join(ast.unparse(word.value) for word in call.keywords if word.arg == "help")
            assert any(f"glossary.define({term!r})" in hint for term in named), label
            explained.append(label)
    assert len(explained) >= 4


def test_every_term_that_the_code_asks_for_is_there() -> None:
    asked = set()
    for folder in ("app", "robustbench_sgdm/dashboard", "robustbench_sgdm/report"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(_tree(path)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "glossary.define",
                    "glossary.define_briefly",
                ):
                    asked |= {one.value for one in node.args if isinstance(one, ast.Constant)}
    assert len(asked) > 6 and asked | set(build._GLOSSARY) <= set(glossary.terms())


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))
