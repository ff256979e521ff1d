"""The public API: what the commands do, without printing; configurations; detectors of one's own and of plug-ins."""

import importlib
import inspect
import logging
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

import robustbench_sgdm as rb
from robustbench_sgdm import corruption, detectors
from robustbench_sgdm.config import EvaluationConfig
from robustbench_sgdm.core.errors import DataError, IncompleteError, RobustBenchError, UsageError

TWO: dict[str, Any] = {"noise": "gaussian", "severity": [0, 3], "fraction": 0.02, "imgsz": 64}


def bright(images: list[NDArray[np.uint8]]) -> list[NDArray[np.float64]]:
    """One box around the brightest pixel of each image, as sure as it is bright."""
    rows = []
    for image in images:
        grey = image.mean(2)
        y, x = np.unravel_index(int(grey.argmax()), grey.shape)
        rows.append(np.array([[x - 20.0, y - 20, x + 20, y + 20, grey[y, x] / 255, 0]]))
    return rows


def test_names_are_there_and_importing_them_costs_nothing() -> None:
    assert all(hasattr(rb, name) for name in rb.__all__) and set(rb.__all__) <= set(dir(rb))
    with pytest.raises(AttributeError):
        _ = rb.nothing  # type: ignore[attr-defined]
    script = (
        "import sys, robustbench_sgdm; from robustbench_sgdm import EvaluationConfig;"
        "print([m for m in ('torch', 'pandas', 'numpy', 'ultralytics', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_from_python_is_the_command_s(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command line adds its own.
    monkeypatch.setattr(logging.getLogger("robustbench_sgdm"), "handlers", [])
    stages: list[tuple[str, int, int]] = []
    run = rb.evaluate(
        "yolov8n-sgdm", project=tmp_path, name="r", progress=lambda *at: stages.append(at), **TWO
    )
    assert capfd.readouterr() == ("", "")
    frame = run.results()
    assert frame["model"].tolist() == ["yolov8n", "yolov8n", "yolov8n-sgdm", "yolov8n-sgdm"]
    assert any(stage == "predictions" and done == total for stage, done, total in stages)
    config = run.directory.manifest.config.content()
    assert config["imgsz"] == 64 and config["models"] == ["yolov8n-sgdm"]
    again = rb.evaluate("yolov8n-sgdm", project=tmp_path, name="r", **TWO)
    assert again.path == run.path
    pd.testing.assert_frame_equal(again.results(), frame)
    table = run.compare(baseline="yolov8n")
    assert {"estimate", "low", "high", "p"} <= set(table.columns) and set(table["baseline"]) == {
        "",
        "yolov8n",
    }
    assert set(run.summary()["model"]) == {"yolov8n", "yolov8n-sgdm"}
    assert any(stage == "resampling" for stage, *_ in stages)
    assert (
        len(run.verdicts()) == 1 and "<table" in run._repr_html_() and repr(run) == f"Run({str(run.path)!r})"
    )
    pd.testing.assert_frame_equal(run.summary("AP50"), run.summary(["AP50"]))
    for wrong, message in (
        (lambda: run.summary("APx"), "unknown metric 'APx'"),
        (lambda: run.figure("side-by-side", rows=0), "rows is 0"),
        (lambda: run.figure("side-by-side", confidence=2), "confidence is 2"),
        (
            lambda: rb.Run.open(run.path, resamples=10**7).compare(),
            "resamples is 10,000,000; the limit is 1,000,000",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            wrong()
    drawn = run.figure("severity")
    assert (
        drawn.save(tmp_path / "f.svg").read_text("utf-8").startswith("<?xml")
        and drawn._repr_png_()[:4] == b"\x89PNG"
    )
    html, pdf = run.report(summary=True)
    assert html.is_file() and pdf.read_bytes().startswith(b"%PDF")
    opened = rb.Run.open(run.path, baseline="yolov8n-sgdm", resamples=50)
    assert set(opened.compare()["baseline"]) == {"", "yolov8n-sgdm"}


def test_a_function_is_a_detector(tmp_path: Path) -> None:
    mine = rb.wrap_detector(bright, classes=["ball", "book"], fingerprint="1")
    assert mine.name == "bright"
    twin = rb.wrap_detector(bright, classes=["ball", "book"], fingerprint="1")
    unnamed = [rb.wrap_detector(bright, classes=["ball"]) for _ in range(2)]
    assert mine.fingerprint == twin.fingerprint and len({one.fingerprint for one in unnamed}) == 2
    image = torch.zeros((3, 50, 70), dtype=torch.uint8)
    image[:, 5, 60] = 255
    (found,) = mine.predict([image])
    assert (
        found.xyxy.tolist() == [[40, 0, 70, 25]]
        and found.scores.tolist() == [1]
        and found.labels.tolist() == [0]
    )
    run = rb.evaluate([mine, "yolov8n"], project=tmp_path, name="r", **TWO)
    assert run.directory.baseline_pairs == [("bright", "yolov8n")] and len(run.results()) == 4
    assert run.directory.manifest.models["bright"].given_fingerprint == "1"
    with pytest.raises(UsageError, match="two models are called bright"):
        rb.evaluate([mine, twin], project=tmp_path, **TWO)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: [], "0 results for 1 images"),
        (lambda images: [np.zeros((1, 5))], r"must have \(n, 6\)"),
        (lambda images: [np.array([[0, 0, 1, 1, 0.5, 7]])], "labels span 7 to 7, must be 0 to 0"),
        (lambda images: [np.array([[0, 0, 1, 1, 1.5, 0]])], r"must lie in \[0, 1\]"),
        (lambda images: [np.array([[0, 0, np.nan, 1, 0.5, 0]])], "NaN"),
        (lambda images: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_a_function_gives_is_checked(function: Any, message: str) -> None:
    detector = rb.wrap_detector(function, classes=["a"], name="mine")
    with pytest.raises(RobustBenchError, match=f"detector mine failed.*{message}"):
        detector.predict([torch.zeros((3, 8, 8), dtype=torch.uint8)])


def given(form: Any, images: list[NDArray[np.uint8]]) -> list[Any]:
    return [form for _ in images]


def test_forms_of_boxes_are_the_same() -> None:
    rows = np.array([[1, 2, 3, 4, 0.5, 0], [2, 2, 6, 7, 0.9, 1]])
    parts = rows[:, :4], rows[:, 4], rows[:, 5]
    forms: list[Any] = [
        rows,
        torch.from_numpy(rows),
        parts,
        tuple(map(torch.from_numpy, parts)),
        rows.tolist(),
    ]
    image = torch.zeros((3, 9, 9), dtype=torch.uint8)
    for form in forms:
        (found,) = rb.wrap_detector(partial(given, form), classes=["a", "b"], name="x").predict([image])
        assert found.xyxy.tolist() == [[2, 2, 6, 7], [1, 2, 3, 4]] and found.labels.tolist() == [1, 0]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package with entry points, as pip leaves it."""

    def install(code: str, **points: str) -> None:
        site = tmp_path / "site"
        info = site / "theirs-1.dist-info"
        info.mkdir(parents=True)
        (site / "theirs.py").write_text(code)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
        lines = [f"[robustbench_sgdm.{group}]\n{entry}\n" for group, entry in points.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, "theirs", raising=False)

    return install


DETECTOR = """
import numpy as np
import robustbench_sgdm as rb
def nothing():
    return rb.wrap_detector(lambda images: [np.zeros((0, 6)) for _ in images], ["ball"], name="nothing", fingerprint="1")
def wrong():
    return 3
def broken():
    raise ValueError("no licence")
def leaves():
    raise SystemExit(3)
"""


def test_detectors_of_other_packages(package: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    package(
        DETECTOR,
        detectors="theirs-nothing = theirs:nothing\ntheirs-broken = theirs:broken\nyolov8n = theirs:nothing",
    )
    assert detectors.plugin_names() == ["theirs-broken", "theirs-nothing"]
    for name in ("theirs-nothing", "theirs:nothing"):
        assert rb.load_detector(name).classes == ("ball",)
        assert list(detectors.load_detectors([name])) == ["nothing"]
    for name, reason in (
        ("theirs-broken", r"theirs:broken cannot be loaded: ValueError: no licence \(.*theirs.py, line 9\)"),
        ("theirs:leaves", "theirs:leaves cannot be loaded: SystemExit: 3"),
        ("theirs:wrong", "theirs:wrong gave int, which is not a detector"),
        ("theirs:none", "AttributeError"),
        ("no_such_module:x", "ModuleNotFoundError"),
    ):
        with pytest.raises(UsageError, match=reason):
            rb.load_detector(name)
    assert len(rb.load_detector("yolov8n").classes) == 12  # the others are not affected, nor taken over
    assert len(detectors.load_detectors(["yolov8n"])["yolov8n"].detector.classes) == 12
    assert "detector yolov8n of theirs:nothing left out: the name is taken" in caplog.text


def test_a_detector_takes_the_settings_by_name() -> None:
    assert rb.load_detector("yolov8n", imgsz=64).imgsz == 64
    assert rb.load_detector("yolov8n", rb.InferenceConfig(imgsz=96, conf=0.5), imgsz=64).imgsz == 64
    with pytest.raises(UsageError, match="imgsz"):
        rb.load_detector("yolov8n", image_size=64)


def test_every_name_that_a_package_exports_is_there() -> None:
    for module in pkgutil.walk_packages(rb.__path__, "robustbench_sgdm."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            assert all(hasattr(package, name) for name in getattr(package, "__all__", ())), module.name


CORRUPTION = """
from robustbench_sgdm.corruption import Parameter, corruption
@corruption(family="noise", parameters=(Parameter("amount", (10, 20, 30, 40, 50), "grey levels"),), source="this test")
def {name}(images, strength, rng):
    \"\"\"Darker.\"\"\"
    return images - images.clamp(max=int(strength["amount"]))
"""


def test_a_name_that_is_taken_is_left_out_and_said(
    package: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    before = corruption.load_corruptions().names
    package(CORRUPTION.format(name="fog") + CORRUPTION.format(name="darker"), corruptions="theirs = theirs")
    assert corruption.load_corruptions().names == [*before, "darker"]
    assert "theirs.py (fog) left out: the name fog is already used" in caplog.text
    image = np.full((8, 8, 3), 99, np.uint8)
    assert (rb.corrupt(image, "darker", 2) == 79).all()


@pytest.mark.parametrize("error", ["ImportError: no licence", "SystemExit: 3"])
def test_a_package_that_cannot_be_loaded_is_left_out_and_said(
    error: str, package: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    before = corruption.load_corruptions().names
    kind, _, text = error.partition(": ")
    package(f"raise {kind}({text!r})", corruptions="theirs = theirs")
    assert corruption.load_corruptions().names == before
    assert f"corruptions of theirs left out: {error} (" in caplog.text and "theirs.py, line 1)" in caplog.text


def test_corruptions_take_and_give_any_kind_of_image() -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (40, 60, 3), np.uint8)
    expected = corruption.corrupt_image(
        corruption.load_corruptions().get("gaussian_noise"), array, 3, seed=5, image_id=9
    )
    noisy = rb.corrupt(array, "gaussian_noise", 3, seed=5, image_id=9)
    assert np.array_equal(noisy, expected) and not np.array_equal(noisy, array)
    picture = rb.corrupt(Pillow.fromarray(array), "gaussian_noise", severity=3, seed=5, image_id=9)
    assert isinstance(picture, Pillow.Image) and np.array_equal(np.array(picture), expected)
    deep = Pillow.fromarray(array[..., 0].astype(np.uint16) << 8)  # 16-bit grey, read as from a file
    assert np.array_equal(np.array(rb.corrupt(deep, "fog", 0)), np.repeat(array[..., :1], 3, axis=2))
    with pytest.raises(UsageError, match="the image has mode F: floating-point pixels have no defined range"):
        rb.corrupt(Pillow.fromarray(array[..., 0].astype(np.float32)), "fog", 3)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    assert np.array_equal(
        rb.corrupt(tensor, "gaussian_noise", 3, seed=5, image_id=9).permute(1, 2, 0), expected
    )
    pair = rb.corrupt(torch.stack([tensor, tensor]), "gaussian_noise", 3, seed=5, image_id=8)
    assert pair.shape == (2, 3, 40, 60) and np.array_equal(pair[1].permute(1, 2, 0), expected)
    assert np.array_equal(rb.corrupt(array, "fog", 0), array)
    strong = "gaussian_noise[sigma=0.15]"  # has one severity, which need not be named
    assert np.array_equal(rb.corrupt(array, strong), rb.corrupt(array, strong, 1))
    for how, message in (
        ({}, "give fog a severity from 0 to 5"),
        ({"severity": "3"}, "severity is '3', must be a number"),
        ({"severity": 3, "seed": None}, "seed is None, must be a whole number"),
        ({"severity": 3, "image_id": 1.5}, "image_id is 1.5, must be a whole number"),
    ):
        with pytest.raises(UsageError, match=message):
            rb.corrupt(array, "fog", **how)
    with pytest.raises(
        UsageError, match="noise is a group of 4 corruptions; name one, such as gaussian_noise"
    ):
        rb.corrupt(array, "noise", 3)
    for wrong in (array.astype(np.float32), array[..., 0], tensor.float(), "a.jpg"):
        with pytest.raises(UsageError, match="give a PIL image"):
            rb.corrupt(wrong, "fog", 3)
    with pytest.raises(UsageError, match="unknown corruption 'fogg'; did you mean fog"):
        rb.corrupt(array, "fogg", 3)
    with pytest.raises(UsageError, match=r"severity 6 is outside \[0, 5\]"):
        rb.corrupt(array, "fog", 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"imgsz": 100}, "imgsz is 100, must be 32, 64"),
        ({"conf": 1.5}, "conf is 1.5"),
        ({"severity": []}, "is empty"),
        ({"severity": [1, 5.5]}, "severity 5.5 is outside"),
        ({"severity": 1.23456}, "more than three decimals"),
        ({"noise": []}, "is empty"),
        ({"executor": "slurm"}, "unknown executor 'slurm'"),
        ({"address": "h:1"}, "--address and --gpus need"),
        ({"workers": -1}, "workers is -1"),
        ({"from_train": "x"}, "sets models"),
        ({"seed": 2**63}, "seed is 9223372036854775808, which takes more than 64 bits"),
        ({"severity": "3"}, "severity is '3', must be a list of numbers"),
        ({"weights": "best.pt"}, "weights is 'best.pt', must be a dict"),
    ],
)
def test_a_configuration_is_checked_when_it_is_made(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EvaluationConfig("yolov8n", **settings)


def test_a_configuration_takes_what_python_has_at_hand() -> None:
    """Texts for paths, arrays for lists, a single item for a list of one, an index for a GPU."""
    given: dict[str, Any] = {
        "severity": np.array([3, 0]),
        "corruptions": "own",
        "project": "out",
        "device": 0,
    }
    config = EvaluationConfig("yolov8n", **given)
    assert list(config.severity) == [0, 3] and list(config.corruptions) == [Path("own")]
    assert (str(config.device), config.project) == ("0", Path("out"))


def test_what_is_no_detector_is_named_where_it_is_given(tmp_path: Path) -> None:
    three: Any = 3
    for call in (
        partial(rb.evaluate, [three], **TWO),
        partial(rb.checks, three),
        partial(rb.as_maite, three),
    ):
        with pytest.raises(UsageError, match=r"^3 is not a detector; give a name"):
            call()
    with pytest.raises(UsageError, match=r"^3 is not a function"):
        rb.wrap_detector(three, ["ball"])
    with pytest.raises(UsageError, match="name 'a/b' must be a plain name"):
        rb.wrap_detector(bright, ["ball"], name="a/b")
    with pytest.raises(UsageError, match=r"^data is 3, must be a name, a path or TrainingData"):
        rb.train("yolov8n", data=three, project=tmp_path)
    with pytest.raises(UsageError, match="no seed to train with"):
        rb.train("yolov8n", seeds=[])


def test_a_function_that_no_other_process_can_import_is_named(tmp_path: Path) -> None:
    mine = rb.wrap_detector(lambda images: bright(images), ["ball"], fingerprint="1", name="mine")
    with pytest.raises(
        UsageError, match=r"cannot be sent to worker processes .*define its function at the top level"
    ):
        rb.evaluate(mine, project=tmp_path, workers=1, **TWO)


def test_functions_show_the_configuration_s_arguments() -> None:
    for function, config in ((rb.evaluate, rb.EvaluationConfig), (rb.train, rb.TrainingConfig)):
        taken, held = inspect.signature(function), inspect.signature(config)
        assert [(one.name, one.kind, one.default) for one in taken.parameters.values()] == [
            (one.name, one.kind, one.default) for one in held.parameters.values()
        ]
        assert "Converted" not in str(taken), "it says what may be given"
    with pytest.raises(TypeError, match="severties"):
        rb.evaluate("yolov8n", severties=[1])  # type: ignore[call-arg]


def test_missing_cells_are_an_error_that_holds_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    fails = "if images.shape[-1] > 64: raise ValueError('no')"  # not in the rehearsal, whose picture is small
    code = CORRUPTION.format(name="fails").replace("return images", f"{fails}\n    return images")
    (folder / "own.py").write_text(code)
    how: dict[str, Any] = {"corruptions": [folder], "project": tmp_path, "name": "r"}
    with pytest.raises(IncompleteError, match="1 of 2 cells are missing") as error:
        rb.evaluate("yolov8n", noise="fails", severity=[0, 1], fraction=0.02, imgsz=64, **how)
    assert error.value.run.results()["corruption"].tolist() == ["clean"]
    assert error.value.run.corruptions == (folder,)  # its pictures can be made
    with pytest.raises(DataError, match="is not a run directory"):
        rb.Run.open(tmp_path / "nothing")
