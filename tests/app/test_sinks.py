"""What the code of the pages gives to Markdown and HTML: words of its own, numbers, and text through one function."""

import ast
from collections.abc import Iterator

import pytest

from robustbench_sgdm.core import resources

APP = resources.root() / "app"

# Streamlit reads these calls' first argument, and `help` of any, as Markdown; `html` as HTML.
MARKDOWN = {
    *(
        "markdown",
        "caption",
        "write",
        "title",
        "header",
        "subheader",
        "text",
        "latex",
        "badge",
        "success",
        "info",
    ),
    *(
        "warning",
        "error",
        "exception",
        "toast",
        "metric",
        "button",
        "download_button",
        "form_submit_button",
        "checkbox",
    ),
    *(
        "toggle",
        "radio",
        "selectbox",
        "multiselect",
        "segmented_control",
        "pills",
        "slider",
        "select_slider",
        "text_input",
    ),
    *(
        "number_input",
        "text_area",
        "file_uploader",
        "expander",
        "popover",
        "spinner",
        "status",
        "page_link",
        "html",
    ),
    *("link_button", "camera_input", "chat_message", "nothing", "tabs"),
}
OPTIONS = {"radio", "segmented_control", "pills", "tabs"}  # whose choices are Markdown too
FIRST = {"progress": 1, "is_agreed": 1}  # where another argument is the text
SAFE = {  # what gives Markdown, or numbers and words of ours
    *("plain", "html", "markdown", "number", "span", "len", "sum"),
}
WRAPPERS = {"pick", "picks", "choose", "switch", "slide", "steps"}  # of controls, whose label is Markdown
ALLOWED = {  # (file, function, part of an argument): why it is safe
    **{
        ("controls.py", wrapper, "label"): "the callers' own words: WRAPPERS are looked at too"
        for wrapper in WRAPPERS
    },
    ("controls.py", "legend", "model"): "its span goes through html",
    ("controls.py", "legend", "color"): "of the palette",
    ("controls.py", "choose", "list(texts)"): "each goes through plain",
    ("controls.py", "asked", "what"): "a widget's label",
    ("controls.py", "nothing", "text"): "the callers' Markdown, looked at too",
    ("controls.py", "nothing", "icon"): "the callers' icon, looked at too",
    ("controls.py", "is_agreed", "text"): "the callers' Markdown, looked at too",
    ("controls.py", "is_agreed", "label"): "the callers' Markdown, looked at too",
    ("main.py", "main", "page.title"): "of PAGES",
    ("main.py", "main", "APP / 'page.css'"): "a file of ours",
    ("main.py", "main", "APP / 'dark.css'"): "a file of ours",
    ("curves.py", "page", "metric"): "of METRICS",
    ("images.py", "_trainings", "label"): "one of two words",
    ("images.py", "_view", "ids.index(image_id)"): "a number",
    ("images.py", "_view", "remark"): "of numbers and words of ours",
    ("images.py", "_severity", "names[0]"): "a number",
    ("live.py", "_caveat", "scenes.CLASSES[-1]"): "of the package",
    ("live.py", "_caveat", "scenes.CLASSES[:-1]"): "of the package",
    ("live.py", "page", "MAX_MEGABYTES"): "a number",
    ("live.py", "page", "name"): "one of two words",
    ("overview.py", "_board", "FACTS[name].lower()"): "words of ours",
    ("overview.py", "_downloads", "_made(about.st_mtime)"): "a date",
    ("overview.py", "_downloads", "kind"): "one of two words",
    ("overview.py", "_state", "total - missing"): "a number",
    ("paper.py", "page", "controls.choose('Table of the paper', list(TABLES), 'table')"): "of TABLES",
    ("run.py", "_one", "_state(works, at)"): "words of ours",
    ("run.py", "_one", "_left(path, at)"): "numbers",
    ("run.py", "_one", "at.complete"): "a number",
    ("run.py", "_one", "at.cells"): "a number",
    ("training.py", "_charts", "loss"): "of LOSSES",
    ("training.py", "_charts", "split"): "one of two words",
}


def calls() -> Iterator[tuple[str, str, ast.Call, ast.FunctionDef]]:
    """Every call in a function of the pages: file, the outermost function's name, the call and the function."""
    for path in sorted(APP.rglob("*.py")):
        for outer in ast.parse(path.read_text("utf-8")).body:
            if isinstance(outer, ast.FunctionDef):
                for node in ast.walk(outer):
                    if isinstance(node, ast.Call):
                        yield path.name, outer.name, node, outer


