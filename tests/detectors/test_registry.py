"""The detectors of a run: baselines beside their variants, distinct names, whose weights are whose."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors import load_detectors
from robustbench_sgdm.detectors.ultralytics import weights, zoo

SMALL = InferenceConfig(imgsz=64)


def test_a_variant_brings_its_baseline_and_never_weights_of_other_data(coco_weights: Path) -> None:
    found = load_detectors(["yolov8n-sgdm"], SMALL, weights={"yolov8n-sgdm": coco_weights})
    assert list(found) == ["yolov8n", "yolov8n-sgdm"]
    assert found["yolov8n-sgdm"].baseline == "yolov8n" and found["yolov8n"].weights == str(coco_weights)
    alone = load_detectors(["yolov8n-sgdm"], SMALL, weights={"yolov8n-sgdm": coco_weights}, baselines=False)
    assert list(alone) == ["yolov8n-sgdm"] and alone["yolov8n-sgdm"].baseline is None


def test_files_of_one_name_are_told_apart(coco_weights: Path, tmp_path: Path) -> None:
    files = [tmp_path / folder / "weights" / "best.pt" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir(parents=True)
        shutil.copy(coco_weights, file)
    found = load_detectors([str(f) for f in files], SMALL)
    assert list(found) == ["a-best", "b-best"]
    with pytest.raises(UsageError, match="no model"):
        load_detectors([])


@pytest.mark.parametrize("other", ["best.safetensors", "../a/best.pt"])
def test_files_that_no_folder_tells_apart_are_refused(tmp_path: Path, other: str) -> None:
    files = [tmp_path / "a/best.pt", tmp_path / "a" / other]
    with pytest.raises(UsageError, match=r"would both be called .*best in the results"):
        load_detectors([str(f) for f in files], SMALL)


def test_a_model_yaml_takes_weights_and_is_called_by_its_stem(tmp_path: Path) -> None:
    model = zoo.build_model("yolov5n-sgdm[razor=0.25]", 2, ("cat", "dog"))
    config = zoo.model_config("yolov5n-sgdm[razor=0.25]", 2)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    weights.write_weights(tmp_path / "w.safetensors", model.state_dict(), config, ("cat", "dog"))
    name = str(tmp_path / "mine.yaml")
    found = load_detectors([name], SMALL, weights={name: tmp_path / "w.safetensors"})
    assert list(found) == ["mine"] and found["mine"].detector.classes == ("cat", "dog")
    with pytest.raises(UsageError, match=r"mine\.yaml has no weights in this package"):
        load_detectors([name], SMALL)


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ("yolov8n", {"classes": "a,b"}, "--classes is for exported files and other libraries' weights"),
        ("yolov8n", {"layout": "raw"}, "--layout is for exported files, and no model of this run is one"),
        ("torchvision:fcos_resnet50_fpn", {"normalize": "unit"}, "--normalize is for exported files"),
        ("hf:nobody/nothing", {"runtime": "openvino"}, "computed by PyTorch alone: leave out --runtime"),
        ("json:loads", {"runtime": "onnx"}, "json:loads computes by itself: leave out --runtime"),
    ],
)
def test_settings_that_no_model_takes(model: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load_detectors([model], InferenceConfig(**settings))
