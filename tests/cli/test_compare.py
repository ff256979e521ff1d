"""`robustbench score` and `robustbench compare`, on predictions that a detector of ours made elsewhere."""

import csv
import io
import json
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm import cli
from robustbench_sgdm.cli import console
from robustbench_sgdm.robustness import find_flips
from robustbench_sgdm.store import Run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console.out, "width", 160)  # tables unfolded, whatever COLUMNS says

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["robustbench", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out, shown.err

    return run


def predictions(truth: dict[str, Any], keep: float, shift: float = 0.0) -> list[dict[str, Any]]:
    """The first share of the boxes, moved by some pixels."""
    boxes = truth["annotations"][: max(1, round(keep * len(truth["annotations"])))]
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": [a["bbox"][0] + shift, *a["bbox"][1:]],
            "score": 0.9 - 0.01 * n,
        }
        for n, a in enumerate(boxes)
    ]


def folder(root: Path, truth: dict[str, Any], better: float) -> Path:
    """Predictions in the layout of `robustbench corrupt`."""
    for corruption, severity, keep in (
        ("gaussian_noise", 1, 0.7),
        ("gaussian_noise", 3, 0.4),
        ("fog", 3, 0.5),
    ):
        place = root / corruption / str(severity)
        place.mkdir(parents=True)
        (place / "predictions.json").write_text(json.dumps(predictions(truth, keep * better)))
    (root / "clean.json").write_text(json.dumps(predictions(truth, 1.0)))
    return root


@pytest.fixture
def scored(tiny_coco: Path, tmp_path: Path, command: Command) -> tuple[Path, dict[str, Any]]:
    """A run directory with two models' predictions."""
    truth = json.loads(tiny_coco.read_text())
    data = ("--data", str(tiny_coco), "--name", "there")
    code, _, err = command("score", str(folder(tmp_path / "a", truth, 1.0)), "--model", "a", *data)
    assert code == 0, err
    code, out, err = command(
        "score", str(folder(tmp_path / "b", truth, 0.6)), "--model", "b", "--baseline", "a", *data
    )
    assert code == 0 and "its difference from a" in out, err
    return tmp_path / "runs/robustness/there", truth


def test_the_first_predictions_are_said_to_be_the_baseline(
    tiny_coco: Path, tmp_path: Path, command: Command
) -> None:
    truth = json.loads(tiny_coco.read_text())
    for model, better in (("a", 1.0), ("b", 0.6)):
        place = str(folder(tmp_path / model, truth, better))
        code, _, err = command("score", place, "--model", model, "--data", str(tiny_coco), "--name", "two")
        assert code == 0 and ("a is the baseline because it is the first model" in err) == (model == "b")
    run = tmp_path / "runs/robustness/two"
    for level in ("0.95", "0.5"):
        _, text, _ = command("compare", str(run), "--resamples", "20", "--level", level, "--format", "json")
        flips = [row for row in json.loads(text) if row["statistic"] == "flips"]
        assert flips and all(row["significant"] == (row["p_holm"] < 1 - float(level)) for row in flips)


def test_score_has_the_options_of_run_for_scripts(tiny_coco: Path, tmp_path: Path, command: Command) -> None:
    place = str(folder(tmp_path / "a", json.loads(tiny_coco.read_text()), 1.0))
    words = ("score", place, "--model", "a", "--data", str(tiny_coco), "--name", "there")
    code, out, err = command(*words, "-q")
    assert code == 0 and {line.split()[0] for line in out.splitlines()} == {"P", "mPC", "rPC"}
    assert all(line.startswith("warning: ") for line in err.splitlines())
    code, out, _ = command(*words, "--json")
    (metric, *_) = json.loads(out)["metrics"]
    assert code == 0 and metric["models"][0]["model"] == "a" and metric["models"][0]["P"]["estimate"] == 100


def test_predictions_become_cells(scored: tuple[Path, dict[str, Any]]) -> None:
    run = Run.open(scored[0])
    assert not run.missing_cells() and len(run.cells) == 8 and run.baseline_pairs == [("a", "b")]
    frame = run.results()
    assert (frame.loc[frame["severity"] == 0, "AP"] == 100).all()
    assert frame.loc[(frame["model"] == "a") & (frame["corruption"] == "fog"), "strength"].item()
    assert set(frame["engine"]) == {"elsewhere"}


