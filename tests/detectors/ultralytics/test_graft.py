import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors.ultralytics import layer_settings, weights, zoo
from robustbench_sgdm.detectors.ultralytics.architecture import (
    build_meta,
    build_network,
    detection_head,
    tasks,
)
from robustbench_sgdm.detectors.ultralytics.graft import bind_module_args, graft_module, transfer_weights
from robustbench_sgdm.modules import SGDM

CLASSES = ["cat", "dog", "cow"]


def randomised(name: str, **options: Any) -> nn.Module:
    """A model whose every tensor differs from its start, BatchNorm statistics included."""
    model = zoo.build_model(name, len(CLASSES), CLASSES, **options)
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator)).add_(0.01)
    return model


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        result: Tensor = model.eval()(images)[0]
    return result


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_graft_is_pure_and_moves_the_head() -> None:
    baseline = zoo.model_config("yolov8n", 80)
    before = copy.deepcopy(baseline)
    grafted = graft_module(baseline, "sgdm", gamma=0)
    assert baseline == before
    inserted = [[15, 1, "SGDM", [64]], [18, 1, "SGDM", [128]], [21, 1, "SGDM", [256]]]
    defaults = [0.25, 0.5, 15, 4, 9, None, "shared", "depthwise", 0]
    for row in inserted:
        row[3] = [*row[3], *defaults]  # type: ignore[misc]
    assert grafted["head"] == [*before["head"][:-1], *inserted, [[22, 23, 24], 1, "Detect", ["nc"]]]
    assert grafted["backbone"] == before["backbone"]
    grafted["head"][0][3][0] = "changed"
    assert baseline == before


def test_graft_resolves_the_layer_before() -> None:
    config = zoo.model_config("yolov8n", 80)
    config["head"][-1][0] = [15, 18, -1]
    assert (
        graft_module(config, "sgdm")["head"] == graft_module(zoo.model_config("yolov8n", 80), "sgdm")["head"]
    )


def test_graft_takes_what_the_parser_scales_to() -> None:
    sequence = build_meta(zoo.model_config("yolov6n-sgdm", 80))
    inserted = [layer for layer in sequence if isinstance(layer, SGDM)]
    assert [layer.bn.num_features for layer in inserted] == [32, 64, 128]


@pytest.mark.parametrize(
    "yaml", ["yolov8n-cls.yaml", "yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-rtdetr.yaml"]
)
def test_graft_refuses_what_is_no_detector(yaml: str) -> None:
    with pytest.raises(UsageError, match="must be a detection head"):
        graft_module(tasks.yaml_model_load(yaml), "sgdm")


@pytest.mark.parametrize("yaml", ["yolov10n.yaml", "yolo11n.yaml"])
def test_graft_knows_newer_detection_heads(yaml: str) -> None:
    grafted = build_meta(graft_module(tasks.yaml_model_load(yaml), "sgdm"))
    assert sum(isinstance(layer, SGDM) for layer in grafted) == 3
    assert detection_head(grafted).nl == 3


def test_graft_refuses_unknown_modules_and_options() -> None:
    with pytest.raises(UsageError, match="did you mean sgdm"):
        graft_module(zoo.model_config("yolov8n", 80), "sgmd")
    with pytest.raises(UsageError, match="did you mean razor"):
        graft_module(zoo.model_config("yolov8n", 80), "sgdm", raser=0.5)


def test_bind_stops_at_the_last_option_given() -> None:
    assert bind_module_args("sgdm", 64, {}) == [64]
    assert bind_module_args("sgdm", 64, {"strip": 7}) == [64, 0.25, 0.5, 7]


def test_a_grafted_model_trains_and_comes_back_from_a_checkpoint(tmp_path: Path, images: Tensor) -> None:
    model = zoo.build_model("yolov8n-sgdm", 3, CLASSES)
    model.args = get_cfg()  # type: ignore[assignment]  # as Ultralytics' trainer does
    sgdm = next(layer for layer in model.modules() if isinstance(layer, SGDM))
    before = {name: p.detach().clone() for name, p in sgdm.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.2, 0.5]])
    batch = {
        "img": images,
        "cls": torch.tensor([[0.0], [2.0]]),
        "bboxes": boxes,
        "batch_idx": torch.arange(2.0),
    }
    loss, _ = model.loss(batch)  # type: ignore[no-untyped-call]
    loss.sum().backward()
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in sgdm.named_parameters())
    model.criterion = None
    torch.save({"model": None, "ema": copy.deepcopy(model).half(), "date": "today"}, tmp_path / "best.pt")
    found = weights.read_weights(tmp_path / "best.pt")
    assert (found.classes, found.meta) == (tuple(CLASSES), {"date": "today"})
    back = weights.copy_network(found)
    torch.testing.assert_close(outputs(back, images), outputs(model.half().float(), images))


def test_a_grafted_model_fuses(images: Tensor) -> None:
    model = randomised("yolov8n-sgdm").eval()
    expected = outputs(model, images)
    fused = model.fuse(verbose=False)  # type: ignore[operator]
    assert not any(name.endswith(".conv.bn.weight") for name in fused.state_dict())
    torch.testing.assert_close(outputs(fused, images), expected, rtol=1e-3, atol=1e-3)


