import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.datasets import coco, image_decoding
from robustbench_sgdm.detectors import Detector, UltralyticsDetector, load_detector
from robustbench_sgdm.detectors.device import select_device
from robustbench_sgdm.detectors.ultralytics import adapter, weights, zoo
from robustbench_sgdm.detectors.ultralytics.architecture import build_network, tasks

CLASSES = ("cat", "dog", "cow")
SMALL = InferenceConfig(imgsz=64, conf=0.01)


@pytest.fixture(scope="module")
def pictures(photographs: list[NDArray[np.uint8]]) -> list[Tensor]:
    return [torch.from_numpy(p[::2, ::3].copy()).permute(2, 0, 1) for p in photographs]


def loud(model: DetectionModel) -> DetectionModel:
    """Random scores around 1/2, where a fresh head starts near 0."""
    for name, parameter in model.named_parameters():
        if "cv3." in name and parameter.shape[0] == 3:
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def detector() -> UltralyticsDetector:
    return UltralyticsDetector(loud(zoo.build_model("yolov8n-sgdm", 3, CLASSES)), "random", SMALL)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    model = zoo.build_model("yolov5n", 3, CLASSES)
    weights.write_weights(path, model.state_dict(), zoo.model_config("yolov5n", 3), CLASSES)
    return path


def same(a: list[Detections], b: list[Detections], pixels: float = 0.0) -> None:
    assert [len(x) for x in a] == [len(x) for x in b]
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left.xyxy, right.xyxy, rtol=0, atol=pixels)
        np.testing.assert_allclose(left.scores, right.scores, rtol=0, atol=pixels / 10)
        np.testing.assert_array_equal(left.labels, right.labels)


def test_it_is_a_detector(detector: UltralyticsDetector, pictures: list[Tensor]) -> None:
    assert isinstance(detector, Detector)
    assert (detector.name, detector.classes, detector.imgsz) == ("random", CLASSES, 64)
    assert detector.parameters == zoo.model_cost("yolov8n-sgdm", 3).parameters
    assert detector.describe()["conf"] == 0.01
    before = [p.clone() for p in pictures]
    found = detector.predict(pictures)
    assert len(found) == len(pictures) and sum(map(len, found)) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, pictures, strict=True))
    for boxes, picture in zip(found, pictures, strict=True):
        height, width = picture.shape[1:]
        assert (boxes.xyxy >= 0).all() and (boxes.xyxy <= [width, height, width, height]).all()
        assert (np.diff(boxes.scores) <= 0).all() and (boxes.scores > 0.01).all()
        assert len(boxes) <= 300
    assert detector.predict([]) == []


