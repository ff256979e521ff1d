"""Exports find what their checkpoints find; `--runtime` keeps them, and `auto` keeps its choice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import robustbench_sgdm as rb
from robustbench_sgdm.config import ExportConfig, ExportFormat, InferenceConfig
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.detectors import UltralyticsDetector, load_detector, load_file
from robustbench_sgdm.detectors.runtimes import convert, export, export_detector, load_exported
from robustbench_sgdm.detectors.runtimes.export import largest_shift

CONFIG = InferenceConfig(imgsz=160)


@pytest.fixture(scope="module")
def detector() -> UltralyticsDetector:
    return load_detector("yolov8n-sgdm", CONFIG)


@pytest.fixture(scope="module")
def pictures(photographs: list[NDArray[np.uint8]]) -> list[Tensor]:
    return [
        torch.from_numpy(p[::2, ::3].copy()).permute(2, 0, 1) for p in photographs
    ] + export.rendered_images()


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_boxes_are_the_checkpoints(
    detector: UltralyticsDetector, pictures: list[Tensor], form: str, tmp_path: Path
) -> None:
    path = tmp_path / f"m{export.SUFFIXES[form]}"
    export_detector(detector, path, form)
    exported = load_exported(path)
    assert exported.classes == detector.classes and exported.imgsz == 160
    assert largest_shift(detector, exported, pictures) < 0.1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_equal_exports_have_equal_bytes_and_any_batch(
    detector: UltralyticsDetector, pictures: list[Tensor], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        export_detector(detector, tmp_path / f"{name}.onnx", "onnx", dynamic=True)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    exported = load_exported(tmp_path / "a.onnx", InferenceConfig(imgsz=96))
    assert largest_shift(load_detector("yolov8n-sgdm", InferenceConfig(imgsz=96)), exported, pictures) < 0.1
    both = exported.predict(pictures[:3])
    assert [len(one) for one in both] == [len(exported.predict([image])[0]) for image in pictures[:3]]


@pytest.mark.parametrize("name", ["yolov10n", pytest.param("rtdetr-l", marks=pytest.mark.slow), "yolov5on"])
def test_other_heads(name: str, tmp_path: Path, pictures: list[Tensor]) -> None:
    from robustbench_sgdm.detectors.ultralytics import zoo

    for end2end in (None, True) if name == "yolov10n" else (None,):
        model = zoo.build_model(name, 3, ("cat", "dog", "cow")).eval()
        settings = InferenceConfig(imgsz=64, end2end=end2end, conf=1e-6, max_det=20)
        reference = UltralyticsDetector(model, name, settings)
        path = tmp_path / f"{name}-{end2end}.onnx"
        export_detector(reference, path, "onnx")
        exported = load_exported(path, InferenceConfig(conf=1e-6, max_det=20))
        assert exported.is_end_to_end == reference.is_end_to_end
        assert exported.fills_square == reference.fills_square
        for image in pictures[:2]:
            one, two = reference.predict([image])[0], exported.predict([image])[0]
            assert len(one) == len(two)
            np.testing.assert_allclose(one.scores, two.scores, atol=1e-4)


@pytest.mark.parametrize("form", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_eight_bits_are_smaller_and_still_detect(
    form: ExportFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CALIBRATION_IMAGES", 4)
    sizes = {}
    for int8 in (False, True):
        path = tmp_path / f"{int8}{export.SUFFIXES[form]}"
        data: dict[str, Any] = {"int8": True, "data": "scenes"} if int8 else {}
        assert rb.export("yolov8n", format=form, out=path, imgsz=160, **data) == path
        files = path.iterdir() if path.is_dir() else [path]
        sizes[int8] = sum(one.stat().st_size for one in files)
    assert sizes[True] < 0.5 * sizes[False]
    found = load_exported(path).predict(export.rendered_images())
    assert sum(len(one) for one in found) > 0 and max(one.scores.max() for one in found) > 0.3


def test_what_export_refuses(tmp_path: Path, detector: UltralyticsDetector) -> None:
    with pytest.raises(UsageError, match="--int8 needs --calibrate DATA"):
        ExportConfig("yolov8n", int8=True)
    with pytest.raises(UsageError, match="--int8 needs --calibrate DATA"):
        ExportConfig("yolov8n", data="scenes")
    with pytest.raises(UsageError, match="unknown format 'tflite'"):
        ExportConfig("yolov8n", format="tflite")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        export_detector(detector, tmp_path / "m.bin", "onnx")
    with pytest.raises(UsageError, match=r"must end in _openvino_model, .*m_openvino_model"):
        export_detector(detector, tmp_path / "m.xml", "openvino")
    (tmp_path / "m_openvino_model").mkdir()
    (tmp_path / "m_openvino_model/precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="other files"):
        export_detector(detector, tmp_path / "m_openvino_model", "openvino")
    with pytest.raises(UsageError, match="exported already"):
        rb.export(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="unknown model"):
        rb.export("yolov99", out=tmp_path / "m.onnx")


def test_a_checkpoint_runs_in_another_runtime(
    detector: UltralyticsDetector, pictures: list[Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(export, "rendered_images", lambda: pictures[:2])
    one = load_file("yolov8n-sgdm", InferenceConfig(imgsz=160, runtime="onnx"))
    about = one.describe()
    assert (
        about["runtime"] == "onnx"
        and about["module"] == "sgdm"
        and about["parameters"] == detector.parameters
    )
    assert one.name == "yolov8n-sgdm" and one.fingerprint != detector.fingerprint
    assert largest_shift(detector, one, pictures) < 0.1
    made = [p.stat().st_mtime_ns for p in tmp_path.rglob("model.onnx")]
    assert len(made) == 1
    again = load_file("yolov8n-sgdm", InferenceConfig(imgsz=160, runtime="onnx"))
    assert again.fingerprint == one.fingerprint
    assert [p.stat().st_mtime_ns for p in tmp_path.rglob("model.onnx")] == made
    with pytest.raises(UsageError, match="needs an NVIDIA GPU"):
        convert(detector, "tensorrt")


def test_an_export_that_is_not_equal_is_refused(
    detector: UltralyticsDetector, pictures: list[Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(export, "rendered_images", lambda: pictures[:2])
    monkeypatch.setattr(export, "largest_shift", lambda *_: 7.25)
    with pytest.raises(RobustBenchError, match=r"moves boxes by 7\.25 px; the limit is 0\.1"):
        convert(detector, "onnx")
    assert not list(tmp_path.rglob("model.onnx"))


def test_auto_takes_the_fastest_and_stays_with_it(
    detector: UltralyticsDetector, pictures: list[Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(export, "rendered_images", lambda: pictures[:1])
    chosen = convert(detector, "auto").describe().get("runtime", "pytorch")
    (kept,) = tmp_path.rglob("*.json")
    assert json.loads(kept.read_text())["runtime"] == chosen
    kept.write_text('{"runtime": "onnx"}')
    assert convert(detector, "auto").describe()["runtime"] == "onnx"
    for odd in ("", '{"runtime": 3}'):  # cut off with the power, and by hand: it is chosen again
        kept.write_text(odd)
        again = convert(detector, "auto").describe().get("runtime", "pytorch")
        assert json.loads(kept.read_text()) == {"runtime": again}


def test_a_run_compares_an_export_with_its_checkpoint(command: Callable[..., str], tiny_coco: Path) -> None:
    said = command("export", "yolov8n", "--imgsz", "64", "--out", "y.onnx")
    assert "move by at most" in said and "export  y.onnx" in said
    options = [
        "--data",
        str(tiny_coco),
        "--noise",
        "gaussian",
        "--severity",
        "0,3",
        "--name",
        "r",
        "--classes",
        "x",
    ]
    said = command("run", "--model", "yolov8n,y.onnx", "--imgsz", "64", *options, code=2)
    assert "has 1 names" in said


@pytest.mark.slow
def test_results_of_a_run_in_two_runtimes(tmp_path: Path) -> None:
    path = rb.export("yolov8n", out=tmp_path / "y.onnx", imgsz=64)
    run = rb.evaluate(
        ["yolov8n", path], baseline="yolov8n", imgsz=64, fraction=0.03, severity=[0, 3], noise="gaussian",
        project=tmp_path, name="r", workers=2,
    )  # fmt: skip
    results = run.results().pivot(index=["corruption", "severity"], columns="model", values="AP")
    np.testing.assert_allclose(results["yolov8n"], results["y.onnx"], atol=0.05)
    models = run.directory.manifest.models
    assert models["y.onnx"].runtime == "onnx" and models["y.onnx"].baseline == "yolov8n"
    frames = [
        pd.read_parquet(run.path / "cells" / name / "clean/0/detections.parquet").query("score > 0.05")
        for name in ("yolov8n", "y.onnx")
    ]
    columns = ["image_id", "category_id", "x1", "y1", "x2", "y2"]
    for one, two in zip(*(f[columns].to_numpy() for f in frames), strict=True):
        np.testing.assert_allclose(one, two, atol=0.1)


@pytest.mark.slow
def test_ap_on_photographs_is_the_checkpoints(coco_json: Path, coco_weights: Path, tmp_path: Path) -> None:
    """Sixteen of the 128 images at 320 px: the whole is measured in docs/how-to/exported-models.md."""
    path = rb.export(coco_weights, out=tmp_path / "c.onnx", imgsz=320)
    run = rb.evaluate(
        [coco_weights, path], data=coco_json, imgsz=320, fraction=0.125, severity=[0, 3], noise="gaussian",
        project=tmp_path, name="r",
    )  # fmt: skip
    results = run.results().pivot(index=["corruption", "severity"], columns="model", values="AP")
    assert results.diff(axis=1).iloc[:, 1].abs().max() < 0.05


def test_metadata_is_kept(detector: UltralyticsDetector, tmp_path: Path) -> None:
    export_detector(detector, tmp_path / "m.onnx", "onnx")
    fields: dict[str, Any] = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert {"names", "imgsz", "stride", "task", "batch", "end2end", "license"} <= set(
        fields
    ) and "date" not in fields
