"""What every runtime must do, walked over all that can be tried here: the small model in each of them."""

import logging
import pickle
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.detectors import Detector
from robustbench_sgdm.detectors.runtimes import ExportedDetector, is_exported, load_exported

models: Any = resources.import_file(Path(__file__).with_name("models.py"))


class Small(nn.Module):
    """The small model in torch."""

    def forward(self, x: Tensor) -> Tensor:
        scores = nn.functional.avg_pool2d(x, 16).flatten(2)
        steps = torch.arange(scores.shape[2]) * (64 / 20)
        boxes = torch.stack([steps + 8, steps + 8, steps * 0 + 20, steps * 0 + 20])
        return torch.cat((boxes.expand(len(x), 4, -1), scores), 1)


def onnx_file(folder: Path, scale: float = 1.0) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(models.raw(scale=scale))
    return path


def onnx_fixed(folder: Path, scale: float = 1.0) -> Path:
    path = folder / "fixed.onnx"
    path.write_bytes(models.raw(batch=2, scale=scale))
    return path


def openvino_folder(folder: Path, scale: float = 1.0) -> Path:
    found: Path = models.openvino_folder(
        folder / "m_openvino_model", models.raw(batch=1, metadata={}, scale=scale)
    )
    return found


def torchscript(folder: Path, scale: float = 1.0) -> Path:
    import json

    path = folder / "m.torchscript"
    about = {
        "names": {0: "cat", 1: "dog", 2: "cow"},
        "imgsz": [64, 64],
        "stride": 32,
        "task": "detect",
        "batch": 1,
    }

    class Scaled(Small):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            return torch.cat((out[:, :4], out[:, 4:] * scale), 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have another format than what people deploy
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            Scaled(), torch.zeros(1, 3, 64, 64), strict=False, check_trace=False
        )
        traced.save(str(path), _extra_files={"config.txt": json.dumps(about)})
    return path


RUNTIMES: dict[str, Callable[..., Path]] = {
    one.__name__: one for one in (onnx_file, onnx_fixed, openvino_folder, torchscript)
}
CONFIG = InferenceConfig(trust_weights=True, conf=0.01)


@pytest.fixture(scope="module", params=RUNTIMES)
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportedDetector:
    return load_exported(RUNTIMES[request.param](tmp_path_factory.mktemp("m")), CONFIG)


@pytest.fixture(scope="module")
def pictures() -> list[Tensor]:
    draw = np.random.default_rng(0)
    sizes = [(64, 64), (50, 97), (97, 50), (200, 31), (1, 1), (1, 300), (640, 480)]
    return [torch.from_numpy(draw.integers(0, 256, (3, *size), np.uint8)) for size in sizes]


def same(one: list[Detections], two: list[Detections]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.labels, b.labels)
        np.testing.assert_allclose(a.xyxy, b.xyxy, rtol=0, atol=1e-4)
        np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=1e-6)


def test_it_is_a_detector(detector: ExportedDetector) -> None:
    assert isinstance(detector, Detector) and detector.imgsz == 64 and detector.classes == models.CLASSES
    about = detector.describe()
    assert {"runtime", "runtime_version", "layout", "fingerprint", "imgsz", "conf"} <= set(about)
    assert about["runtime_version"] not in ("", "absent")


def test_other_images_of_a_batch_play_no_part(detector: ExportedDetector, pictures: list[Tensor]) -> None:
    alone = [detector.predict([one])[0] for one in pictures]
    same(detector.predict(pictures), alone)
    same(detector.predict(pictures[::-1]), alone[::-1])
    assert all(len(one) for one in alone) and detector.predict([]) == []


def test_boxes_lie_in_images_of_any_size(detector: ExportedDetector, pictures: list[Tensor]) -> None:
    for image, found in zip(pictures, detector.predict(pictures), strict=True):
        assert found.xyxy.min() >= 0 and (found.xyxy <= [image.shape[2], image.shape[1]] * 2).all()
        assert (np.diff(found.scores) <= 0).all()


def test_nothing_is_found_in_black(detector: ExportedDetector) -> None:
    (found,) = detector.predict([torch.zeros(3, 64, 64, dtype=torch.uint8)])
    assert len(found) == 0


def test_threads_share_it(detector: ExportedDetector, pictures: list[Tensor]) -> None:
    wanted, found = detector.predict(pictures), {}

    def work(number: int) -> None:
        found[number] = detector.predict(pictures)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found.values():
        same(one, wanted)


def test_it_travels_to_other_processes(detector: ExportedDetector, pictures: list[Tensor]) -> None:
    arrived = pickle.loads(pickle.dumps(detector))
    assert arrived.fingerprint == detector.fingerprint
    same(arrived.predict(pictures), detector.predict(pictures))


