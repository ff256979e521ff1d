"""The components' code in Node: it parses, and what is free of the page computes what it says."""

import base64
import json
import shutil
import subprocess
from typing import Any

import pytest

from robustbench_sgdm.core import resources

FOLDER = resources.root() / "app/viewer"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node")


def node(code: str) -> Any:
    """What a module prints as JSON."""
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-"],
        input=code,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def address(name: str) -> str:
    """A component as a module's address."""
    return "data:text/javascript;base64," + base64.b64encode((FOLDER / name).read_bytes()).decode()


@pytest.mark.parametrize("name", sorted(file.name for file in FOLDER.glob("*.js")))
def test_a_component_is_a_module_with_one_function(name: str) -> None:
    """As Streamlit calls it; strict mode, which modules have, refuses what is misspelt on the left of a sign."""
    assert node(
        f"const m = await import({address(name)!r}); console.log(JSON.stringify(typeof m.default))"
    ) == ("function")


@pytest.mark.parametrize(
    ("seen", "known", "asked"),
    [
        ([], [], []),
        ([2, 3], [], [2, 3]),
        ([2, 3], [2], [3]),
        (list(range(30)), [0, 1], list(range(2, 12))),
    ],
)
def test_the_gallery_asks_for_what_is_seen_and_lacking(
    seen: list[int], known: list[int], asked: list[int]
) -> None:
    """Ten at a time, in the order of the page."""
    items = [{"id": number} for number in range(30)]
    thumbs = [[str(number), "data:"] for number in known]
    call = f"m.missing({json.dumps(items)}, new Set({seen}), new Map({json.dumps(thumbs)}))"
    code = f"const m = await import({address('gallery.js')!r}); console.log(JSON.stringify({call}))"
    assert node(code) == asked


@pytest.mark.parametrize(("works", "says"), [("true", "Copied"), ("false", "Copy it from the address bar")])
def test_the_link_is_copied_or_one_is_told_how(works: str, says: str) -> None:
    """Where the browser has no clipboard for the page, by the older way."""
    code = f"""
const button = {{}}, area = {{ select() {{}}, remove() {{}} }};
globalThis.location = {{ href: "http://a/b?c=d" }};
globalThis.setTimeout = () => 0;
globalThis.document = {{
  createElement: (name) => (name === "button" ? button : area),
  body: {{ append() {{}} }},
  execCommand: () => {works},
}};
const m = await import({address("copy_link.js")!r});
m.default({{ parentElement: {{ querySelector: () => null, appendChild: (one) => one }} }});
await button.onclick();
console.log(JSON.stringify([button.textContent, area.value]));
"""
    assert node(code) == [says, "http://a/b?c=d"]
