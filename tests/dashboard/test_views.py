"""Single views on run directories of odd content."""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import robustness
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.dashboard import inference, jobs, paper_tables, run_data
from robustbench_sgdm.detectors.runtimes import load_exported
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.store import IMAGE_QUALITY, Run
from tests.support import synthetic_runs
from tests.support.synthetic_runs import make_manifest

APP = resources.root() / "app"
exported: Any = resources.import_file(Path(__file__).parents[1] / "detectors" / "runtimes" / "models.py")


def panes(test: AppTest) -> list[Mapping[str, Any]]:
    """What the viewer shows."""
    (viewer,) = test.get("bidi_component")
    found: list[Mapping[str, Any]] = json.loads(viewer.proto.json)["panes"]
    return found


def test_one_model_is_shown_once(view: Callable[..., AppTest], tmp_path: Path) -> None:
    synthetic_runs.make_run(tmp_path, "one", ["base"], {"fog": [1]}, images=4)
    shown = view("images", "--project", tmp_path)
    assert not shown.exception and [pane["title"] for pane in panes(shown)] == ["base"]
    assert [s.key for s in shown.selectbox] == ["corruption", "severity", "order", "class", "size"]
    assert shown.selectbox(key="order").value == "as in the data"


def test_models_with_other_corruptions(view: Callable[..., AppTest], tmp_path: Path, project: Path) -> None:
    """Only what one of the two has is offered; where nothing is comparable the order is the data set's."""
    path = shutil.copytree(project / "complete", tmp_path / "run")
    for cell in (path / "cells/base-sgdm/fog", path / "cells/base-sgdm/motion_blur", path / "cells/base/fog"):
        shutil.rmtree(cell)
    shown = view("images", "--", path, corruption="motion_blur")
    assert not shown.exception and shown.selectbox(key="corruption").value == "motion blur"
    assert not any("not available" in w.value for w in shown.warning)
    shown = view("images", "--", path, baseline="base-sgdm", models="base-sgdm", corruption="motion_blur")
    assert not shown.exception and shown.selectbox(key="corruption").options == ["gaussian noise"]
    shutil.rmtree(path / "cells/base-sgdm")
    shown = view("images", "--", path, baseline="base-sgdm", models="base-sgdm")
    assert not shown.exception and "Neither model" in "".join(m.value for m in shown.markdown)


def test_other_images_begin_on_the_first_page(view: Callable[..., AppTest], tmp_path: Path) -> None:
    """Nobody typed a page or an image that another filter lacks; only an address that was opened is told of."""
    synthetic_runs.make_run(tmp_path, "r", ["base", "own"], {"fog": [1]}, images=40)

    def told(shown: AppTest) -> list[str]:
        assert not shown.exception
        return [w.value for w in shown.warning if "is not available" in w.value]

    for mode, (name, place) in (("Gallery", ("page", "2")), ("Viewer", ("image", "39"))):
        shown = view("images", "--project", tmp_path, show=mode, **{name: place})
        assert not told(shown) and shown.query_params[name] == place
        shown = shown.text_input(key="search").set_value("7").run()
        assert not told(shown) and name not in shown.query_params
        (warning,) = told(view("images", "--project", tmp_path, show=mode, **{name: "99"}))
        assert "'99'" in warning


LOG = "epoch,train/box_loss,train/cls_loss,train/dfl_loss\n1,1,1,1\n2,1,1,1\n"


def test_the_baseline_is_the_first_training(view: Callable[..., AppTest], tmp_path: Path) -> None:
    for model in ("yolov8n", "yolov8n-cbam", "yolov8n-sgdm"):
        (tmp_path / "mine" / f"{model}-seed0").mkdir(parents=True)
        (tmp_path / "mine" / f"{model}-seed0/results.csv").write_text(LOG)
    names = view("training", "--training", tmp_path).multiselect(key="trainings").options
    assert [n.rpartition(" ")[2] for n in names] == [
        *("yolov8n-seed0", "yolov8n-cbam-seed0", "yolov8n-sgdm-seed0"),
        *("yolov8n", "yolov8n-sgdm"),
    ]


