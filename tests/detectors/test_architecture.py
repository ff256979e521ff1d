import copy
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from robustbench_sgdm.detectors import architecture, zoo
from robustbench_sgdm.errors import UsageError
from robustbench_sgdm.modules import SGDM


@pytest.fixture
def config() -> architecture.Config:
    return zoo.config("yolov5n", 2)


def test_register_lets_ultralytics_parse_ours_and_refuses_to_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture.register()
    assert architecture.tasks.SGDM is SGDM
    monkeypatch.setattr(architecture.tasks, "SGDM", nn.Identity)
    with pytest.raises(RuntimeError, match="another SGDM"):
        architecture.register()
    assert getattr(architecture.tasks, "SGDM") is nn.Identity  # noqa: B009 (mypy recalls the first assertion)


@pytest.mark.parametrize("missing", ["nc", "backbone", "head"])
def test_a_config_without_its_parts_is_refused(config: architecture.Config, missing: str) -> None:
    del config[missing]
    with pytest.raises(UsageError, match="no model config"):
        architecture.check(config)


@pytest.mark.parametrize("classes", [0, -1, "80", 2.0, 10**9])
def test_class_counts_are_bounded(config: architecture.Config, classes: Any) -> None:
    with pytest.raises(UsageError, match="nc is"):
        architecture.check({**config, "nc": classes})


def test_activation_is_a_layer_and_not_evaluated(config: architecture.Config, tmp_path: Path) -> None:
    written = tmp_path / "run"
    for text in (f"open({str(written)!r}, 'w')", f"nn.SiLU(open({str(written)!r}, 'w'))", "print"):
        for use in (architecture.check, architecture.skeleton):
            with pytest.raises(UsageError, match="not a layer"):
                use({**config, "activation": text})
    assert not written.exists()
    for text in ("nn.SiLU()", "torch.nn.ReLU(inplace=True)", "nn.LeakyReLU(0.1)"):
        architecture.check({**config, "activation": text})


@pytest.mark.parametrize(
    "kind",
    ["LOGGER", "torch_safe_load", "DetectionModel", "YOLOEModel", "TorchVision", "nn.Parameter", "nope"],
)
def test_only_layers_can_be_named(config: architecture.Config, kind: str) -> None:
    config["backbone"][3][2] = kind
    with pytest.raises(UsageError, match=kind):
        architecture.skeleton(config)


@pytest.mark.parametrize("kind", ["Conv", "nn.Upsample", "torchvision.ops.SqueezeExcitation", "SGDM"])
def test_layers_of_the_libraries_and_ours_are_allowed(config: architecture.Config, kind: str) -> None:
    config["backbone"][3][2] = kind
    architecture.check(config)


def test_what_the_parser_chokes_on_is_one_line(config: architecture.Config) -> None:
    config["backbone"][1] = [-7, 1, "Conv", ["wide", 3, 2]]
    with pytest.raises(UsageError, match="cannot build") as caught:
        architecture.skeleton(config)
    assert "\n" not in str(caught.value)


def test_build_names_its_classes_and_leaves_the_config(config: architecture.Config) -> None:
    before = copy.deepcopy(config)
    model = architecture.build(config, ["cat", "dog"])
    assert model.names == {0: "cat", 1: "dog"}
    assert config == before
    with pytest.raises(UsageError, match="3 class names for a model of 2"):
        architecture.build(config, ["a", "b", "c"])