def test_compare_prints_and_writes_the_same_numbers(
    scored: tuple[Path, dict[str, Any]], command: Command, tmp_path: Path
) -> None:
    words = ("compare", str(scored[0]), "--resamples", "60")
    code, short, said = command(*words)
    assert code == 0 and "b and its difference from a" in short and "verdict" in short
    assert len((short + said).splitlines()) < 60
    code, out, _ = command(*words, "--all")
    assert code == 0 and "AP of b minus a" in out and "half of the clean AP" in out
    code, text, _ = command(*words, "--format", "csv")
    rows = list(csv.DictReader(text.splitlines()))
    own = {
        (r["model"], r["statistic"]): r
        for r in rows
        if r["baseline"] == "" and r["metric"] == "AP" and r["over"]
    }
    assert f"{float(own['a', 'rPC']['estimate']):.2f}" in out
    (error,) = (r for r in rows if (r["statistic"], r["metric"], r["over"]) == ("mCE", "AP", "fog at 3"))
    assert f"{float(error['estimate']):.2f} [" in out and "mCE over weather, against a" in out
    code, text, _ = command(*words, "--format", "json")
    objects = json.loads(text)
    assert [o["statistic"] for o in objects] == [r["statistic"] for r in rows]
    for model in ("a", "b"):
        (life,) = (
            o
            for o in objects
            if (o["statistic"], o["model"], o["corruption"]) == ("half-life", model, "gaussian_noise")
        )
        assert life["over"] == "gaussian_noise at 1, 3" and life["metric"] == "AP"
        said = "> 3" if life["estimate"] == "Infinity" else f"{life['estimate']:.2f}"
        assert f" {said} [" in out.partition("half of the clean AP")[2]
    counts = find_flips(Run.open(scored[0]), "a", "b").counts
    told = [r for r in rows if r["statistic"] == "flips"]
    assert [(r["corruption"], float(r["severity"]), float(r["both"])) for r in told] == [
        (r["corruption"], r["severity"], r["both"]) for r in counts.to_dict("records")
    ]
    assert [float(r["p_holm"]) for r in told] == counts["p_holm"].tolist()
    code, nothing, _ = command(*words, "--format", "markdown", "--out", "c.md")
    text = Path("c.md").read_text()
    assert not nothing and "## AP of b minus a" in text and "| fog 3 |" in text


def test_predictions_made_elsewhere_have_a_report(
    scored: tuple[Path, dict[str, Any]], command: Command
) -> None:
    """Without the pictures, which only whoever corrupted the images has."""
    code, _, err = command("report", str(scored[0]), "--resamples", "20")
    assert code == 0, err
    assert "corrupted outside this package" in err and "verdict" in err
    text = (scored[0] / "report.html").read_text("utf-8")
    assert 'id="errors"' in text and "contact-sheet" not in text


def test_thresholds_are_exit_codes(scored: tuple[Path, dict[str, Any]], command: Command) -> None:
    words = ("compare", str(scored[0]), "--resamples", "60")
    code, _, err = command(*words, "--fail-under", "rPC=1,AP=0")
    assert code == 0 and "--fail-under AP=0 passed by 8 of 8\n" in err
    sets = "fog at 3, gaussian noise at 1, 3; fog at 3; gaussian noise at 1, 3"
    assert f"--fail-under rPC:AP=1 passed by 6 of 6, over: {sets}\n" in err
    code, _, err = command(*words, "--fail-under", "rPC=99,AP=0", "--junit", "j.xml")
    assert code == 3 and "rPC:AP=99 failed: a" in err
    (suite,) = ElementTree.parse("j.xml").getroot()
    assert suite.get("failures") == str(err.count(" failed: "))
    assert command(*words, "--max-drop", "mPC=0", "--drops", "any")[0] == 3
    assert command(*words, "--max-drop", "mPC=100", "--drops", "any")[0] == 0
    assert command(*words, "--junit", "j.xml")[0] == 2