def test_a_training_shows_ap_rate_and_what_was_wrong(view: Callable[..., AppTest], tmp_path: Path) -> None:
    header = "epoch,train/box_loss,train/cls_loss,train/dfl_loss,metrics/mAP50-95(B),lr/pg0"
    for seed, health in ((0, ["AP is 0: *nothing* is found"]), (1, [])):
        folder = tmp_path / "mine" / f"yolov8n-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "results.csv").write_text(f"{header}\n1,1,1,1,0.25,0.01\n2,1,1,1,0.5,0.02\n")
        about = {"model": "yolov8n", "seed": seed, "metrics": dict.fromkeys(METRICS), "per_class": {}}
        about |= {"best_epoch": 1, "seconds": 1.0, "batch": 8, "health": health}
        (folder / "result.json").write_text(json.dumps(about))
    shown = view("training", "--training", tmp_path)
    assert not shown.exception
    charts = [chart.proto.datasets[0].data.data for chart in shown.get("vega_lite_chart")]
    assert len(charts) == 5  # three losses, AP and the rate; these logs have no AP50
    means = [set(convert_arrow_bytes_to_pandas_df(data)["mean"]) for data in charts[-2:]]
    assert means == [{25.0, 50.0}, {0.01, 0.02}]
    (warning,) = shown.warning
    assert "AP is 0" in warning.value and "seed0" in warning.value and "seed1" not in warning.value
    assert any("no problem was found in 1 of 2" in c.value.lower() for c in shown.caption)


def test_trainings_of_one_name_in_two_folders(view: Callable[..., AppTest], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "mine").mkdir(parents=True)
        (tmp_path / folder / "mine/results.csv").write_text(LOG)
    shown = view("training", "--training", tmp_path / "a", "--training", tmp_path / "b")
    names = shown.multiselect(key="trainings").options
    assert not shown.exception and names[:2] == ["mine / mine", "mine (2) / mine"]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("images", {"any": "maybe"}),
        ("images", {"order": "evil"}),
        ("images", {"truth": "perhaps"}),
        ("images", {"zoom": "nan,inf,1,1"}),
        ("images", {"zoom": "a lot"}),
        ("images", {"any": "true", "exact": "6"}),
        ("curves", {"against": "nan"}),
        ("training", {"epochs": "0..999"}),
        ("training", {"smooth": "nan"}),
    ],
)
def test_nonsense_in_the_address_is_told(
    view: Callable[..., AppTest], project: Path, name: str, address: Mapping[str, str]
) -> None:
    words = () if name == "training" else ("--", project / "complete")
    before, shown = view(name, *words), view(name, *words, **address)
    for load in [b for b in shown.button if b.label == "Load the detectors"]:
        shown = load.click().run()
    assert not shown.exception and len(before.warning) < len(shown.warning)


@pytest.mark.parametrize(("corruption", "severity"), [("gaussian noise", "3"), ("fog", "0")])
def test_images_come_in_the_order_of_who_finds_more(
    view: Callable[..., AppTest], project: Path, tmp_path: Path, corruption: str, severity: str
) -> None:
    """Counted anew from the detections: at severity 0 what one finds, under corruption of what both find clean."""
    path = shutil.copytree(project / "complete", tmp_path / "run")
    if severity == "0":  # models that miss something
        for model in ("base", "base-sgdm"):
            noisy = path / "cells" / model / "gaussian_noise/3/detections.parquet"
            shutil.copy(noisy, path / "cells" / model / "clean/0/detections.parquet")
    complete = Run.open(path)
    truth, cells = complete.ground_truth(), {(c.model, c.corruption, c.severity): c for c in complete.cells}
    where = ("clean", 0.0) if severity == "0" else (corruption.replace(" ", "_"), float(severity))

    def found(model: str, name: str, level: float) -> pd.Series:
        boxes = complete.store.read_detections(cells[model, name, level])
        return robustness.match_outcomes(truth, boxes).objects["outcome"] == "matched"

    left, right = (found(model, *where) for model in ("base", "base-sgdm"))
    both = found("base", "clean", 0.0) & found("base-sgdm", "clean", 0.0) | (severity == "0")
    images = truth.annotations["image_id"]
    net = (right.astype(int) - left)[both].groupby(images[both]).sum()
    either = (right != left)[both].groupby(images[both]).sum()
    assert {1, -1} <= set(np.sign(net))
    for order, first in (
        ("most different", either[either > 0]),
        ("right finds more", net[net > 0]),
        ("left finds more", -net[net < 0]),
    ):
        shown = view("images", "--", complete.path, corruption=corruption, severity=severity, order=order)
        (viewer,) = shown.get("bidi_component")
        image = int(json.loads(viewer.proto.json)["id"].partition(":")[2])
        assert first[image] == first.max()
        assert any(f"In {len(first)} of 12 images" in c.value for c in shown.caption)
    assert view("images", "--", complete.path).selectbox(key="order").value == "most different"


@pytest.mark.parametrize("severity", ["0", "3"])
@pytest.mark.parametrize("order", ["most different", "right finds more", "left finds more"])
def test_models_that_find_the_same_are_shown_in_the_order_of_the_data(
    view: Callable[..., AppTest], project: Path, tmp_path: Path, severity: str, order: str
) -> None:
    path = shutil.copytree(project / "complete", tmp_path / "run")
    for file in path.glob("cells/base/*/*/detections.parquet"):
        shutil.copy(file, path / "cells/base-sgdm" / file.relative_to(path / "cells/base"))
    shutil.rmtree(
        path / "statistics", ignore_errors=True
    )  # of the detections before, if another test made some
    shown = view("images", "--", path, corruption="fog", severity=severity, order=order)
    assert not shown.exception
    assert any("Image 1 of 12" in c.value and "In no image" in c.value for c in shown.caption)


