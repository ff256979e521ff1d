"""The tutorials work: every block that is not marked runs, page after page, and prints what the page shows."""

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import robustbench_sgdm as rb
from robustbench_sgdm import cli, evaluation
from robustbench_sgdm.cli import console
from robustbench_sgdm.core import resources
from robustbench_sgdm.detectors import bundled_weights
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.sweep import measure_latency
from tests.support.doc_pages import DOCS, Block, blocks, words

TUTORIALS = DOCS / "tutorials"

NEEDS: Mapping[str, str] = {
    "read-a-report": "first-run",
    "ci": "first-run",
    "before-and-after": "your-model-your-data",
    "int8": "your-model-your-data",
}
"""The page whose files a page uses, as it says."""

CHECKPOINTS = {"best": "yolov8n", "before": "yolov8n", "after": "yolov8n-sgdm"}
"""What readers have: files by name, here of the embedded weights."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader works, with checkpoints as Ultralytics writes them."""
    folder = tmp_path_factory.mktemp("project")
    for name, model in CHECKPOINTS.items():
        path = bundled_weights(model)
        assert path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save({"model": weights.copy_network(weights.read_weights(path))}, folder / f"{name}.pt")
    return folder


class Reader:
    """Does what a page says, in the project's folder."""

    def __init__(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.project, self.monkeypatch, self.capsys = project, monkeypatch, capsys
        monkeypatch.chdir(project)
        monkeypatch.setattr(console.out, "width", 300)  # tables are not folded

    def follow(self, name: str) -> None:
        """Do a page, after the one that it needs; each once."""
        done = self.project / f".{name}"
        if done.exists():
            return
        if name in NEEDS:
            self.follow(NEEDS[name])
        shown, scope = "", {"__name__": "reader"}
        for block in blocks(TUTORIALS / f"{name}.md"):
            if block.language == "text":
                _assert_shown(block.text, shown)
            elif block.is_run and block.language in ("bash", "python"):
                shown = self._run(block, scope)
        done.touch()

    def _run(self, block: Block, scope: dict[str, Any]) -> str:
        if block.language == "bash":
            return "".join(self._command(line) for line in block.commands)
        if name := re.match(r"# (\S+/\S+\.py)\n", block.text):
            (self.project / name[1]).parent.mkdir(exist_ok=True)
            (self.project / name[1]).write_text(block.text, "utf-8")
            return ""
        exec(compile(block.text, "tutorial", "exec"), scope)
        return self.capsys.readouterr().out

    def _command(self, line: str) -> str:
        if words(line)[0] != "robustbench":
            subprocess.run(line, shell=True, check=True, cwd=self.project, stdout=subprocess.DEVNULL)
            return ""
        with self.monkeypatch.context() as only, pytest.raises(SystemExit) as stop:
            only.setattr(sys, "argv", words(line))
            if words(line)[1] == "run":  # each ends with a report: here `robustbench report` alone writes one
                only.setattr(
                    rb.Run, "report", lambda run: (run.path / "report.html", run.path / "report.pdf")
                )
            cli.main()
        told = self.capsys.readouterr()
        expected = re.search(r"\|\| test \$\? = (\d+)$", line)
        assert int(stop.value.code or 0) == int(expected[1] if expected else 0), (line, told.err)
        return told.out


def _assert_shown(text: str, shown: str) -> None:
    """A page's output is the command's, but for numbers and blanks."""
    lines = [_mask(line) for line in shown.splitlines()]
    for line in filter(str.strip, text.splitlines()):
        assert _mask(line) in lines, f"{line!r} is not in\n{shown}"


def _mask(line: str) -> str:
    return " ".join(re.sub(r"[-+]?\d+(?:\.\d+)?", "#", line).split())


@pytest.fixture
def reader(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Reader]:
    # A latency is of no interest here, and a busy machine would take a minute for its 25 rounds.
    monkeypatch.setattr(evaluation, "measure_latency", partial(measure_latency, rounds=6))
    yield Reader(project, monkeypatch, capsys)


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in TUTORIALS.glob("*.md") if path.stem not in ("index", "notebook"))
)
def test_a_tutorial(reader: Reader, name: str) -> None:
    reader.follow(name)


def test_the_gate_writes_junit(reader: Reader) -> None:
    reader.follow("ci")
    passed, failed = ((reader.project / f"{name}.xml").read_text("utf-8") for name in ("gate", "failed"))
    assert "<failure" not in passed and "<testcase" in passed and "<failure" in failed


def test_the_script_of_the_results_takes_such_a_run(reader: Reader, tmp_path: Path) -> None:
    reader.follow("first-run")
    script = resources.import_file(DOCS.parent / "tools" / "results.py")
    script.write_csv(rb.Run.open("runs/robustness/first"), tmp_path)
    results, stored = pd.read_csv(tmp_path / "results.csv"), pd.read_csv(script.DATA / "results.csv")
    assert list(results) == list(stored) and set(results["images"]) == {13}
    rows = script.by_severity(results).splitlines()
    assert len(rows) == 2 + 3 and len(script.means(results).splitlines()) == 2 + 6
    scores = rb.Run.open("runs/robustness/first").results().set_index(["model", "severity"])["AP"]
    shown = [float(cell.split()[0]) for cell in rows[-1].split("|")[2:4]]
    assert shown == pytest.approx([scores["yolov8n", 5], scores["yolov8n-sgdm", 5]], abs=0.006)


def test_files_for_build_servers_are_theirs() -> None:
    github, gitlab = (yaml.safe_load(b.text) for b in blocks(TUTORIALS / "ci.md") if b.language == "yaml")
    steps = github["jobs"]["gate"]["steps"]
    scripts = [step["run"] for step in steps if "run" in step], gitlab["robustness"]["script"]
    for lines in scripts:
        assert [words(line)[:2] for line in lines] == [
            ["pip", "install"],
            ["robustbench", "run"],
            ["robustbench", "compare"],
        ]
    assert all(set(step) & {"uses", "run"} for step in steps)
    assert gitlab["robustness"]["artifacts"]["reports"] == {"junit": "gate.xml"}


def test_the_notebook(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run one after the other, as a notebook runs them, but for the one that installs."""
    notebook = json.loads((TUTORIALS / "robustness.ipynb").read_text("utf-8"))
    assert notebook["nbformat"] == 4 and {cell["cell_type"] for cell in notebook["cells"]} == {
        "code",
        "markdown",
    }
    scope: dict[str, Any] = {"__name__": "notebook"}
    for cell in notebook["cells"]:
        assert set(cell) >= {"id", "metadata", "source"}
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not source.startswith("%pip"):
            exec(compile(source, "notebook", "exec"), scope)
    assert (reader.project / "severity.svg").is_file() and not any(
        cell.get("outputs") for cell in notebook["cells"]
    )