def test_wrong_images_are_refused(detector: ExportedDetector) -> None:
    for image in (torch.zeros(3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.uint8)):
        with pytest.raises(UsageError, match="must be a uint8"):
            detector.predict([image])


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_fingerprint_is_of_the_file_and_the_settings(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    path = RUNTIMES[name](tmp_path / "a")
    other = RUNTIMES[name](tmp_path / "b", scale=0.5)
    first = load_exported(path, CONFIG).fingerprint
    assert first == load_exported(path, CONFIG).fingerprint
    different = {
        first,
        load_exported(other, CONFIG).fingerprint,
        load_exported(path, InferenceConfig(trust_weights=True, conf=0.02)).fingerprint,
        load_exported(path, InferenceConfig(trust_weights=True, conf=0.01, classes="a,b,c")).fingerprint,
    }
    assert len(different) == 4


def test_all_find_the_same(tmp_path: Path, pictures: list[Tensor]) -> None:
    for name in RUNTIMES:
        (tmp_path / name).mkdir()
    found = [
        load_exported(make(tmp_path / name), CONFIG).predict(pictures) for name, make in RUNTIMES.items()
    ]
    for one in found[1:]:
        same(found[0], one)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", [models.FLOAT, models.HALF, models.BYTE])
def test_types_of_pixels(tmp_path: Path, kind: int, channels_last: bool, pictures: list[Tensor]) -> None:
    (tmp_path / "m.onnx").write_bytes(models.raw(kind=kind, channels_last=channels_last))
    detector = load_exported(tmp_path / "m.onnx", CONFIG)
    found = detector.predict(pictures[:1])[0]
    wanted = load_exported(onnx_fixed(tmp_path), CONFIG).predict(pictures[:1])[0]
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-3)
    assert ("channels last" in detector.describe()["pixels"]) == channels_last


def test_types_of_pixels_that_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.raw(kind=models.TensorProto.INT8))
    with pytest.raises(DataError, match="images as int8, must be float32, float16, uint8"):
        load_exported(path)
    path.write_bytes(models.raw(kind=models.BYTE))
    load_exported(path, InferenceConfig(normalize="imagenet"))
    assert "which it normalises itself: --normalize is ignored" in caplog.text


def in_ranges_of_the_batch(model: Any) -> None:
    """Scores are shares of the brightest colour of all images, as where a quantiser chooses ranges at run time."""
    nodes = model.graph.node
    place = next(k for k, node in enumerate(nodes) if node.output[0] == "scores")
    nodes[place].op_type, nodes[place].input[1] = "Div", "brightest"
    nodes.insert(place, models.helper.make_node("ReduceMax", ["colours"], ["brightest"], keepdims=0))


def of_the_first_image(model: Any) -> None:
    """Boxes of other images are lost, as where suppression was written down for a batch of one."""
    (last,) = (node for node in model.graph.node if node.output[0] == "output0")
    last.output[0] = "whole_output"
    first = models.numpy_helper.from_array(np.array([0, 1, 1 << 62], np.int64), "first_image")
    model.graph.initializer.append(first)
    nodes = [
        models.helper.make_node("Split", ["first_image"], ["at", "until", "far"], num_outputs=3),
        models.helper.make_node("Slice", ["whole_output", "at", "until", "at"], ["only"]),
        models.helper.make_node("Slice", ["whole_output", "until", "far", "at"], ["others"]),
        models.helper.make_node("Sub", ["others", "others"], ["nothing"]),
        models.helper.make_node("Concat", ["only", "nothing"], ["output0"], axis=0),
    ]
    model.graph.node.extend(nodes)


@pytest.mark.parametrize("change", [in_ranges_of_the_batch, of_the_first_image])
def test_images_whose_batch_plays_a_part_run_alone(
    tmp_path: Path, change: Callable[[Any], None], pictures: list[Tensor]
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.raw(change=change))
    detector = load_exported(path, CONFIG)
    alone = [detector.predict([one])[0] for one in pictures]
    assert all(len(one) for one in alone)
    same(detector.predict(pictures), alone)


def test_a_fixed_batch_that_plays_a_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.raw(batch=2, change=in_ranges_of_the_batch))
    with pytest.raises(DataError, match="depend on the others of its batch of 2; export it for single"):
        load_exported(path, CONFIG)


def nothing(model: Any) -> None:
    """Rows of six, all 0: as where suppression inside a file leaves none."""
    (last,) = (node for node in model.graph.node if node.output[0] == "output0")
    last.output[0] = "seven"
    zeros = models.numpy_helper.from_array(np.zeros((7, 6), np.float32), "zeros")
    model.graph.initializer.append(zeros)
    turned = models.helper.make_node("Transpose", ["seven"], ["turned"], perm=[0, 2, 1])
    model.graph.node.extend([turned, models.helper.make_node("MatMul", ["turned", "zeros"], ["output0"])])


