"""What the code of the pages gives to Markdown and HTML: words of its own, numbers, and text through one function."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustbench_sgdm import dashboard
from robustbench_sgdm.core import resources

FOLDERS = (resources.root() / "app", *map(Path, dashboard.__path__))

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
    *("link_button", "camera_input", "chat_message", "empty_state", "tabs"),
}
OPTIONS = {"radio", "segmented_control", "pills", "tabs"}  # whose choices are Markdown too
FIRST = {"progress": 1, "is_confirmed": 1, "offer_report": 1}  # where another argument is the text
SAFE = {  # what gives Markdown, or numbers and words of ours
    *("html", "markdown", "format_number", "format_interval", "len", "sum"),
    "define",  # of the glossary
}
WRAPPERS = {
    "selectbox",
    "multiselect",
    "segmented_control",
    "toggle",
    "slider",
    "number_input",
}  # of widgets
ALLOWED = {  # (file, function, part of an argument): why it is safe
    **{("widgets.py", wrapper, "label"): "the callers' own words, looked at too" for wrapper in WRAPPERS},
    ("widgets.py", "show_legend", "color"): "of the palette",
    ("widgets.py", "segmented_control", "list(texts)"): "each goes through markdown",
    ("widgets.py", "warn_invalid_query", "label"): "a widget's label",
    ("widgets.py", "empty_state", "text"): "the callers' Markdown, looked at too",
    ("widgets.py", "empty_state", "icon"): "the callers' icon, looked at too",
    ("session.py", "is_confirmed", "text"): "the callers' Markdown, looked at too",
    ("session.py", "is_confirmed", "label"): "the callers' Markdown, looked at too",
    ("jobs.py", "_launch", "_RECORD"): "the name of a file",
    ("jobs.py", "stop", "_RECORD"): "the name of a file",
    ("main.py", "main", "page.title"): "of a declared page",
    ("curves.py", "curves", "chosen.metric"): "of METRICS",
    ("images.py", "_select_severity", "names[0]"): "a number",
    ("images.py", "_select_trainings", "label"): "one of two words",
    ("images.py", "images", "_filter_label()"): "words of ours and a number",
    ("images.py", "_show_remark", "text"): "of numbers and words of ours",
    ("overview.py", "_show_verdict", "len(told) - MOST_VERDICTS"): "a number",
    ("story.py", "_show_extremes", "title"): "Markdown of the caller",
    ("widgets.py", "offer_report", "lack"): "the callers' Markdown, looked at too",
    ("widgets.py", "offer_to_clear", "text"): "the callers' Markdown, looked at too",
    ("live.py", "_warn_about_photograph", "scenes.CLASSES[-1]"): "of the package",
    ("live.py", "_warn_about_photograph", "scenes.CLASSES[:-1]"): "of the package",
    ("live.py", "_show", "_SKELETON"): "of ours",
    ("live.py", "_show_objects", "which"): "words of ours",
    ("overview.py", "_show_board", "CONDITIONS[name].lower()"): "words of ours",
    ("overview.py", "_show_downloads", "_format_time(about.st_mtime)"): "a date",
    ("overview.py", "_show_downloads", "kind"): "one of two words",
    ("overview.py", "_show_state", "total - missing"): "a number",
    (
        "paper.py",
        "paper",
        "widgets.segmented_control('Table of the paper', list(TABLES), 'table')",
    ): "of TABLES",
    ("run.py", "_show_job", "_state(is_running, progress)"): "words of ours",
    ("run.py", "_show_job", "_stages(stages)"): "words of ours and numbers",
    ("run.py", "_show_job", "_time_left(path, progress)"): "numbers",
    ("run.py", "_show_job", "progress.cells"): "a number",
    ("run.py", "_show_job", "progress.complete"): "a number",
    ("main.py", "main", "APP / 'page.css'"): "a file of ours",
    ("main.py", "main", "APP / 'dark.css'"): "a file of ours",
}


def calls() -> Iterator[tuple[str, str, ast.Call, ast.FunctionDef]]:
    """Every call in a function of the pages: file, the outermost function's name, the call and the function."""
    for path in sorted(file for folder in FOLDERS for file in folder.rglob("*.py")):
        for outer in ast.parse(path.read_text("utf-8")).body:
            if isinstance(outer, ast.FunctionDef):
                for node in ast.walk(outer):
                    if isinstance(node, ast.Call):
                        yield path.name, outer.name, node, outer


def texts(call: ast.Call) -> Iterator[ast.expr]:
    """The arguments of a call that are read as Markdown or HTML."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if ast.unparse(call.func).startswith(("escaping.", "os.")):
        return  # `escaping.markdown` escapes what `st.markdown` reads; `os.write` shows nothing
    given = {word.arg: word.value for word in call.keywords}
    if name in MARKDOWN | WRAPPERS | set(FIRST):
        place = FIRST.get(name, 0)
        yield from call.args[place : place + 1]
        yield from (given[word] for word in ("label", "body", "text", "help") if word in given)
        if ast.unparse(call.func) in {f"st.{one}" for one in OPTIONS} and len(call.args) > 1:
            yield call.args[1]
        if name in ("empty_state", "is_confirmed"):
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
        # Of numbers: no text takes it.
        parts = [] if spec and spec.strip("'\"")[-1:] in "dfg," else [value.value]
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
    assert not new, f"pass text through escaping.markdown, or say in ALLOWED why it needs none: {new}"


def test_what_is_allowed_is_there() -> None:
    assert set(ALLOWED) <= set(found())


@pytest.mark.parametrize(
    "name", ["dataframe", "data_editor", "vega_lite_chart", "altair_chart", "table", "json"]
)
def test_tables_and_charts_go_through_one_function(name: str) -> None:
    """Which makes their texts visible."""
    owners = {file for file, _, call, _ in calls() if ast.unparse(call.func) == f"st.{name}"}
    assert owners <= {"widgets.py", "charts.py"}


def test_no_page_allows_html_in_markdown_or_writes_csv_by_itself() -> None:
    source = "".join(path.read_text("utf-8") for folder in FOLDERS for path in folder.rglob("*.py"))
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
        'def f(a):\n b = a\n st.caption(f"{escaping.markdown(a)} {b} {a:g}")\n st.tabs(["x"])\n c.empty_state("t", a)'
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