def test_measures_first_failures_classes_and_sizes(
    scored: tuple[Path, dict[str, Any]], command: Command
) -> None:
    words = ("compare", str(scored[0]), "--resamples", "30", "--metrics", "First-Failure,RECALL,d-ece")
    code, out, err = command(*words, "--format", "csv")
    assert code == 0, err
    rows = pd.read_csv(io.StringIO(out), keep_default_na=False)
    assert {"recall", "D-ECE"} <= set(rows["metric"]) and "AP" not in set(rows["metric"])
    failures = rows[rows["statistic"] == "first-failure"]
    assert set(failures["unit"]) == {"object", "image"} and set(failures["rule"]) == {"first", "lasting"}
    code, out, err = command(*words, "--sizes", "0,32,inf", "--format", "csv")
    assert code == 0 and {"recall", "recall_0-32", "recall_32-inf"} <= set(
        pd.read_csv(io.StringIO(out))["metric"]
    ), err
    code, out, err = command(*words, "--by-class", "--sizes", "0,32,inf", "--metric", "recall_0-32")
    assert code == 0 and "recall by class (%)" in out and "recall_0-32 (%)" in out, err
    assert "Operating confidence" in out and "Severity at which an object is first lost" in out
    assert "mPC of recall" in " ".join(out.split())
    code, given, err = command(*words, "--confidence", "0.99", "--format", "json")
    assert code == 0 and json.loads(given) != json.loads(command(*words, "--format", "json")[1])
    for extra, expected in (
        (("--confidence", "1.5"), "confidence 1.5 is outside [0, 1]"),
        (("--metric", "recal"), "did you mean recall"),
        (("--metric", "AP_S", "--sizes", "0,16,inf"), "unknown metric"),
        (("--sizes", "5,4"), "ascending numbers"),
        (("--fail-under", "D-ECE=5"), "use --max-drop"),
        (("--fail-under", "AP=5"), "name it with --metrics too"),
    ):
        code, _, err = command(*words, *extra)
        assert code == 2 and expected in err and "Traceback" not in err, err
    assert command(*words, "--max-drop", "d-ece=0", "--drops", "any")[0] in (0, 3)
    assert command(*words, "--fail-under", "recall=101")[0] == 3
    code, _, err = command("compare", str(scored[0]), "--metrics", "F1,first-failure", "--sizes", "0,16,inf")
    assert code == 2 and "sizes are not used by F1, first-failure" in err
    code, _, err = command("compare", str(scored[0]), "--confidence", "0.3")
    assert code == 2 and "confidence is not used by AP" in err
    own_sizes = ("--sizes", "0,32,inf", "--metric", "recall_0-32", "--fail-under", "recall_0-32=101")
    assert command(*words, *own_sizes)[0] == 3


def test_latex_has_the_numbers_of_the_csv(scored: tuple[Path, dict[str, Any]], command: Command) -> None:
    words = ("compare", str(scored[0]), "--resamples", "30", "--metric", "AP")
    code, text, err = command(*words, "--format", "latex")
    assert code == 0 and text.count("\\toprule") == text.count("\\end{table}") > 2, err
    rows = pd.read_csv(io.StringIO(command(*words, "--format", "csv")[1]))
    means = rows[(rows["baseline"].isna()) & rows["statistic"].isin(("P", "mPC", "rPC"))]
    table = text[text.index("\\caption{AP (") : text.index("\\end{table}")]
    lines = [line.strip().removesuffix("\\\\").split(" & ") for line in table.splitlines() if " & " in line]
    models = [name.strip() for name in lines[0][1:]]
    printed = {
        (models[n], line[0]): float(cell.split()[0])
        for line in lines[1:]
        for n, cell in enumerate(line[1:])
        if "textendash" not in cell and "mCE" not in line[0]
    }
    assert len(printed) == len(means.dropna(subset="estimate")) > 4
    for row in means.dropna(subset="estimate").to_dict("records"):
        over = row["over"] if isinstance(row["over"], str) else ""
        family = row["family"] if isinstance(row["family"], str) else ""
        name = f"{row['statistic']} over {(family or over).replace('_', ' ')}" if over else row["statistic"]
        assert printed[row["model"], name] == round(row["estimate"], 2)