PAPER = "table,row,column,quantity,model,classes,printed,value,at_640,compared,verdict,why\n"


@pytest.fixture
def paper_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a recomputed table into a cache folder of its own."""
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(tmp_path))

    def put(number: str, *rows: str) -> Path:
        file = tmp_path / "paper" / paper_tables._file(number)
        file.parent.mkdir(exist_ok=True)
        file.write_text(PAPER + "".join(f"{number},{row}\n" for row in rows))
        return file

    return put


def test_filters_of_the_paper_stay_from_table_to_table(
    view: Callable[..., AppTest], paper_cache: Callable[..., Path]
) -> None:
    """A table that has nothing of what is filtered says so and offers to clear the filter; reasons are whole."""
    why = "a reason that is longer than any column of a table would show, " * 5
    paper_cache("6", "a,,params,m,20,1.0,1.0,,1.0,equal,", "a,,ap,m,20,1.0,,,,to train,")
    paper_cache("2", "b,,params,m,20,1.0,1.0,,1.0,equal,", f'b,,flops,m,20,1.0,9.0,,9.0,differs,"{why}"')
    shown = view("paper", table="6")
    assert not shown.exception and len(shown.dataframe[0].value) == 2
    shown = shown.multiselect(key="verdicts").set_value(["differs"]).run()
    assert not shown.dataframe and any("No such number" in m.value for m in shown.markdown)
    shown = shown.segmented_control(key="table").set_value("2").run()
    assert shown.dataframe[0].value["verdict"].tolist() == ["✗ differs [1]"]
    assert any(why.strip() in m.value for m in shown.markdown)
    shown = shown.segmented_control(key="table").set_value("6").run()
    shown = next(b for b in shown.button if "Clear" in b.label).click().run()
    assert not shown.exception and len(shown.dataframe[0].value) == 2
    shown = view("paper", table="2", verdicts="differs", quantities="params")
    assert not shown.warning and not shown.dataframe


def test_a_table_is_counted_once_and_kept(
    paper_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile there is none; what lies in its place and is damaged counts as absent."""
    file, counted, may_end = paper_cache("7"), [], threading.Event()
    file.write_text("torn")

    def run_command(*words: str) -> "subprocess.CompletedProcess[str]":
        counted.append(words)
        may_end.wait(60)
        text = f"{PAPER}7,a,,params,m,20,1.0,1.0,,1.0,equal,\n"
        return subprocess.CompletedProcess(words, int(len(counted) == 1), text, "error: no memory")

    monkeypatch.setattr(jobs, "run_command", run_command)
    assert paper_tables.recomputed("7") is None and paper_tables.recomputed("7") is None
    may_end.set()
    concurrent.futures.wait([paper_tables._PENDING["7"][1]])
    for _ in range(2):
        with pytest.raises(DataError, match="no memory"):
            paper_tables.recomputed("7")
    monkeypatch.setattr(paper_tables, "_RETRY_SECONDS", 0.0)
    assert paper_tables.recomputed("7") is None or len(counted) == 2
    concurrent.futures.wait([paper_tables._PENDING["7"][1]])
    table = paper_tables.recomputed("7")
    assert table is not None and table["verdict"].tolist() == ["equal"] and len(counted) == 2
    assert file.read_text().startswith(PAPER)


VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def test_the_metric_of_pascal_voc_is_ap50(
    view: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a look at a run whose metric is AP; a metric that was chosen stays."""
    synthetic_runs.make_run(tmp_path, "coco", ["base", "own"], {"fog": [1]}, images=4, resamples=True)
    run = synthetic_runs.make_run(
        tmp_path, "voc", ["base", "own"], {"fog": [1]}, images=4, resamples=True, classes=VOC
    )
    assert robustness.primary_metric(run) == "AP50"
    monkeypatch.setattr(sys, "argv", ["main.py", "--project", str(tmp_path)])
    test = AppTest.from_file(APP / "main.py", default_timeout=120)
    test.query_params["run"] = "voc"
    test.run()
    assert not test.exception and "mPC of AP50" in "".join(m.value for m in test.markdown)
    results = run.results()
    clean = results[results["corruption"] == "clean"].set_index("model")["AP50"]
    assert test.dataframe[0].value.set_index("model")["clean"].to_dict() == pytest.approx(clean.to_dict())
    shown = view("curves", "--", run.path)
    assert shown.selectbox(key="metric").value == "AP50"


def test_a_ranking_says_of_which_severity_it_is(view: Callable[..., AppTest], project: Path) -> None:
    shown = view("images", "--", project / "complete", corruption="fog", any="true", exact="4.5")
    shown = shown.button[0].click().run()
    assert any("at severity 4.5." in c.value and "at severity 3" in c.value for c in shown.caption)


def test_curves_against_psnr(view: Callable[..., AppTest], tmp_path: Path, project: Path) -> None:
    path = shutil.copytree(project / "complete", tmp_path / "run")
    assert "no PSNR" in view("curves", "--", path, against="PSNR").info[0].value
    rows = [("fog", 1.0, 30.0, 0.9, 4, "k"), ("fog", 3.0, 20.0, 0.7, 4, "k")]
    Run.open(path).write_image_quality(pd.DataFrame(rows, columns=list(IMAGE_QUALITY)))
    os.utime(path / "manifest.json")
    shown = view("curves", "--", path, against="PSNR")
    assert not shown.exception and not shown.info


def test_the_mean_curve_is_the_mean_of_the_curves(comparisons: Path, project: Path) -> None:
    """With its intervals where resamples are stored, and the same number without; of the report's corruptions."""
    both = ["gaussian_noise", "motion_blur"]
    for path in (comparisons / "two", project / "complete"):
        view = run_data.open_run(path.name, path)
        scores = view.run.results()
        cells = dict.fromkeys((c.corruption, c.severity) for c in view.run.cells if c.severity)
        for names, levels in ((both, [0.0, 1.0, 3.0, 5.0]), ([*both, "fog"], [0.0, 1.0, 3.0])):
            over = tuple(cell for cell in cells if cell[0] in names)
            (with_bands, scope), (alone, _) = (
                run_data.mean_curve(view, "AP", over, bands) for bands in (True, False)
            )
            assert scope.startswith(f"over {len(names)} corruptions")
            own = scores[scores["corruption"].isin(names) & (scores["severity"] == 3)]
            for model, mean in own.groupby("model")["AP"].mean().items():
                for curve in (with_bands, alone):
                    line = curve[curve["model"] == model].set_index("severity")
                    assert line.index.tolist() == levels
                assert line["score"][3.0] == pytest.approx(mean)  # made-up samples have other scores
            assert with_bands["low"].notna().all() == (path.name == "two") and alone["low"].isna().all()


def test_the_overview_tells_what_the_report_tells(comparisons: Path) -> None:
    """The same mean curve and the same images where two models differ."""
    view = run_data.open_run("two", comparisons / "two")
    summary, (pair,) = RunAnalysis(view.run).summary, view.run.baseline_pairs
    over = next(iter(run_data.corruption_sets(view)))
    curve, scope = run_data.mean_curve(view, summary.metric, over.cells, True)
    pd.testing.assert_frame_equal(
        curve.rename(columns={"score": "estimate"})[list(summary.curve)], summary.curve
    )
    assert scope == summary.curve_scope
    assert run_data.flipped_images(view, summary.metric, pair, over.cells) == list(summary.flips) != []


def test_classes_are_matched_as_a_run_does() -> None:
    categories = pd.DataFrame({"category_id": [7, 4, 9], "name": ["chair", "Chair", "traffic light"]})
    frame = pd.DataFrame({"label": [0, 1, 2, 3, 0], "score": 0.5})
    found = inference.map_to_categories(frame, ("Chair", "chair", "traffic_light", "tv"), categories)
    assert found["category_id"].tolist() == [4, 7, 9, 4]


def test_an_exported_model_runs_as_the_run_read_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(exported.raw())
    described = load_exported(path, InferenceConfig(conf=0.01)).describe()
    about = {name: value for name, value in described.items() if name != "name"}
    manifest = make_manifest(models={"m.onnx": {"weights": str(path), **about}})
    detector = inference.load_run_detector(manifest, "m.onnx")
    assert detector.fingerprint == about["fingerprint"] and detector.classes == tuple(about["classes"])
    assert len(inference.detect(detector, np.full((64, 64, 3), 200, np.uint8)))
    other = tmp_path / "other.onnx"
    other.write_bytes(exported.raw(scale=0.5))
    changed = make_manifest(models={"m.onnx": {**about, "weights": str(other)}})
    with pytest.raises(DataError, match="have changed since the run"):
        inference.load_run_detector(changed, "m.onnx")


def test_a_model_that_was_scored_elsewhere_cannot_run_here() -> None:
    for weights in ("elsewhere", "model.torchscript", "model.engine"):
        manifest = make_manifest(models={"theirs": {"weights": weights}})
        assert not inference.is_loadable(manifest.models["theirs"])
        with pytest.raises(DataError, match="cannot run here"):
            inference.load_run_detector(manifest, "theirs")
