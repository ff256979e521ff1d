"""What every module of the registry promises, so that any of them can sit in any detector."""

from __future__ import annotations

import copy
import inspect
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from ultralytics.cfg import get_cfg

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors.ultralytics import weights, zoo
from robustbench_sgdm.modules import MODULES, build_module
from robustbench_sgdm.modules.dynamic import DynamicConv, TemperatureMixin
from robustbench_sgdm.modules.sgdm import StaticGuided

WIDTH = 32
SHAPES = [(2, WIDTH, 7, 9), (1, WIDTH, 1, 1), (3, WIDTH, 1, 17)]
every_module = pytest.mark.parametrize("name", MODULES)
every_sgdm = pytest.mark.parametrize(
    "name", [name for name, spec in MODULES.items() if issubclass(spec.cls, StaticGuided)]
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(name: str, seed: int = 0, **options: Any) -> nn.Module:
    """A module in evaluation mode whose every weight and statistic is away from its initial value.

    It begins alike each time: DyConv has two hidden units here, and in one start of thirty both are silent.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = build_module(name, WIDTH, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                assert part.running_mean is not None and part.running_var is not None
                part.running_mean.normal_(generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
            if isinstance(part, TemperatureMixin):
                part.temperature.fill_(1.5)
    return module.eval()


def dynamic_parts(module: nn.Module) -> list[DynamicConv]:
    return [part for part in module.modules() if isinstance(part, DynamicConv)]


@every_module
def test_registered_under_its_name_and_documented(name: str) -> None:
    spec = MODULES[name]
    assert spec.name == name and "-" not in name  # which separates it from the detector
    assert spec.source and spec.summary and "H, W) -> (B, " in (spec.cls.__doc__ or "")
    first, *options = inspect.signature(spec.cls).parameters.values()
    assert first.name == "channels"
    assert all(option.default is not option.empty for option in options)
    assert type(build_module(name, WIDTH)) is spec.cls


@every_module
@pytest.mark.parametrize("shape", SHAPES)
def test_keeps_shape_and_type_and_leaves_its_input_alone(name: str, shape: tuple[int, ...]) -> None:
    module, x = trained(name), normal(*shape)
    output = module(x)
    assert (output.shape, output.dtype) == (x.shape, x.dtype)
    assert output.isfinite().all()
    assert torch.equal(x, normal(*shape))
    torch.testing.assert_close(
        module(x.contiguous(memory_format=torch.channels_last)), output, atol=1e-5, rtol=1e-5
    )


@every_module
@pytest.mark.parametrize("channels", [16, 50, 64])
def test_fits_other_widths(name: str, channels: int) -> None:
    x = normal(2, channels, 5, 6)
    assert build_module(name, channels)(x).shape == x.shape


@every_module
def test_a_sample_does_not_depend_on_its_neighbours(name: str) -> None:
    module, x = trained(name), normal(4, WIDTH, 7, 9)
    alone = torch.cat([module(one[None]) for one in x])
    torch.testing.assert_close(module(x), alone, atol=1e-5, rtol=1e-5)


@every_module
def test_gradients_reach_every_parameter(name: str) -> None:
    module, x = trained(name), normal(4, WIDTH, 7, 9)
    module(x).square().mean().backward()
    missed = [key for key, value in module.named_parameters() if value.grad is None or not value.grad.any()]
    assert not missed


@every_module
def test_trains_under_autocast(name: str) -> None:
    module, x = trained(name), normal(2, WIDTH, 7, 9)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        near = module(x)
        trained_on = module.train()(x)
    trained_on.float().square().mean().backward()
    assert (near.float() - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in module.parameters())


@every_module
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_and_near(name: str, dtype: torch.dtype) -> None:
    module, x = trained(name), normal(2, WIDTH, 7, 9)
    expected, result = module(x), module.to(dtype)(x.to(dtype))
    assert result.dtype == dtype
    assert (result.float() - expected).abs().max() < 0.05 * expected.abs().max()


@every_module
def test_survives_state_dict_and_pickle(name: str) -> None:
    module, x, buffer = trained(name), normal(2, WIDTH, 5, 6), io.BytesIO()
    expected = module(x)
    torch.save({"state": module.state_dict(), "module": module}, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    fresh = build_module(name, WIDTH).eval()
    fresh.load_state_dict(loaded["state"])
    for other in (fresh, loaded["module"], copy.deepcopy(module)):
        assert torch.equal(other(x), expected)


@every_module
def test_both_forms_of_a_dynamic_convolution_agree(name: str) -> None:
    module, x = trained(name), normal(3, WIDTH, 7, 9)
    expected = module(x)
    for part in dynamic_parts(module):
        part.export = True
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)


@every_sgdm
@pytest.mark.parametrize("options", [{}, {"split": 0.2}, {"split": 1 / 3, "static": 25}])
def test_folded_it_computes_the_same(name: str, options: dict[str, Any]) -> None:
    module, x = trained(name, **options), normal(3, WIDTH, 7, 9)
    assert isinstance(module, StaticGuided)
    expected = module(x)
    assert (expected - x).abs().max() > 0.1
    torch.testing.assert_close(module.fold_()(x), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(RuntimeError, match="cannot be trained"):
        module.train()


@every_sgdm
@pytest.mark.parametrize("folded", [False, True])
def test_the_memory_format_goes_through(name: str, folded: bool) -> None:
    """One branch in another format would have the whole map turned twice, and the detector's head after it."""
    module, x = trained(name), normal(3, WIDTH, 7, 9).contiguous(memory_format=torch.channels_last)
    assert isinstance(module, StaticGuided)
    with torch.inference_mode():
        output = (module.fold_() if folded else module)(x)
    assert output.is_contiguous(memory_format=torch.channels_last)


@every_sgdm
def test_branches_of_sgdm_start_at_one_scale(name: str) -> None:
    module, x = build_module(name, 256), normal(2, 64, 16, 16)
    assert isinstance(module, StaticGuided)
    parts = [*module.rd.branches(x, module.guide()), module.conv_h(x), module.conv_w(x)]
    scales = [part.std().item() for part in parts]
    assert max(scales) < 3 * min(scales)


@every_sgdm
@pytest.mark.parametrize("training", [False, True])
def test_gamma_zero_is_exactly_the_identity(name: str, training: bool) -> None:
    module, x = build_module(name, WIDTH, gamma=0).train(training), 10 * normal(2, WIDTH, 7, 9)
    for _ in range(2):
        assert torch.equal(module(x), x)


@every_module
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning:torch")
def test_onnx_is_dynamic_in_batch_height_and_width(name: str) -> None:
    module = trained(name)
    buffer: Any = io.BytesIO()
    axes = {key: {0: "batch", 2: "height", 3: "width"} for key in ("x", "y")}
    torch.onnx.export(
        module, (normal(1, WIDTH, 8, 8),), buffer, dynamo=False, input_names=["x"], output_names=["y"],
        dynamic_axes=axes,
    )  # fmt: skip
    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(buffer.getvalue(), threads, providers=["CPUExecutionProvider"])
    for shape in SHAPES:
        (output,) = session.run(None, {"x": normal(*shape).numpy()})
        np.testing.assert_allclose(output, module(normal(*shape)).detach().numpy(), atol=1e-4, rtol=1e-4)


def _train(model: Any, images: Tensor) -> None:
    """Two steps by Ultralytics' own loss; they also move the running statistics, which folding has to get right."""
    model.args = get_cfg()  # as Ultralytics' trainer does
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.2, 0.5]])
    batch = {"img": images, "cls": torch.tensor([[0.0], [2.0]]), "bboxes": boxes}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        loss, _ = model.train().loss({**batch, "batch_idx": torch.arange(2.0)})
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    model.criterion = None