def test_bad_comparisons(scored: tuple[Path, dict[str, Any]], command: Command, tmp_path: Path) -> None:
    for words, expected in (
        ((str(scored[0]), "--model", "bb"), "unknown model"),
        ((str(scored[0]), "--baseline", "a", "--model", "a"), "name another model"),
        ((str(scored[0]), "--metric", "AR1"), "unknown metric"),
        ((str(scored[0]), "--model", "a"), "a has no baseline"),
        ((str(scored[0]), "--arm", "x"), "is not NAME=MODEL+MODEL"),
        ((str(scored[0]), "--arm", "x=a", "--arm", "x=b"), "given twice"),
        ((str(tmp_path),), "is not a run directory"),
    ):
        code, _, err = command("compare", *words, "--resamples", "20")
        assert code in (1, 2) and expected in err and "Traceback" not in err


def test_mmdetections_nested_results(tiny_coco: Path, command: Command) -> None:
    scores = {"AP": 0.5, "AP50": 0.7, "AP75": 0.6, "APs": -1, "APm": 0.4, "APl": 0.8}
    worse = scores | {"AP": 0.25}
    nested = {"gaussian_noise": {"0": {"bbox": scores}, "1": {"bbox": worse}}, "fog": {"0": {"bbox": scores}}}
    Path("r.json").write_text(json.dumps(nested))
    code, _, err = command("score", "r.json", "--model", "m", "--data", str(tiny_coco), "--name", "n")
    assert code == 0, err
    frame = pd.read_csv("runs/robustness/n/results.csv")
    assert frame["AP"].tolist() == [50.0, 25.0] and frame["AP_S"].isna().all()
    assert (
        "r.json has only scores" in err
        and "r.json" in Run.open(Path("runs/robustness/n")).manifest.models["m"].notes[0]
    )
    code, out, err = command("compare", "runs/robustness/n", "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    (found,) = [r for r in rows if r["statistic"] == "rPC" and r["metric"] == "AP"]
    assert code == 0 and float(found["estimate"]) == 50 and found["low"] == ""
    code, _, err = command("report", "runs/robustness/n", "--summary")
    assert code == 0, err


@pytest.mark.parametrize("protocol", range(2, 6))
def test_mmdetections_pickles_are_as_its_json(tiny_coco: Path, command: Command, protocol: int) -> None:
    plain = {"AP": 0.364, "AP50": 0.7, "APs": -1}
    scores = {"AP": np.float64(0.364), "AP50": "0.7", "APs": np.float32(-1)}
    Path("r.json").write_text(json.dumps({"fog": {s: {"bbox": plain} for s in "01"}}))
    nested = OrderedDict(fog=OrderedDict({s: {"bbox": OrderedDict(scores)} for s in (0, np.int64(1))}))
    Path("r.pkl").write_bytes(pickle.dumps(nested, protocol))
    for source in ("r.json", "r.pkl"):
        code, _, err = command("score", source, "--model", "m", "--data", str(tiny_coco), "--name", source)
        assert code == 0, err
    results = [Path(f"runs/robustness/{source}/results.csv").read_text() for source in ("r.json", "r.pkl")]
    assert results[0] == results[1] and "36.4" in results[0]


def test_mmdetections_test_results_are_scored(tiny_coco: Path, command: Command) -> None:
    """In a folder, where a json of the same beside them is taken instead, and by name."""
    truth = json.loads(tiny_coco.read_text())
    boxes = {a["image_id"]: (a["category_id"], a["bbox"]) for a in truth["annotations"]}
    results = [[np.zeros((0, 5), np.float32)] * 2 for _ in truth["images"]]
    for image, (category, (x, y, w, h)) in boxes.items():
        results[image - 1][category - 1] = np.array([[x, y, x + w, y + h, 0.5]], np.float32)
    for name in ("fog/3/results.pkl", "fog/5.pickle", "clean.json", "clean.pkl"):
        Path("p", name).parent.mkdir(parents=True, exist_ok=True)
        Path("p", name).write_bytes(pickle.dumps(results))
    Path("p/clean.json").write_text(json.dumps(predictions(truth, 1.0)))
    words = ("--model", "m", "--data", str(tiny_coco), "--name")
    code, _, err = command("score", "p", *words, "a")
    assert code == 0 and "read in the order of val's categories (0 is person, 1 is cat)" in err, err
    assert "1 json or pickle file in p not read (p/clean.pkl)" in err
    assert pd.read_csv("runs/robustness/a/results.csv")["AP"].tolist() == [100.0] * 3
    code, _, err = command("score", "fog@3=p/fog/3/results.pkl", *words, "b")
    assert code == 0 and pd.read_csv("runs/robustness/b/results.csv")["AP"].tolist() == [100.0], err
    code, _, err = command("score", "p/clean.pkl", *words, "c")
    assert code == 1 and "pass a list of predictions as CORRUPTION@SEVERITY=p/clean.pkl" in err


def test_pickled_results_that_share_their_parts_are_bounded(tiny_coco: Path, command: Command) -> None:
    cell = {"bbox": {"AP": 0.5}}
    levels = dict.fromkeys(np.linspace(1, 5, 200).tolist(), cell)
    Path("r.pkl").write_bytes(pickle.dumps({str(n): levels for n in range(200)}))
    code, _, err = command("score", "r.pkl", "--model", "m", "--data", str(tiny_coco))
    assert code == 1 and "more than 10,000 pairs of corruption and severity" in err


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"AP": 0.75}, "AP is 0.75 and AP50 0.7"),
        ({"AP75": 0.71}, "AP75 cannot exceed AP50"),
        ({"AP": 50}, "neither in [0, 1]"),
        ({"AP": None}, "mmdetection"),
    ],
)
def test_scores_that_cannot_be(
    tiny_coco: Path, command: Command, changed: dict[str, Any], expected: str
) -> None:
    scores = {"AP": 0.5, "AP50": 0.7, "AP75": 0.7, "APs": -1, "APm": 0.4, "APl": -1, "AR1": 0.2, "AR10": 0.2}
    Path("r.json").write_text(json.dumps({"fog": {"1": {"bbox": scores | changed}}}))
    code, _, err = command("score", "r.json", "--model", "m", "--data", str(tiny_coco))
    assert code == 1 and expected in err and "Traceback" not in err