def test_an_image_alone_or_in_a_batch_gives_the_same(detector: UltralyticsDetector) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator)
    alone = torch.cat([detector.forward(batch[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(detector.forward(batch), alone, rtol=0, atol=1e-3)


def test_two_threads_see_what_one_sees(detector: UltralyticsDetector, pictures: list[Tensor]) -> None:
    batches = [pictures[: 1 + i % 4] for i in range(24)]
    expected = [detector.predict(batch) for batch in batches]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(detector.predict, batches))
    for one, other in zip(found, expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 3, 8, 8), (3, 0, 8), None])
def test_images_of_another_form_are_refused(
    detector: UltralyticsDetector, shape: tuple[int, ...] | None
) -> None:
    image = torch.zeros(shape, dtype=torch.uint8) if shape else torch.zeros(3, 8, 8)
    with pytest.raises(UsageError, match=r"must be a uint8 \(3, H, W\)"):
        detector.predict([image])


def test_broken_weights_are_an_error_not_an_empty_result() -> None:
    model = zoo.build_model("yolov5n", 3)
    model.get_parameter("model.0.conv.weight").data[0] = torch.nan
    with pytest.raises(RobustBenchError, match="broken outputs NaN"):
        UltralyticsDetector(model, "broken", SMALL)


def test_the_model_given_is_left_as_it_is(pictures: list[Tensor]) -> None:
    model = zoo.build_model("yolov8n-sgdm", 3)
    before = copy.deepcopy(model.state_dict())
    UltralyticsDetector(model, "mine", SMALL).predict(pictures)
    assert model.training and all(p.requires_grad for n, p in model.named_parameters() if "dfl" not in n)
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_end_to_end_heads_suppress_for_themselves(pictures: list[Tensor]) -> None:
    config = {**tasks.yaml_model_load("yolov10n.yaml"), "nc": 3}
    model = loud(build_network(config, CLASSES))
    found = UltralyticsDetector(model, "v10", replace(SMALL, max_det=7)).predict(pictures)
    assert 0 < max(map(len, found)) <= 7


def test_rtdetr_detects_as_its_own_validator_does(pictures: list[Tensor]) -> None:
    """Images stretched to the square, no suppression; its boxes are shares of the square.

    All 300 queries are asked for and compared as a set: untrained, their scores nearly tie.
    """
    model = zoo.build_model("rtdetr-l", 3, CLASSES).eval()
    settings = replace(SMALL, imgsz=128, max_det=300, conf=0.0)
    found = UltralyticsDetector(model, "rtdetr", settings).predict(pictures[:2])
    validator: Any = RTDETRValidator(args=get_cfg(overrides={"imgsz": 128, "conf": 0.0, "max_det": 300}))
    model.fuse(verbose=False)  # type: ignore[no-untyped-call]
    for picture, boxes in zip(pictures, found, strict=False):
        square = cv2.resize(picture.permute(1, 2, 0).contiguous().numpy(), (128, 128))
        batch = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            rows = validator.postprocess(model(batch))[0]
        height, width = picture.shape[1:]
        expected = rows["bboxes"].numpy() * np.tile([width / 128, height / 128], 2)
        assert len(boxes) == len(expected) == 300
        np.testing.assert_allclose(boxes.scores, rows["conf"].numpy(), atol=1e-5)
        apart = np.abs(boxes.xyxy[:, None] - expected.clip(0, np.tile([width, height], 2))[None]).max(axis=2)
        assert apart.min(axis=0).max() <= 0.05 and apart.min(axis=1).max() <= 0.05


def test_rtdetr_has_no_place_for_a_module() -> None:
    with pytest.raises(UsageError, match="rtdetr-l ends in RTDETRDecoder"):
        zoo.model_config("rtdetr-l-sgdm", 3)


def ultralytics(paths: list[Path], weights_file: Path, imgsz: int, scratch: Path) -> list[Detections]:
    """Ultralytics' own dataset, validator and scaling, one image at a time, with `val`'s settings."""
    settings = {"model": "m.pt", "imgsz": imgsz, "rect": False, "conf": 0.001, "iou": 0.7, "max_det": 300}
    validator: Any = DetectionValidator(args=get_cfg(overrides=settings))
    validator.device, validator.end2end = torch.device("cpu"), False
    model = torch.load(weights_file, map_location="cpu", weights_only=False)["model"].float().eval()
    model.fuse(verbose=False)
    for parameter in model.parameters():  # the layout rounds differently, and then ties change places
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    data = {"names": dict(model.names), "nc": 80, "channels": 3}
    found = []
    for path in paths:
        listed = scratch / "images" / path.name  # it writes a cache beside what it reads
        listed.parent.mkdir(exist_ok=True)
        listed.symlink_to(path)
        listing = scratch / f"{path.stem}.txt"
        listing.write_text(str(listed))
        dataset: Any = YOLODataset(str(listing), imgsz=imgsz, augment=False, rect=False, data=data)
        batch = validator.preprocess(YOLODataset.collate_fn([dataset[0]]))
        with torch.inference_mode():
            x = batch["img"].contiguous(memory_format=torch.channels_last)
            prediction = validator.postprocess(model(x))[0]
        shapes = {"ori_shape": batch["ori_shape"][0], "ratio_pad": batch["ratio_pad"][0]}
        scaled = validator.scale_preds(prediction, {"imgsz": batch["img"].shape[2:], **shapes})
        box, score, label = (scaled[key].numpy() for key in ("bboxes", "conf", "cls"))
        found.append(Detections(box, score, label.astype(np.int64)))
    return found


@pytest.fixture(scope="module")
def coco_images(coco_json: Path) -> list[Path]:
    return [image.path for image in coco.load_coco(coco_json).images[:4]]


@pytest.fixture(scope="module")
def coco_tensors(coco_json: Path) -> list[Tensor]:
    return [
        torch.from_numpy(image_decoding.read_image(i)).permute(2, 0, 1)
        for i in coco.load_coco(coco_json).images[:4]
    ]


def test_equals_ultralytics_own_validation(
    coco_images: list[Path], coco_tensors: list[Tensor], coco_weights: Path, tmp_path: Path
) -> None:
    detector = load_detector("yolov8n", InferenceConfig(imgsz=320), weights=coco_weights)
    found = [detector.predict([image])[0] for image in coco_tensors]
    assert min(map(len, found)) > 20
    same(found, ultralytics(coco_images, coco_weights, 320, tmp_path))


def test_an_untrained_graft_detects_what_its_baseline_does(
    coco_tensors: list[Tensor], coco_weights: Path
) -> None:
    baseline = load_detector("yolov8n", InferenceConfig(imgsz=320), weights=coco_weights)
    grafted = load_detector("yolov8n-sgdm", InferenceConfig(imgsz=320), weights=coco_weights)
    assert grafted.parameters == 3_342_516
    same(grafted.predict(coco_tensors), baseline.predict(coco_tensors), pixels=1e-3)
    assert (
        grafted.fingerprint
        == load_detector("yolov8n-sgdm", InferenceConfig(imgsz=320), weights=coco_weights).fingerprint
    )
    assert grafted.fingerprint != baseline.fingerprint


def test_fingerprint_is_of_weights_and_settings(file: Path, tmp_path: Path) -> None:
    first = load_detector(file, InferenceConfig(imgsz=64)).fingerprint
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(file.read_bytes())
    assert (
        load_detector(copied, InferenceConfig(imgsz=64)).fingerprint
        == load_detector("yolov5n", InferenceConfig(imgsz=64), weights=file).fingerprint
        == first
    )
    model, settings, cpu = (
        weights.copy_network(weights.read_weights(file)),
        InferenceConfig(imgsz=64, end2end=False),
        torch.device("cpu"),
    )
    assert adapter.fingerprint_network(model, CLASSES, settings, cpu) == first
    changes: list[dict[str, Any]] = [
        {"imgsz": 96},
        {"conf": 0.1},
        {"iou": 0.5},
        {"max_det": 9},
        {"half": True},
        {"end2end": True},
    ]
    prints = [
        adapter.fingerprint_network(model, CLASSES, replace(settings, **change), cpu) for change in changes
    ]
    prints.append(adapter.fingerprint_network(model, CLASSES[::-1], settings, cpu))
    prints.append(adapter.fingerprint_network(model, CLASSES, settings, torch.device("cuda")))
    changed = weights.copy_network(weights.read_weights(file))
    changed.get_submodule("model.0").act = torch.nn.ReLU()  # same tensors, same YAML
    prints.append(adapter.fingerprint_network(changed, CLASSES, settings, cpu))
    model.get_parameter("model.0.conv.weight").data[0, 0, 0, 0] += 1
    prints.append(adapter.fingerprint_network(model, CLASSES, settings, cpu))
    assert len({first, *prints}) == 1 + len(prints)


def test_load_by_path_and_by_name(file: Path) -> None:
    assert load_detector(file, InferenceConfig(imgsz=64)).name == "mine"
    assert load_detector("yolov5n", InferenceConfig(imgsz=64), weights=file).name == "yolov5n"
    assert load_detector(file, InferenceConfig(imgsz=64), classes=["a", "b", "c"]).classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("yolov5s", {"weights": True}, "yolov5n for 3 classes, which is not yolov5s"),
        ("yolov8n-sgdm", {"weights": True}, "yolov5n for 3 classes, which is not yolov8n-sgdm"),
        ("yolov5n-rdconv", {"weights": True}, "train yolov5n-rdconv from it"),
        ("yolov6s", {}, "no weights in this package"),
        ("yolov5m", {}, "no weights in this package"),
        ("yolov5q", {}, "unknown model"),
        ("file", {"weights": True}, "is a file of weights already"),
        ("file", {"classes": ["a"]}, "1 class names given"),
        ("file", {"imgsz": 100}, "imgsz is 100.*try 96"),
        ("file", {"imgsz": -32}, "imgsz is -32.*try 32"),
        ("file", {"imgsz": 10**6}, "try 7680"),
        ("file", {"conf": 1.0}, r"conf is 1\.0"),
        ("file", {"conf": float("nan")}, "conf is nan"),
        ("file", {"iou": 0.0}, r"iou is 0\.0"),
        ("file", {"max_det": 0}, "max_det is 0"),
        ("file", {"half": True}, "half is for CUDA"),
        ("file", {"device": "gpu"}, "device 'gpu' cannot be used"),
        ("file", {"device": "cuda:77"}, "device 'cuda:77' cannot be used"),
    ],
)
def test_impossible_requests_say_why(file: Path, model: str, options: dict[str, Any], says: str) -> None:
    settings = {"imgsz": 64} | options
    given = {name: settings.pop(name) for name in ("weights", "classes") if name in settings}
    given |= {"weights": file} if "weights" in given else {}
    with pytest.raises(UsageError, match=says):
        load_detector(file if model == "file" else model, InferenceConfig(**settings), **given)


def test_weights_of_a_graft_with_other_options_are_another_model(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = zoo.build_model("yolov5n-sgdm[razor=0.25]", 3, CLASSES)
    weights.write_weights(path, model.state_dict(), zoo.model_config("yolov5n-sgdm[razor=0.25]", 3), CLASSES)
    found = load_detector("yolov5n-sgdm[razor=0.25]", InferenceConfig(imgsz=64), weights=path).parameters
    assert found == zoo.model_cost("yolov5n-sgdm[razor=0.25]", 3).parameters
    with pytest.raises(UsageError, match="which is not yolov5n-sgdm"):
        load_detector("yolov5n-sgdm", InferenceConfig(imgsz=64), weights=path)


def test_pick_device() -> None:
    assert select_device("cpu") == "cpu"
    assert select_device(None) == ("cuda:0" if torch.cuda.is_available() else "cpu")