@every_module
def test_in_a_detector_it_trains_fuses_and_comes_back_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    model: Any = zoo.build_model(f"yolov8n-{name}", 3)
    images = normal(2, 3, 64, 64).sigmoid()
    inserted = [layer for layer in model.model if type(layer) is MODULES[name].cls]
    assert len(inserted) == 3
    before = copy.deepcopy([layer.state_dict() for layer in inserted])
    _train(model, images)
    for layer, start in zip(inserted, before, strict=True):
        assert any(not torch.equal(value, start[key]) for key, value in layer.named_parameters())
        assert all(value.isfinite().all() for value in layer.parameters())
    with torch.no_grad():
        expected = model.eval()(images)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"model": copy.deepcopy(model), "ema": None}, tmp_path / "best.pt")
    back = weights.copy_network(weights.read_weights(tmp_path / "best.pt"))
    with torch.inference_mode():
        assert torch.equal(back.eval()(images)[0], expected)
        fused = model.fuse(verbose=False)(images)[0]
    torch.testing.assert_close(fused, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolov8n-sgdm+odcnv", r"did you mean .*yolov8n-sgdm\+odconv"),
        ("yolov8n-cbam_u", "did you mean .*yolov8n-cbam"),
        ("yolov8n-sgdm+odconv[razor=0.5]", r"unknown option of sgdm\+odconv 'razor'.*Known: split, kernels"),
        ("yolov8n-sgdm+dcd[kernels=4]", r"unknown option of sgdm\+dcd 'kernels'"),
        ("yolov8n-sgdm+dyconv[split=0.4]", r"sgdm\+dyconv: split is 0.4: .* \(0, 1/3\]"),
        ("yolov8n-sgdm+condconv[kernels=0]", "kernels is 0: it must be at least 1"),
        ("yolov8n-sgdm+dcd[static=16]", "static is 16: .* take 9, 25 or 49"),
        ("yolov8n-cbam[kernel_size=4]", "kernel_size is 4: it must be odd and positive; take 5"),
        ("yolov8n-cbam[ratio=0]", "ratio is 0: it must be at least 1"),
        ("yolov8n-cbam_ultralytics[ratio=8]", "unknown option of cbam_ultralytics 'ratio'"),
        ("yolov8n-ca[reduction=-1]", "reduction is -1: it must be at least 1"),
        ("yolov8n-ca[reduction=many]", "ca: reduction is 'many', must be a whole number"),
        ("yolov8n-rfaconv[kernel_size=2]", "kernel_size is 2: it must be odd and positive; take 3"),
    ],
)
def test_impossible_names_and_options_say_what_would_be_right(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        zoo.model_config(name, 80)
