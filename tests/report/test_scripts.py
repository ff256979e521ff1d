"""Names in any script, long names and hostile ones: readable and apart in every figure, in report.html and report.pdf."""

import base64
import io
import json
import re
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.text import Text
from PIL import Image as Pillow

from robustbench_sgdm import corruption, datasets, figures, report
from robustbench_sgdm.figures import RunAnalysis, fonts
from robustbench_sgdm.scoring import Scorer
from robustbench_sgdm.store import Cell, Run, cell_key
from robustbench_sgdm.sweep import make_corrupted_images, score_cell
from robustbench_sgdm.sweep.metadata import corruption_info, dataset_info, ground_truth
from tests.support.synthetic_runs import make_manifest

SCRIPTS = {
    "Chinese": "类别 車輛",
    "Japanese": "自転車 ねこ カタカナ",
    "Korean": "자동차 고양이",
    "Cyrillic": "Собака Ёж ґанок",
    "Greek": "γάτα ἄνθρωπος",
    "Arabic": "قطة سيارة گربه",
    "Hebrew": "חתול",
    "Devanagari": "बिल्ली क्षत्रिय",
    "Thai": "แมวน้ำ",
    "emoji": "🐱 🚗 ❤️ 👨‍👩‍👧 🇩🇪 👍🏽 1️⃣",
    "Bengali": "বাংলা",
    "Tamil": "தமிழ்",
    "Telugu": "తెలుగు",
    "Kannada": "ಕನ್ನಡ",
    "Malayalam": "മലയാളം",
    "Gujarati": "બિલાડી",
    "Gurmukhi": "ਬਿੱਲੀ",
    "Oriya": "ବିଲେଇ",
    "Sinhala": "සිංහල",
    "Khmer": "ខ្មែរ",
    "Burmese": "မြန်မာ",
    "Amharic": "አማርኛ",
    "Lao": "ແມວ",
    "Georgian": "კატა",
    "Armenian": "կատու",
    "Dhivehi": "ބުޅާ",
    "full width": "ｃａｔ　１",
}
ODD = [
    "cost $x^2$ $\\frac{$",
    "100 %_a{b}<&>#~^",
    "_underscore",
    "two\nlines\tand a tab",
    "\x1b[2Jescape\x00",
    "\u202edrawkcab",
    "no\ufeffbom",
    "no\u200bspace",
    "nospace",
    "\U00013000 hieroglyph",
    "\U00013001 hieroglyph",
    "\ue000 private",
    "Cafe\u0301",
    "Caf\u00e9",
    "x" * 500,
    "x" * 499 + "y",
    "x" * 250 + "z" + "x" * 249,
    "汉" * 300,
]
NAMES = [*SCRIPTS.values(), *ODD]
MODELS = {"сеть": None, "_モデル $a$ " + "長" * 60: "сеть", "_モデル $a$ " + "長" * 61: "сеть"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Complete, of one image with an object of each class."""
    root, rng = tmp_path_factory.mktemp("scripts"), np.random.default_rng(3)
    Pillow.fromarray(rng.integers(0, 256, (120, 160, 3), np.uint8)).save(root / "1.png")
    boxes = [[2.0 + 3 * i, 10.0 + i, 20.0, 30.0] for i in range(len(NAMES))]
    annotations = [
        {"id": i, "image_id": 1, "category_id": i, "bbox": box, "area": 600, "iscrowd": 0}
        for i, box in enumerate(boxes, 1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 160, "height": 120}],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)],
    }
    (root / "data.json").write_text(json.dumps(content))
    dataset = datasets.load_dataset(str(root / "data.json"), root)
    chosen = {c.name: c for c in corruption.load_corruptions().select(["fog"])}
    cells = [
        Cell(m, c, s, cell_key(model=m, corruption=c, severity=s))
        for m in MODELS
        for c, s in (("clean", 0.0), ("fog", 3.0))
    ]
    manifest = make_manifest(
        cells,
        models={
            m: {"baseline": b, "weights": "w.pt", "parameters": 3, "imgsz": 160} for m, b in MODELS.items()
        },
        data=dict(dataset_info(dataset)),
        corruptions={
            name: dict(corruption_info(one, [3.0], one.fingerprint())) for name, one in chosen.items()
        },
    )
    made = Run.create_or_resume(root, "told", manifest, ground_truth=ground_truth(dataset))
    x, y, w, h = np.array(boxes).T
    for cell in made.cells:
        keep = rng.random(len(NAMES)) > cell.severity / 6
        columns = {
            "image_id": np.ones(len(NAMES), np.int64),
            "category_id": np.arange(1, len(NAMES) + 1),
            "score": np.linspace(0.9, 0.4, len(NAMES), dtype=np.float32),
            **{
                k: v.astype(np.float32)
                for k, v in zip(("x1", "y1", "x2", "y2"), (x, y, x + w, y + h), strict=True)
            },
        }
        made.store.write_shard(cell, 0, {k: v[keep] for k, v in columns.items()})
        score_cell(made.store, cell, 1, Scorer(dataset))
    made.write_results()
    return made


@pytest.fixture(scope="module")
def analysis(run: Run) -> RunAnalysis:
    made = RunAnalysis(run, resamples=20, images=[1], max_images=1)
    make_corrupted_images(
        run, [*made.image_refs, *made.contact_sheet], {c.name: c for c in corruption.load_corruptions()}
    )
    return made


@cache
def tables() -> dict[str, tuple[str, str, frozenset[int]]]:
    """Each font's family, licence and characters, by its file's name in the order of use; read by fontTools."""
    found = {}
    for path in (fonts.DEJAVU, *sorted(fonts.FOLDER.glob("*.ttf"))):
        with TTFont(path) as font:
            name = font["name"].getDebugName
            found[path.name] = name(1), f"{name(13)} {name(14)}", frozenset(font.getBestCmap())
    return found


def test_the_fonts_have_every_script() -> None:
    assert fonts.families() == [family for family, *_ in tables().values()]
    known = frozenset().union(*(characters for *_, characters in tables().values()))
    for script, name in SCRIPTS.items():
        assert {ord(c) for c in name} <= known, script
        assert fonts.make_legible(name) == unicodedata.normalize("NFC", name), script


@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_no_font_is_warned_of(weight: str, caplog: pytest.LogCaptureFixture) -> None:
    for family in fonts.families():
        fontManager.findfont(FontProperties(family=family, weight=weight))
    assert not caplog.messages


def test_every_font_has_its_licence() -> None:
    files = {path.name for path in fonts.FOLDER.iterdir()}
    assert files - {"OFL.txt", "Apache-2.0.txt", "README.md", "text"} == set(tables()) - {fonts.DEJAVU.name}
    for _, licence, _ in list(tables().values())[1:]:
        assert "Open Font License" in licence or "Apache License" in licence


def drawn(figure: Figure) -> list[str]:
    """Every text of a figure."""
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


# No PSNR was measured, no log is beside the weights, there is no other data, and as many objects flip either way.
WITHOUT = {"psnr", "losses", "shift", "flipped-objects"}


@pytest.mark.parametrize("name", [n for n in figures.all_figures() if n not in WITHOUT])
@pytest.mark.parametrize(
    "ending", ["svg", *(pytest.param(e, marks=pytest.mark.slow) for e in ("png", "pdf"))]
)
def test_each_figure_draws_them(analysis: RunAnalysis, name: str, ending: str, tmp_path: Path) -> None:
    """A glyph that is missing, a formula and a layout without room are warnings of matplotlib, and so errors here."""
    figure = figures.draw(name, analysis).figure
    figures.save_figure(figure, tmp_path / f"x.{ending}")
    known = frozenset().union(*(characters for *_, characters in tables().values()))
    for text in drawn(figure):
        assert {ord(c) for c in text} <= known | {ord("\n")}, text
    if name in {"classes", "severity", "means", "sizes"}:
        named = [*figure.legends, *figure.axes[0].texts]  # a single panel names its lines at their ends
        found = [t for each in named for t in each.findobj(Text) if isinstance(t, Text)]
        texts = [text.get_text() for text in found if text.get_text()]
        assert len(set(texts)) == 3 and "сеть" in texts
        assert all(t.startswith("_モデ") for t in texts if t != "сеть")
        for each in named:
            box, room = each.get_window_extent(), figure.bbox
            assert box.width < room.width and box.height < room.height / 2


def test_every_class_is_told_apart(analysis: RunAnalysis) -> None:
    figure = figures.draw_class_drops(analysis.class_drops, most=len(NAMES))
    labels = [label.get_text().rpartition(" (")[0] for label in figure.axes[0].get_yticklabels()]
    assert len(set(labels)) == len(labels) == len(NAMES)
    assert {unicodedata.normalize("NFC", name) for name in SCRIPTS.values()} < set(labels)
    assert {
        "cost $x^2$ $\\frac{$", "100 %_a{b}<&>#~^", "_underscore", "two\\nlines\\tand a tab", "\\x1b[2Jescape\\x00",
        "\\u202edrawkcab", "no\\ufeffbom", "no\\u200bspace", "nospace", "\\U00013000 hieroglyph", "\\ue000 private",
    } < set(labels)  # fmt: skip


def test_names_that_differ_anywhere_stay_apart() -> None:
    names = [f"{'a' * i}{c}{'a' * (300 - i)}" for i in (0, 1, 150, 299, 300) for c in "bc"]
    shown = fonts.fit_names(names, 1.5)
    assert len(set(shown.values())) == len(names)
    assert all(fonts.width(text) <= 1.5 for text in shown.values())
    assert fonts.fit_names(["cat", "犬"], 1.5) == {"cat": "cat", "犬": "犬"}
    alike = ["a b", "a\u00a0b", "a  b", "a b ", "", " ", "\u3000"]
    assert len({" ".join(text.split()) for text in fonts.fit_names(alike, 1.5).values()}) == len(alike)


@pytest.fixture(scope="module")
def written(analysis: RunAnalysis) -> Path:
    report.write_report(analysis)
    return analysis.run.path


def test_the_page_holds_the_letters(written: Path) -> None:
    """Each character that DejaVu lacks is in one of the fonts inside the page, which hold little else."""
    page = (written / "report.html").read_text("utf-8")
    held: set[int] = set()
    for data, ranges in re.findall(r"base64,([^\"]+)\"\); unicode-range: ([^;]+);", page):
        with TTFont(io.BytesIO(base64.b64decode(data))) as font:
            characters = set(font.getBestCmap())
        assert {int(c[2:], 16) for c in ranges.split(", ")} <= characters
        held |= characters
    *_, plain = tables()[fonts.DEJAVU.name]
    assert {ord(c) for name in SCRIPTS.values() for c in name} <= held | plain
    assert len(page) < 6_000_000  # what a report may have at most
    hidden = [c for c in page if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t\u200c\u200d"]
    assert not hidden and "\\u202edrawkcab" in page and "\U00013000" in page


def test_a_page_of_common_names_holds_no_font() -> None:
    assert not fonts.faces("Latin é, γάτα, Собака, قطة, חתול ≥ Δ “x” …")


def test_the_document_shows_them(written: Path) -> None:
    """The names that need no shaping read back; every font in it has outlines for what it draws; no page is shrunk."""
    document = pypdf.PdfReader(written / "report.pdf")
    text = unicodedata.normalize("NFKC", "".join(page.extract_text() for page in document.pages))
    for script in ("Chinese", "Japanese", "Korean", "Cyrillic", "Greek", "Amharic", "Georgian", "Armenian"):
        for word in SCRIPTS[script].split():
            assert unicodedata.normalize("NFKC", word) in text, script
    for odd in ("\\U00013000", "\\u202e", "\\x1b[2J", "$x^2$", "100 %_a{b}<&>"):
        assert odd in text
    families = {str(f["/BaseFont"]) for page in document.pages for f in _fonts_of(page)}
    for family in ("DroidSansFallback", "NotoEmoji", "NotoSansDevanagari", "NotoSansThai", "NotoSansTamil"):
        assert any(family in one for one in families), families
    assert min(_sizes(document.pages[0])) > 5  # points: a page is printed as small as its widest table needs


def _fonts_of(page: Any) -> list[Any]:
    return [f.get_object() for f in page["/Resources"].get("/Font", {}).values()]


def _sizes(page: Any) -> list[float]:
    found: list[float] = []

    def visit(text: str, cm: Any, tm: Any, _: Any, size: float) -> None:
        if text.strip():
            found.append(abs(size * tm[3] * cm[3]))

    page.extract_text(visitor_text=visit)
    return found


@pytest.mark.slow
def test_the_browser_uses_the_fonts_of_the_page(written: Path, browser: Any) -> None:
    """Whatever fonts the machine has."""
    page = browser.new_page()
    page.goto((written / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.evaluate("document.body.offsetHeight && document.fonts.ready.then(() => 1)")
    used = page.evaluate(
        "[...document.fonts].filter(f => f.status == 'loaded').map(f => f.family.replaceAll('\"', ''))"
    )
    assert {"Droid Sans Fallback", "Noto Emoji", "Noto Sans Devanagari"} <= set(used)
    page.close()


def test_bold_text_says_nothing_on_the_terminal() -> None:
    """matplotlib reports a weight that a font lacks through logging, which no warnings filter sees."""
    code = (
        "from robustbench_sgdm.figures.style import plot_style\n"
        "from matplotlib.figure import Figure\n"
        "with plot_style():\n"
        "    figure = Figure()\n"
        "    figure.text(0, 0, '\\u7c7b \\u0baf bold', weight='bold')\n"
        "    figure.savefig(__import__('io').BytesIO())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
