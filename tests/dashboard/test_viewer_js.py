"""The viewer's own arithmetic, in Node where it is installed, else in the browser."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from robustbench_sgdm.core import resources

VIEWER = (resources.root() / "app/viewer/viewer.js").read_bytes()
MODULE = "data:text/javascript;base64," + base64.b64encode(VIEWER).decode()


@pytest.fixture(scope="module")
def js(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Evaluates an expression of the module `v`."""
    if node := shutil.which("node"):

        def in_node(expression: str) -> Any:
            code = f"const v = await import({MODULE!r}); console.log(JSON.stringify({expression}))"
            words = [node, "--input-type=module", "-"]
            done = subprocess.run(words, input=code, capture_output=True, text=True, check=True, timeout=60)
            return json.loads(done.stdout)

        return in_node
    page = request.getfixturevalue("browser").new_page()
    return lambda expression: page.evaluate(f"import({MODULE!r}).then(v => {expression})")


def box(x: float, y: float, w: float, h: float, **more: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "w": w, "h": h, "kind": "matched", "label": "cat", "score": 0.5, **more}


@pytest.mark.parametrize(
    ("count", "width", "height", "aspect", "columns"),
    [
        (1, 1300, 600, 1.5, 1),
        (2, 1300, 600, 1.5, 2),
        (2, 1300, 600, 0.6, 2),
        (2, 500, 900, 2.0, 1),
        (4, 1300, 600, 1.5, 2),
        (4, 1300, 600, 0.6, 4),
        (6, 1300, 600, 1.5, 3),
        (3, 1300, 600, 4.0, 1),
    ],
)
def test_panes_fill_the_window(
    js: Callable[[str], Any], count: int, width: int, height: int, aspect: float, columns: int
) -> None:
    fitted = js(f"v.fitPanes({count}, {width}, {height}, {aspect})")
    rows = -(-count // columns)
    assert fitted["columns"] == columns
    assert fitted["width"] * columns <= width and (fitted["height"] + 30) * rows <= height
    assert fitted["width"] / fitted["height"] == pytest.approx(aspect)


def test_labels_never_lie_over_each_other(js: Callable[[str], Any]) -> None:
    boxes = [box(20 * (i % 5), 15 * (i % 7), 60, 40) for i in range(24)] + [box(500, 10, 9, 9)]
    labels = [{"box": one, "w": 40, "h": 12} for one in boxes]
    placed = js(f"v.placeLabels({json.dumps(labels)}, [0, 0, 200, 150])")
    shown = [p for p in placed if p]
    assert placed[0] == {"x": 0, "y": 0} and placed[-1] is None and 8 <= len(shown) < 24
    for i, a in enumerate(shown):
        assert 0 <= a["x"] <= 160 and 0 <= a["y"] <= 138
        assert all(abs(a["x"] - b["x"]) >= 40 or abs(a["y"] - b["y"]) >= 12 for b in shown[:i])


def test_a_box_in_words(js: Callable[[str], Any]) -> None:
    truth = [box(0, 0, 10, 10, kind="truth"), box(0, 0, 10, 10, kind="truth", label="dog")]

    def told(**one: Any) -> Any:
        return js(f"v.describe({json.dumps(box(0, 0, 10, 5, **one))}, {json.dumps(truth)})")

    assert told(object=0) == ["cat · matched", "score 0.50", "IoU 0.50 with its object"]
    assert told(kind="false", label="dog") == ["dog · false", "score 0.50", "IoU 0.50 with the nearest dog"]
    assert told(kind="false", label="cow")[-1] == "overlaps no cow"
    assert told(kind="missed", score=None, flip=True) == [
        *("cat · missed", "no box of this class matches it", "10 × 5 px", "the models differ here")
    ]
    assert told(kind="missed", score=0.11)[1] == "its box scores 0.11 only"
    assert told(kind="only", partner=0)[-1] == "the other model has no such box"


def test_where_models_differ_follows_the_confidence(js: Callable[[str], Any]) -> None:
    kinds = ("missed", "matched")
    panes = [
        [box(0, 0, 9, 9, kind=kind, object=o, score=s) for o, s in enumerate(scores) for kind in kinds]
        for scores in ((0.3, 0.99), (0.6, 0.99), (0.2, 0.9))
    ]
    panes.append([])  # nothing is stored of this model
    for confidence, objects in ((0.1, []), (0.25, [0]), (0.5, [0]), (0.7, []), (0.95, [1])):
        assert js(f"[...v.differing({json.dumps(panes)}, {confidence})]") == objects


def test_the_smallest_box_under_the_pointer(js: Callable[[str], Any]) -> None:
    boxes = json.dumps([box(0, 0, 100, 100), box(10, 10, 20, 20), box(15, 15, 60, 60)])
    assert js(f"v.boxAt({boxes}, [20, 20], 0).w") == 20 and js(f"v.boxAt({boxes}, [32, 12], 3).w") == 20
    assert js(f"v.boxAt({boxes}, [32, 12], 0).w") == 100 and js(f"v.boxAt({boxes}, [120, 12], 0)") is None


def test_views_stay_in_the_image(js: Callable[[str], Any]) -> None:
    assert js("v.clampView([-50, 500, 200, 200], 400, 300)") == [0, 150, 200, 150]
    assert js("v.clampView([0, 0, 1, 1], 400, 300)") == [0, 0, 10, 7.5]
    assert js("[v.circle(-1, 12), v.circle(12, 12), v.circle(null, 12)]") == [11, 0, None]


def test_names_of_saved_files_are_plain(js: Callable[[str], Any]) -> None:
    for name, saved in (("a b.jpg", "a-b-fog-at-severity-3"), ("../../<b>.png", "b-fog-at-severity-3")):
        assert js(f"v.fileName({{name: {name!r}, condition: 'fog at severity 3'}})") == saved