def test_a_grafted_model_exports_to_onnx_for_any_batch(tmp_path: Path, images: Tensor) -> None:
    model = randomised("yolov8n-sgdm").eval()
    head: Any = model.get_submodule("model.25")
    head.export, head.format = True, "onnx"
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs one more package
        torch.onnx.export(
            model, (images,), path, dynamo=False, input_names=["images"], output_names=["boxes"],
            dynamic_axes={"images": {0: "batch"}, "boxes": {0: "batch"}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 2, 3):
        batch = torch.cat([images, images.flip(3)])[:count]
        with torch.inference_mode():
            expected = model(batch).numpy()
        found = session.run(None, {"images": batch.numpy()})[0]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)  # a hundredth of a pixel


def test_transfer_accounts_for_every_tensor() -> None:
    baseline, grafted = randomised("yolov8n"), zoo.build_model("yolov8n-sgdm", 3, CLASSES)
    state = baseline.state_dict()
    done = transfer_weights(state, grafted)
    target = grafted.state_dict()
    assert len(done.matched) == len(state)
    assert sorted([*done.matched, *done.new]) == sorted(target)
    assert done.unmatched == []
    assert {name.split(".")[1] for name in done.new} == {"22", "23", "24"}
    assert done.summary() == f"{len(state)} tensors loaded, {len(done.new)} new, 0 not used"
    for name, tensor in state.items():  # the head's arrive, where loading by name alone would drop them
        moved = name.replace("model.22.", "model.25.")
        torch.testing.assert_close(target[moved], tensor, rtol=0, atol=0)


def test_transfer_to_an_ungrafted_model() -> None:
    baseline, other = randomised("yolov5n"), zoo.build_model("yolov5n", 3)
    done = transfer_weights(baseline.state_dict(), other)
    assert done.new == []
    assert weights.hash_tensors(baseline.state_dict()) == weights.hash_tensors(other.state_dict())


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "scale"])
def test_transfer_refuses_what_does_not_fit_and_loads_nothing(damage: str) -> None:
    state = dict(zoo.build_model("yolov8s" if damage == "scale" else "yolov8n", 3).state_dict())
    if damage == "missing":
        del state["model.4.cv1.conv.weight"]
    elif damage == "extra":
        state["model.22.odd"] = torch.zeros(1)
    elif damage == "shape":
        state["model.4.cv1.conv.weight"] = torch.zeros(1)
    grafted = zoo.build_model("yolov8n-sgdm", 3)
    before = copy.deepcopy(grafted.state_dict())
    with pytest.raises(UsageError, match="not those of this model's baseline"):
        transfer_weights(state, grafted)
    assert all(torch.equal(before[name], tensor) for name, tensor in grafted.state_dict().items())


def test_transfer_says_when_the_classes_differ() -> None:
    state = zoo.build_model("yolov8n", 80).state_dict()
    grafted = zoo.build_model("yolov8n-sgdm", 3)
    with pytest.raises(UsageError, match="for 80 classes, the model for 3"):
        transfer_weights(state, grafted)
    done = transfer_weights(state, grafted, new_classes=True)
    assert done.unmatched and all(name.startswith("model.22.cv3.") for name in done.unmatched)
    torch.testing.assert_close(grafted.state_dict()["model.25.cv2.0.2.bias"], state["model.22.cv2.0.2.bias"])


@pytest.mark.parametrize("family", ["yolov5n", "yolov6n", "yolov8n"])
def test_gamma_zero_changes_nothing(family: str, images: Tensor) -> None:
    baseline = randomised(family)
    grafted = zoo.build_model(f"{family}-sgdm[gamma=0]", 3, CLASSES)
    transfer_weights(baseline.state_dict(), grafted)
    torch.testing.assert_close(outputs(grafted, images), outputs(baseline, images), rtol=0, atol=0)


def test_without_gamma_zero_something_changes(images: Tensor) -> None:
    baseline = randomised("yolov8n")
    grafted = build_network(graft_module(zoo.model_config("yolov8n", 3), "sgdm"), CLASSES)
    transfer_weights(baseline.state_dict(), grafted)
    assert (outputs(grafted, images) - outputs(baseline, images)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "name", ["yolov8n", "yolov8n-sgdm", "yolo11n", "yolov10n", "yolo26n", "yolov6n", "yolov9t"]
)
@pytest.mark.parametrize("classes", [(80, 12), (1, 200)])
def test_settings_of_a_baseline_with_other_classes_are_carried_over(
    name: str, classes: tuple[int, int]
) -> None:
    """Sizes of the classification branch follow from the number of classes; every other layer is as it was."""
    source = zoo.build_model(zoo.resolve_model(name).baseline or name, classes[0])
    source.get_submodule("model.0.bn").eps = 0.02  # type: ignore[assignment]
    model = zoo.build_model(name, classes[1])
    layers = layer_settings.from_network(source.get_submodule("model"))
    moved = transfer_weights(source.state_dict(), model, layers=layers, new_classes=True)
    assert "model.0.conv.weight" in moved.matched and model.get_submodule("model.0.bn").eps == 0.02
    assert moved.unmatched and all(".cv3." in n or ".one2one_cv3." in n for n in moved.unmatched)