def test_scores_of_objects_that_the_data_lack_are_noticed(tiny_coco: Path, command: Command) -> None:
    """They hold objects of medium size alone."""
    scores = {"AP": 0.5, "AP50": 0.5, "APs": -1, "APm": 0.5, "APl": -1, "AR100": 0.6}
    for changed, count in (({}, 1), ({"APl": 0.3}, 2), ({"APm": -1}, 2), ({"APs": 0.3, "APm": -1}, 3)):
        Path("r.json").write_text(json.dumps({"fog": {s: {"bbox": scores | changed} for s in "12"}}))
        code, _, err = command("score", "r.json", "--model", "m", "--data", str(tiny_coco))
        assert (
            code == 0 and err.count("warning: ") == count and ("in 2 of 2 results" in err) == (count > 1)
        ), err


def test_clean_scores_that_differ_are_refused(tiny_coco: Path, command: Command) -> None:
    clean = {name: {"0": {"bbox": {"AP": value}}} for name, value in (("fog", 0.5), ("snow", 0.4))}
    Path("r.json").write_text(json.dumps(clean))
    code, _, err = command("score", "r.json", "--model", "m", "--data", str(tiny_coco))
    assert code == 2 and "has two files" in err and "they differ" in err


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"image_id": 99}, "image 99"),
        ({"category_id": 77}, "category 77"),
        ({"score": float("nan")}, "must be finite"),
        ({"score": 2.5}, "must lie in [0, 1]"),
        ({"bbox": [1, 2, 3]}, "has no valid image_id"),
        ({"image_id": True}, "must be integers"),
        ({"file_name": "004.png"}, "contradict"),
    ],
)
def test_bad_predictions(tiny_coco: Path, command: Command, entry: dict[str, Any], expected: str) -> None:
    good = predictions(json.loads(tiny_coco.read_text()), 0.1)[:1]
    Path("p.json").write_text(json.dumps([*good, good[0] | entry]))
    code, _, err = command("score", "clean=p.json", "--model", "m", "--data", str(tiny_coco))
    assert code == 1 and "p.json: " in err and "prediction 2" in err and expected in err