def texts(call: ast.Call) -> Iterator[ast.expr]:
    """The arguments of a call that are read as Markdown or HTML."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {word.arg: word.value for word in call.keywords}
    if name in MARKDOWN | WRAPPERS | set(FIRST):
        place = FIRST.get(name, 0)
        yield from call.args[place : place + 1]
        yield from (given[word] for word in ("label", "body", "text", "help") if word in given)
        if name in OPTIONS and len(call.args) > 1:
            yield call.args[1]
        if name in ("nothing", "is_agreed"):
            yield from call.args[1:]


def assigned(inside: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """What names of a function are set to."""
    for node in ast.walk(inside):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = [*zip(target.elts, node.value.elts, strict=True)]
                yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name))


def unsafe(value: ast.expr, inside: ast.FunctionDef) -> Iterator[ast.expr]:
    """The parts of an argument that are neither words of ours, nor numbers, nor through the function."""
    if isinstance(value, ast.Constant):
        return
    if isinstance(value, ast.JoinedStr):
        parts: list[ast.expr] = value.values
    elif isinstance(value, ast.FormattedValue):
        spec = ast.unparse(value.format_spec) if value.format_spec else ""
        parts = (
            [] if spec and spec.strip("'\"")[-1:] in "dfg," else [value.value]
        )  # of numbers: no text takes it
    elif isinstance(value, ast.IfExp):
        parts = [value.body, value.orelse]
    elif isinstance(value, ast.BoolOp):
        parts = value.values
    elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add | ast.Mult):
        parts = [part for part in (value.left, value.right) if not isinstance(part, ast.Compare)]
    elif isinstance(value, ast.ListComp):
        parts = [value.elt]
    elif isinstance(value, ast.Subscript) and ast.unparse(value.value).isupper():
        parts = []  # of a table of ours
    elif isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        if name == "join":
            parts = [getattr(value.args[0], "elt", value.args[0])]
        elif name not in SAFE:
            yield value
            return
        else:
            parts = []
    elif isinstance(value, ast.Name):
        wanted = value.id
        given = [one for name, one in assigned(inside) if name == wanted]
        if not given:
            yield value
            return
        parts = given
    else:
        yield value
        return
    for part in parts:
        yield from unsafe(part, inside)


def found() -> list[tuple[str, str, str]]:
    return [
        (file, function, ast.unparse(part))
        for file, function, call, inside in calls()
        for text in texts(call)
        for part in unsafe(text, inside)
    ]


def test_markup_is_made_of_words_of_ours_and_escaped_text() -> None:
    new = [one for one in found() if one not in ALLOWED]
    assert not new, f"pass text through controls.plain, or say in ALLOWED why it needs none: {new}"


def test_what_is_allowed_is_there() -> None:
    assert set(ALLOWED) <= set(found())


@pytest.mark.parametrize(
    "name", ["dataframe", "data_editor", "vega_lite_chart", "altair_chart", "table", "json"]
)
def test_tables_and_charts_go_through_one_function(name: str) -> None:
    """Which makes their texts visible."""
    owners = {file for file, _, call, _ in calls() if ast.unparse(call.func) == f"st.{name}"}
    assert owners <= {"controls.py", "charts.py"}


def test_no_page_allows_html_in_markdown_or_writes_csv_by_itself() -> None:
    source = "".join(path.read_text("utf-8") for path in APP.rglob("*.py"))
    for word in (
        "unsafe_allow_html",
        "unsafe_allow_javascript",
        ".to_csv(",
        "LinkColumn",
        "ImageColumn",
        "st.components.v1",
    ):
        assert word not in source


def test_the_test_sees_what_it_is_for() -> None:
    tree = ast.parse(
        'def f(a):\n b = a\n st.caption(f"{plain(a)} {b} {a:g}")\n st.tabs(["x"])\n c.nothing("t", a)'
    )
    (inside,) = tree.body
    assert isinstance(inside, ast.FunctionDef)
    seen = [
        ast.unparse(part)
        for node in ast.walk(inside)
        if isinstance(node, ast.Call)
        for text in texts(node)
        for part in unsafe(text, inside)
    ]
    assert seen.count("a") == 2
