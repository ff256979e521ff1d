import copy
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors.ultralytics import architecture, zoo
from robustbench_sgdm.modules import SGDM


@pytest.fixture
def config() -> architecture.ModelConfig:
    return zoo.model_config("yolov5n", 2)


def test_register_lets_ultralytics_parse_ours_and_refuses_to_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture.register_modules()
    assert architecture.tasks.SGDM is SGDM
    monkeypatch.setattr(architecture.tasks, "SGDM", nn.Identity)
    with pytest.raises(RuntimeError, match="another SGDM"):
        architecture.register_modules()
    assert getattr(architecture.tasks, "SGDM") is nn.Identity  # noqa: B009 (mypy recalls the first assertion)


@pytest.mark.parametrize("missing", ["nc", "backbone", "head"])
def test_a_config_without_its_parts_is_refused(config: architecture.ModelConfig, missing: str) -> None:
    del config[missing]
    with pytest.raises(UsageError, match="no model config"):
        architecture.check_config(config)


@pytest.mark.parametrize("classes", [0, -1, "80", 2.0, 10**9])
def test_class_counts_are_bounded(config: architecture.ModelConfig, classes: Any) -> None:
    with pytest.raises(UsageError, match="nc is"):
        architecture.check_config({**config, "nc": classes})


def test_activation_is_a_layer_and_not_evaluated(config: architecture.ModelConfig, tmp_path: Path) -> None:
    written = tmp_path / "run"
    for text in (f"open({str(written)!r}, 'w')", f"nn.SiLU(open({str(written)!r}, 'w'))", "print"):
        for use in (architecture.check_config, architecture.build_meta):
            with pytest.raises(UsageError, match="not a layer"):
                use({**config, "activation": text})
    assert not written.exists()
    for text in ("nn.SiLU()", "torch.nn.ReLU(inplace=True)", "nn.LeakyReLU(0.1)"):
        architecture.check_config({**config, "activation": text})


@pytest.mark.parametrize(
    "kind",
    ["LOGGER", "torch_safe_load", "DetectionModel", "YOLOEModel", "TorchVision", "nn.Parameter", "nope"],
)
def test_only_layers_can_be_named(config: architecture.ModelConfig, kind: str) -> None:
    config["backbone"][3][2] = kind
    with pytest.raises(UsageError, match=kind):
        architecture.build_meta(config)


@pytest.mark.parametrize("kind", ["Conv", "nn.Upsample", "torchvision.ops.SqueezeExcitation", "SGDM"])
def test_layers_of_the_libraries_and_ours_are_allowed(config: architecture.ModelConfig, kind: str) -> None:
    config["backbone"][3][2] = kind
    architecture.check_config(config)


def test_what_the_parser_chokes_on_is_one_line(config: architecture.ModelConfig) -> None:
    config["backbone"][1] = [-7, 1, "Conv", ["wide", 3, 2]]
    with pytest.raises(UsageError, match="cannot build") as caught:
        architecture.build_meta(config)
    assert "\n" not in str(caught.value)


def test_build_names_its_classes_and_leaves_the_config(config: architecture.ModelConfig) -> None:
    before = copy.deepcopy(config)
    model = architecture.build_network(config, ["cat", "dog"])
    assert model.names == {0: "cat", 1: "dog"}
    assert config == before
    with pytest.raises(UsageError, match="3 class names for a model of 2"):
        architecture.build_network(config, ["a", "b", "c"])


@pytest.mark.parametrize(
    "text",
    [
        "nn.SiLU(x for x in y)",
        "nn.SiLU(tasks.LOGGER)",
        "nn.Linear(9, 9)",
        "nn.Module()",
        "nn.SiLU",
        "nn.PReLU(10000000000)",
        "nn.MultiheadAttention(4, 4)",
        "nn.SiLU() if 1 else nn.SiLU()",
        "nn.SiLU(True if tasks else False)",
        "(" * 300,
        ["nn.SiLU()"],
    ],
)
def test_an_activation_is_a_plain_call(config: architecture.ModelConfig, text: Any) -> None:
    with pytest.raises(UsageError, match="not a layer such as"):
        architecture.check_config({**config, "activation": text})


@pytest.mark.parametrize(
    "argument", ["args", "layers", "ast", "__import__('os')", "-" * 5000 + "1", [[[[[1]]]]], 10**9, {}]
)
def test_arguments_are_small_numbers_and_words(config: architecture.ModelConfig, argument: Any) -> None:
    """Ultralytics' parser takes a word that is called like one of its variables for that variable."""
    config["backbone"][1][3][1] = argument
    with pytest.raises(UsageError, match="which no layer is built from"):
        architecture.check_config(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["backbone"][1].__setitem__(1, 10**9), "repeats Conv"),
        (lambda c: c.update(depth_multiple=1e9, scales=None), "depth_multiple"),
        (lambda c: c.update(scales={"n": [1e9, 1, 64]}), "scales"),
        (lambda c: c.update(backbone=c["backbone"][:1] * 2000), r"2\d\d\d layers"),
        (lambda c: c["backbone"][3].__setitem__(slice(1, 4), [1, "RepNCSPELAN4", [64] * 3 + [99_999]]), "10,000"),
        (lambda c: c["backbone"][3].__setitem__(slice(1, 4), [1, "nn.Linear", [99_999, 99_999]]), "parameters"),
        (lambda c: c["backbone"].insert(1, [-1, 1, "nn.Upsample", [None, 4096, "nearest"]]), "computes"),
    ],
)  # fmt: skip
def test_what_is_larger_than_any_detector_is_not_built(
    config: architecture.ModelConfig, change: Any, message: str
) -> None:
    change(config)
    with pytest.raises(UsageError, match=message):
        architecture.check_network_size(config)


def test_every_detector_is_within_the_bounds() -> None:
    for name in (
        "yolov5on",
        "yolov8s-sgdm",
        "yolov8-fasternet_t0-sgdm",
        "rtdetr-l",
        "yolov9e",
        "yolov8x-p6",
        "yolo12x",
        "yolo11x",
    ):
        architecture.check_network_size(zoo.model_config(name, 80))


@pytest.mark.parametrize("rows", [[[-1, 1, "Conv", [8, 3]]], [[-1, 1, "Conv", ["Conv"]]]])
def test_a_config_decides_its_own_activation_alone(rows: list[Any]) -> None:
    """Ultralytics' parser sets it for the whole process, and leaves it so where it fails."""
    config = {
        "nc": 2,
        "activation": "nn.ReLU()",
        "backbone": rows,
        "head": [[[0, 0, 0], 1, "Detect", ["nc"]]],
    }
    try:
        built: Any = architecture.build_meta(config)
        assert isinstance(built[0].act, nn.ReLU)
    except UsageError:
        assert rows[0][3] == ["Conv"]
    else:
        assert rows[0][3] == [8, 3]
    later: Any = zoo.build_model("yolov8n", 2)
    assert isinstance(later.model[0].act, nn.SiLU)