@pytest.mark.parametrize(
    ("source", "code", "expected"),
    [
        ("gausian@1=p.json", 2, "did you mean"),
        ("fog@9=p.json", 1, "from 0 (clean) to 5"),
        ("fog=p.json", 2, "neither CORRUPTION@SEVERITY"),
        ("@3=p.json", 2, "neither CORRUPTION@SEVERITY"),
        ("gaussian_noise[sigma=p.json", 2, "neither CORRUPTION@SEVERITY"),
        ("fog@2+gaussian_noise@4=p.json", 2, "write fog@2+gaussian_noise@4@1=p.json"),
        ("clean=none.json", 1, "none.json"),
        ("none", 1, "does not exist"),
        ("p.pkl", 1, "not a pickle"),
        ("p.json", 1, "CORRUPTION@SEVERITY=p.json"),
        ("empty", 1, "has no predictions"),
    ],
)
def test_bad_sources(tiny_coco: Path, command: Command, source: str, code: int, expected: str) -> None:
    Path("p.json").write_text("[]")
    Path("p.pkl").write_bytes(b"")
    Path("empty").mkdir()
    found, _, err = command("score", source, "--model", "m", "--data", str(tiny_coco))
    assert found == code and expected in err and "Traceback" not in err


@pytest.mark.parametrize(
    "corruption",
    [
        "fog+gaussian_noise",
        "fog@2+gaussian_noise@4",
        "gaussian_noise[sigma=0.15]",
        "gaussian_noise[sigma=1.5e+0]",
    ],
)
def test_corruption_names_with_at_and_equals_signs(
    tiny_coco: Path, command: Command, corruption: str
) -> None:
    Path("p=1@2.json").write_text("[]")
    words = ("score", f"{corruption}@1=p=1@2.json", "--model", "m", "--data", str(tiny_coco), "--name", "n")
    code, _, err = command(*words)
    assert code == 0, err
    cells = [(cell.corruption, cell.severity) for cell in Run.open(Path("runs/robustness/n")).cells]
    assert cells == [(corruption.replace("1.5e+0", "1.5"), 1)]