def test_what_noise_cannot_tell_runs_one_image_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No box in noise: whether the other images of a batch would have theirs is not seen."""
    caplog.set_level(logging.INFO, "robustbench_sgdm")
    (tmp_path / "m.onnx").write_bytes(
        models.raw(metadata=models.METADATA | {"args": "{'nms': True}"}, change=nothing)
    )
    load_exported(tmp_path / "m.onnx", CONFIG)
    assert "runs one image at a time" in caplog.text and "batches of 1," in caplog.text


def test_any_size_takes_the_files_or_the_users(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.raw(side="side"))
    assert load_exported(path, CONFIG).imgsz == 64
    assert load_exported(path, InferenceConfig(imgsz=96)).imgsz == 96
    path.write_bytes(models.raw(side="side", metadata={"names": "['cat', 'dog', 'cow']"}))
    with pytest.raises(UsageError, match="set it with --imgsz"):
        load_exported(path)
    path.write_bytes(models.raw())
    with pytest.raises(UsageError, match="64 px only, and --imgsz is 96"):
        load_exported(path, InferenceConfig(imgsz=96))


def test_names_are_the_files_or_the_users(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(models.raw(metadata={}))
    with pytest.raises(UsageError, match=r"does not name its classes; give as many as it has \(3 for"):
        load_exported(path)
    (tmp_path / "names.txt").write_text("a\nb\n\nc\n")
    (tmp_path / "data.yaml").write_text("names: {0: a, 1: b, 2: c}\n")
    (tmp_path / "names.json").write_text('["a", "b", "c"]')
    for given in (
        "a,b,c",
        ["a", "b", "c"],
        tmp_path / "names.txt",
        tmp_path / "data.yaml",
        tmp_path / "names.json",
    ):
        assert load_exported(path, InferenceConfig(classes=given)).classes == ("a", "b", "c")
    with pytest.raises(DataError, match=r"with 2 class names \(3 for .* if it is raw\) cannot be read"):
        load_exported(path, InferenceConfig(classes="a,b"))
    with pytest.raises(DataError, match="there is no file"):
        load_exported(path, InferenceConfig(classes=tmp_path / "absent.txt"))
    path.write_bytes(models.raw())
    with pytest.raises(UsageError, match=r"has 2 names, and .* has 3 classes"):
        load_exported(path, InferenceConfig(classes="a,b"))


def test_a_batch_axis_that_does_not_work(tmp_path: Path, pictures: list[Tensor]) -> None:
    """Declared for any number, and the graph holds a 1."""
    path = tmp_path / "m.onnx"

    def fix(model: Any) -> None:
        for node in model.graph.node:
            if node.op_type == "Concat" and node.output[0] == "whole":
                node.input[0] = "first_1"
        from onnx import numpy_helper

        model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "first_1"))

    path.write_bytes(models.raw(change=fix))
    same(
        load_exported(path, CONFIG).predict(pictures),
        load_exported(onnx_fixed(tmp_path), CONFIG).predict(pictures),
    )


@pytest.mark.parametrize("name", ["m.torchscript", "m.engine", "m.mnn", "m.tflite"])
def test_what_runs_code_wants_trust(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 100)
    assert is_exported(tmp_path / name)
    with pytest.raises(DataError, match="--trust-weights"):
        load_exported(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("m.engine", "needs an NVIDIA GPU"),
        ("m.mnn", "pip install MNN"),
        ("m.torchscript", "cannot be loaded"),
    ],
)
def test_trusted_files_that_do_not_load(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 100)
    with pytest.raises((DataError, UsageError), match=says) as caught:
        load_exported(tmp_path / name, CONFIG)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path, folder = onnx_file(tmp_path), openvino_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r'pip install "robustbench-sgdm\[onnx\]"'):
        load_exported(path)
    with pytest.raises(UsageError, match=r'pip install "robustbench-sgdm\[openvino\]"'):
        load_exported(folder)


def test_settings_that_do_not_go_with_it(tmp_path: Path) -> None:
    path = onnx_file(tmp_path)
    with pytest.raises(UsageError, match="--half"):
        load_exported(path, InferenceConfig(half=True))
    with pytest.raises(UsageError, match="--end2end"):
        load_exported(path, InferenceConfig(end2end=True))
    for what in ("layout", "normalize", "runtime"):
        odd: dict[str, Any] = {what: "odd"}
        with pytest.raises(UsageError, match=f"unknown {what}"):
            InferenceConfig(**odd)


def test_detr_wants_to_know_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    outputs = [
        ("logits", np.zeros((1, 5, 4), np.float32)),
        ("pred_boxes", np.full((1, 5, 4), 0.5, np.float32)),
    ]
    path.write_bytes(models.constant_outputs(outputs, {"names": "['a', 'b', 'c']"}))
    with pytest.raises(
        UsageError, match=r"--normalize unit or imagenet, or put its preprocessor_config\.json"
    ):
        load_exported(path)
    assert "ImageNet" in load_exported(path, InferenceConfig(normalize="imagenet")).describe()["pixels"]
    beside = tmp_path / "preprocessor_config.json"
    beside.write_text('{"do_normalize": true, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}')
    assert "(0.1, 0.2, 0.3)" in load_exported(path).describe()["pixels"]
    for text in ("[]", '{"image_mean": [1, 2], "image_std": [1, 2, 3]}', '{"rescale_factor": 1.0}', "{"):
        beside.write_text(text)
        with pytest.raises(DataError, match="preprocessor_config"):
            load_exported(path)