def test_what_a_folder_holds_besides(tiny_coco: Path, command: Command, tmp_path: Path) -> None:
    """Clean predictions may lie under each corruption; hidden files are nobody's; what is not read is said."""
    root, truth = tmp_path / "there", json.loads(tiny_coco.read_text())
    found = json.dumps(predictions(truth, 1.0))
    for name in (
        "fog/0/p.json",
        "snow/0/p.json",
        "fog/1/p.JSON",
        "fog/._1.json",
        ".git/1/x.json",
        "fog_3.json",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(found)
    words = ("score", str(root), "--model", "m", "--data", str(tiny_coco), "--name", "n")
    code, _, err = command(*words)
    assert code == 0 and "1 json or pickle file " in err and "fog_3.json" in err
    cells = [(cell.corruption, cell.severity) for cell in Run.open(Path("runs/robustness/n")).cells]
    assert cells == [("clean", 0), ("fog", 1)]
    (root / "snow/0/p.json").write_text("[]")
    code, _, err = command(*words)
    assert code == 2 and "they differ" in err


def test_another_reading_of_the_same_file_is_another_cell(
    tmp_path: Path, command: Command, photographs: list[Any], coco_of: Callable[..., Path]
) -> None:
    truth = json.loads(coco_of(tmp_path / "tiny", photographs).read_text())
    labels = tmp_path / "tiny/labels/val"
    labels.mkdir(parents=True)
    for image, box in zip(truth["images"], truth["annotations"], strict=True):
        x, y, w, h = box["bbox"]
        shares = [
            (x + w / 2) / image["width"],
            (y + h / 2) / image["height"],
            w / image["width"],
            h / image["height"],
        ]
        (labels / f"{image['id']:03d}.txt").write_text(" ".join(map(str, [box["category_id"], *shares])))
    Path("data.yaml").write_text(f"path: {tmp_path / 'tiny'}\nval: images/val\nnames: [a, b, c, d]\n")
    # 2 and 3.
    found = [entry | {"category_id": entry["category_id"] + 1} for entry in predictions(truth, 1.0)]
    Path("p.json").write_text(json.dumps(found))
    words = ("score", "clean=p.json", "--model", "m", "--data", "data.yaml", "--name", "n")
    code, _, err = command(*words)
    assert code == 1 and "--category-ids from-0 or --category-ids from-1" in err
    for how, expected in (("from-0", 0), ("from-1", 100), ("from-0", 0)):
        code, _, err = command(*words, "--category-ids", how)
        assert code == 0, err
        assert pd.read_csv("runs/robustness/n/results.csv")["AP"].tolist() == [pytest.approx(expected)]
    code, _, err = command("report", "runs/robustness/n")
    text = Path("runs/robustness/n/report.html").read_text("utf-8")
    assert code == 0 and "m: no prediction is of 1 of the 2 classes" in text, err


def test_bad_predictions_cost_the_good_ones_nothing(
    scored: tuple[Path, dict[str, Any]], tiny_coco: Path, command: Command
) -> None:
    before = (scored[0] / "manifest.json").read_bytes()
    Path("bad.json").write_text('[{"image_id": 1}]')
    code, _, err = command(
        "score", "clean=bad.json", "--model", "a", "--data", str(tiny_coco), "--name", "there"
    )
    assert code == 1 and "bad.json: prediction 1" in err
    assert (scored[0] / "manifest.json").read_bytes() == before and not Run.open(scored[0]).missing_cells()


def test_nothing_found_is_a_detector_too(tiny_coco: Path, command: Command) -> None:
    Path("p.json").write_text("[]")
    words = ("--model", "m", "--data", str(tiny_coco), "--name", "n")
    assert command("score", "clean=p.json", "fog@1=p.json", *words)[0] == 0
    assert pd.read_csv("runs/robustness/n/results.csv")["AP"].tolist() == [0, 0]
    code, _, err = command("score", "clean=p.json", "clean=p.json", *words)
    assert code == 2 and "has two files" in err
    code, _, err = command("score", "clean=p.json", *words, "--seed", "3")
    assert code == 1 and "another settings" in err
    code, _, err = command("score", "clean=p.json", "--baseline", "x", *words)
    assert code == 2 and "score it first" in err


def test_a_few_inverted_boxes_are_scored_and_reported(tiny_coco: Path, command: Command) -> None:
    truth = json.loads(tiny_coco.read_text())
    entries = predictions(truth, 1.0)
    truth["annotations"][0]["bbox"][2] *= -1
    tiny_coco.write_text(json.dumps(truth))
    entries[1]["bbox"][3] *= -1
    Path("p.json").write_text(json.dumps(entries))
    code, _, err = command(
        "score", "clean=p.json", "fog@1=p.json", "--model", "m", "--data", str(tiny_coco), "--name", "n"
    )
    assert code == 0 and err.count("have a negative width or height") == 2, err
    code, out, err = command("report", "runs/robustness/n", "--summary")
    assert code == 0 and "cannot be read" not in out + err, out + err


def test_a_model_scored_again_keeps_its_place(tiny_coco: Path, tmp_path: Path, command: Command) -> None:
    truth = json.loads(tiny_coco.read_text())
    words = {
        name: (
            "score",
            str(folder(tmp_path / name, truth, better)),
            "--model",
            name,
            "--data",
            str(tiny_coco),
        )
        for name, better in (("first", 1.0), ("second", 0.6))
    }
    for name in ("first", "second", "first"):
        code, _, err = command(*words[name], "--name", "there")
        assert code == 0, err
    assert "first is the baseline because it is the first model" in err
    run = Run.open(tmp_path / "runs/robustness/there")
    assert run.baseline_pairs == [("first", "second")]
    assert [c.model for c in run.cells] == ["first"] * 4 + ["second"] * 4
    code, _, err = command(*words["first"], "--name", "there", "--baseline", "first")
    assert code == 2 and "is the model itself" in err


def test_models_that_are_identical_are_called_so_in_any_run(
    tiny_coco: Path, tmp_path: Path, command: Command
) -> None:
    truth = json.loads(tiny_coco.read_text())
    for model, better, name in (("a", 1.0, "one"), ("a", 1.0, "two"), ("b", 0.6, "two")):
        source = folder(tmp_path / f"{model}-{name}", truth, better)
        data = ("--data", str(tiny_coco), "--name", name)
        assert command("score", str(source), "--model", model, *data)[0] == 0
    folders = [str(tmp_path / "runs/robustness" / name) for name in ("one", "two")]
    code, out, _ = command("compare", *folders, "--resamples", "20", "--metric", "AP", "--all")
    assert code == 0 and "AP of a@two minus a@one, identical: same outputs" in out
    words = " ".join(out.split())
    assert "a@two and a@one are identical" in words and "between a@two and a@one could" not in words
    assert "Objects found by only one of b and a@two" in out  # they lie in one run


def test_groups_of_models_with_commas_and_plus_in_their_names(
    tiny_coco: Path, tmp_path: Path, command: Command
) -> None:
    truth = json.loads(tiny_coco.read_text())
    names = ["a=1", "b,c", "d+e", "d"]
    for n, name in enumerate(names):
        source = folder(tmp_path / str(n), truth, 1 - 0.1 * n)
        assert command("score", str(source), "--model", name, "--data", str(tiny_coco), "--name", "r")[0] == 0
    words = ("compare", str(tmp_path / "runs/robustness/r"), "--resamples", "20", "--metric", "AP")
    code, out, err = command(*words, "--all", "--arm", "first=a=1+b,c,second one=d+e+d")
    assert code == 0 and "AP of second one minus first" in out, err
    assert "of 2 trainings" in out
    code, _, err = command(*words, "--arm", "x=b,a=1")
    assert code == 2 and "is not NAME=MODEL+MODEL" not in err and "unknown model 'b'" in err


def test_scores_alone_of_two_models_say_why_nothing_is_proven(tiny_coco: Path, command: Command) -> None:
    for model, value in (("a", 0.5), ("b", 0.4)):
        scores = {"AP": value, "AP50": 0.7, "AP75": 0.6, "APs": -1, "APm": 0.4, "APl": 0.8}
        nested = {"gaussian_noise": {"0": {"bbox": scores}, "1": {"bbox": scores}}}
        Path("r.json").write_text(json.dumps(nested))
        code, out, err = command("score", "r.json", "--model", model, "--data", str(tiny_coco), "--name", "n")
        assert code == 0, err
    assert "-10.00" in out and "to –" not in out and "gaussian noise" in out
    code, _, err = command("figure", "side-by-side", "runs/robustness/n")
    assert code == 1 and "scores alone do not tell which objects are found" in err
    code, _, err = command("report", "runs/robustness/n")
    html = Path("runs/robustness/n/report.html").read_text()
    assert code == 0 and "intervals over images" not in html and "nan to nan" not in html, err


def test_every_result_of_identical_models_says_so(tiny_coco: Path, tmp_path: Path, command: Command) -> None:
    truth = json.loads(tiny_coco.read_text())
    for model in ("a", "b"):
        source = folder(tmp_path / model, truth, 1.0)
        words = ("score", str(source), "--model", model, "--data", str(tiny_coco), "--name", "r")
        code, out, err = command(*words)
        assert code == 0, err
    assert "verdict     b and a are identical: same outputs\n" in out


@pytest.mark.parametrize("figure", ["means", "differences"])
def test_figures_of_intervals_name_the_metrics_that_have_some(
    scored: tuple[Path, dict[str, Any]], command: Command, figure: str
) -> None:
    code, _, err = command("figure", figure, str(scored[0]), "--metric", "AR1", "--resamples", "5")
    assert code == 1 and "AR1 is not resampled" in err and "AP50" in err
