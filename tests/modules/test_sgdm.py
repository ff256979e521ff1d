"""SGDM against the paper's equations and numbers, and as a detector meets it: graft, fuse, export, fold."""

from __future__ import annotations

import io
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robustbench_sgdm.modules import SGDM, RDConv, SGDMOptions, build_module, sgdm_cost
from robustbench_sgdm.modules.sgdm import strip_to_square

Array = NDArray[np.float64]
# razor: (parameters / 1e6, MACs / 1e9) to four digits, then as printed; 512 channels, 40 x 40, batch 2,
# split = razor / 2
TABLE_6 = {
    0.75: (("0.7821", "2.2240"), ("0.78", "2.22")),
    0.5: (("0.3562", "0.9811"), ("0.36", "0.98")),
    0.25: (("0.0978", "0.2485"), ("0.10", "0.25")),
    0.125: (("0.0296", "0.0674"), ("0.03", "0.07")),
    0.0625: (("0.0104", "0.0221"), ("0.01", "0.02")),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(channels: int, seed: int = 0, **options: Any) -> SGDM:
    """An SGDM in evaluation mode whose every weight and statistic is away from its initial value."""
    module = SGDM(channels, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
        assert module.bn.running_mean is not None and module.bn.running_var is not None
        module.bn.running_mean.normal_(generator=generator)
        module.bn.running_var.uniform_(0.5, 2, generator=generator)
    return module.eval()


def parameters(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


# --- the paper's numbers


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 96).map(lambda half: 2 * half))
def test_parameter_formula(n: int) -> None:
    expected = 28.5 * n**2 + 286.5 * n + 4
    assert parameters(SGDM(4 * n)) == expected
    assert sgdm_cost((1, 4 * n, 1, 1), rule="full").params == expected


def test_three_heads_of_yolov8n_add_what_the_abstract_says() -> None:
    counts = [parameters(SGDM(channels)) for channels in (64, 128, 256)]
    assert counts == [11_884, 38_356, 135_076]
    assert f"{sum(counts) / 1e6:.2f}" == "0.19"


@pytest.mark.parametrize("razor", TABLE_6)
def test_cost_rounds_to_table_6(razor: float) -> None:
    params, macs = sgdm_cost((2, 512, 40, 40), SGDMOptions(razor / 2, razor))
    for digits, expected in zip((4, 2), TABLE_6[razor], strict=True):
        assert (f"{params / 1e6:.{digits}f}", f"{macs / 1e9:.{digits}f}") == expected


def test_with_the_split_fixed_only_the_papers_own_razor_fits_table_6() -> None:
    found = {razor: sgdm_cost((2, 512, 40, 40), SGDMOptions(0.25, razor)) for razor in TABLE_6}
    fits = [r for r, (p, m) in found.items() if (f"{p / 1e6:.2f}", f"{m / 1e9:.2f}") == TABLE_6[r][1]]
    assert fits == [0.5]


SIZES: list[dict[str, Any]] = [
    {"split": 0.25, "razor": 0.5},
    {"split": 0.125, "razor": 0.25},
    {"split": 0.3, "razor": 0.75, "strip": 7, "kernels": 2, "static": 25, "hidden": 5},
    {"split": 1 / 3, "razor": 1.0, "spatial": "channel"},
    {"split": 0.2, "razor": 0.4, "cheap": "pointwise"},
]
# thop 0.1.1's profile() of SGDM(64, **options) on (2, 64, 9, 14): parameters, MACs. Entered as data, because the
# fork of thop that Ultralytics installs under the same import name counts by another rule.
THOP = [(9580, 1376128), (3610, 422328), (25326, 4864804), (128106, 4915680), (6236, 812760)]


@pytest.mark.parametrize(("options", "counted"), list(zip(SIZES, THOP, strict=True)))
def test_cost_agrees_with_thop_on_a_built_module(options: dict[str, Any], counted: tuple[int, int]) -> None:
    assert sgdm_cost((2, 64, 9, 14), SGDMOptions(**options)) == counted


@pytest.mark.parametrize("options", SIZES)
def test_full_cost_agrees_with_what_is_really_computed(options: dict[str, Any]) -> None:
    module, x = SGDM(64, **options), normal(2, 64, 9, 14)
    counted = sgdm_cost((2, 64, 9, 14), SGDMOptions(**options), rule="full")
    assert counted.params == parameters(module)
    module.fold_()  # makes the guide free
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    assert counted.macs - 4 * x.numel() == counter.get_total_flops() // 2  # torch counts no BatchNorm


# --- the equations, literally


def literal_conv(x: Array, weight: Array) -> Array:
    """Cross-correlation of x (C, H, W) with weight (O, C, p, q), padded with zeros to keep the size."""
    (_, height, width), (out, _, p, q) = x.shape, weight.shape
    result = np.zeros((out, height, width))
    for o, i, j, c, u, v in itertools.product(*map(range, (out, height, width, x.shape[0], p, q))):
        row, column = i + u - p // 2, j + v - q // 2
        if 0 <= row < height and 0 <= column < width:
            result[o, i, j] += weight[o, c, u, v] * x[c, row, column]
    return result


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def literal_rdconv(x: Array, w: dict[str, Array], n: int, m: int) -> Array:
    """Equations (5) to (7) and (10) for one sample x (n, H, W)."""
    pooled = x.mean((1, 2))
    hidden = np.maximum(w["rd.fc1.weight"] @ pooled, 0)
    alpha = sigmoid(w["rd.fc2.weight"] @ hidden + w["rd.fc2.bias"])
    z_h = literal_conv(x.mean(1)[:, None, :], w["rd.strip_h.weight"])
    z_w = literal_conv(x.mean(2)[:, :, None], w["rd.strip_w.weight"])
    mean_h, mean_w = ((z * sigmoid(z)).mean((1, 2)) for z in (z_h, z_w))
    spatial = (2 * sigmoid(mean_h + mean_w)).reshape(3, 3)
    bank = w["rd.bank"].reshape(-1, m, m, 3, 3)
    kernel, q = np.zeros((m, m, 3, 3)), n // m
    for a, b, u, v in itertools.product(range(m), range(m), range(3), range(3)):
        mixed = sum(alpha[k] * bank[k, a, b, u, v] for k in range(len(alpha)))
        guide = 0.0
        for o, i in itertools.product(range(a * q, a * q + q), range(b * q, b * q + q)):
            guide += w["conv_h.weight"][o, i, 3 * u + v, 0] + w["conv_w.weight"][o, i, 0, 3 * u + v]
        kernel[a, b, u, v] = mixed * spatial[u, v] * guide / q**2 * q
    y = literal_conv(x, w["rd.razor.weight"])
    per_channel = (n - m) // m
    cheap = [literal_conv(y[[j // per_channel]], w["rd.cheap.weight"][[j]])[0] for j in range(n - m)]
    return np.stack([*literal_conv(y, kernel), *cheap])


def literal_sgdm(x: Array, w: dict[str, Array], n: int, m: int) -> Array:
    """Equations (8) and (9), evaluation-mode BatchNorm and the residual for one sample x (c, H, W)."""
    dynamic = literal_rdconv(x[:n], w, n, m)
    static_h = literal_conv(x[n : 2 * n], w["conv_h.weight"])
    static_w = literal_conv(x[2 * n : 3 * n], w["conv_w.weight"])
    joined = np.concatenate([dynamic, static_h, static_w, x[3 * n :]])
    deviation = np.sqrt(w["bn.running_var"] + 1e-5)
    scale, mean = w["bn.weight"] / deviation, w["bn.running_mean"]
    normed: Array = (joined - mean[:, None, None]) * scale[:, None, None] + w["bn.bias"][:, None, None]
    return x + normed


@pytest.mark.parametrize(
    ("split", "razor", "n", "m"), [(0.25, 0.5, 4, 2), (0.25, 0.25, 4, 1), (0.13, 0.5, 2, 1)]
)
def test_equations_5_to_10(split: float, razor: float, n: int, m: int) -> None:
    module, x = trained(16, split=split, razor=razor), normal(2, 16, 4, 5)
    weights = {key: value.double().numpy() for key, value in module.state_dict().items()}
    expected = np.stack([literal_sgdm(one, weights, n, m) for one in x.double().numpy()])
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=2e-5)


def test_psi_is_row_major() -> None:
    strip = torch.arange(9.0)
    square = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert (
        strip_to_square(strip.view(1, 1, 9, 1))[0, 0].tolist()
        == strip_to_square(strip.view(1, 1, 1, 9))[0, 0].tolist()
        == square
    )


def test_gradients_reach_both_static_kernels_through_the_guide() -> None:
    module, x = trained(16), normal(2, 16, 6, 6)

    def dynamic_energy() -> Tensor:  # the first m = 2 channels, which no static branch writes to
        output: Tensor = module(x)[:, :2]
        return output.square().mean()

    torch.autograd.backward(dynamic_energy())
    for weight in (module.conv_h.weight, module.conv_w.weight):
        assert weight.grad is not None
        step = 1e-2 * weight.grad / weight.grad.norm()
        with torch.no_grad():
            weight.add_(step)
            above = dynamic_energy()
            weight.sub_(2 * step)
            slope = (above - dynamic_energy()) / (2 * step.norm())
            weight.add_(step)
        assert slope.item() == pytest.approx(weight.grad.norm().item(), rel=1e-2)
        assert slope > 1e-4


def test_every_parameter_learns_from_the_start() -> None:
    module = SGDM(16)
    (module(normal(4, 16, 9, 9)) * normal(4, 16, 9, 9, seed=1)).sum().backward()
    assert not [
        name for name, value in module.named_parameters() if value.grad is None or not value.grad.any()
    ]


def test_branches_start_at_one_scale() -> None:
    module, x = SGDM(256), normal(2, 64, 16, 16)
    dynamic, cheap = module.rd.branches(x, module.guide())
    scales = [part.std().item() for part in (dynamic, cheap, module.conv_h(x), module.conv_w(x))]
    assert max(scales) < 3 * min(scales)


# --- inside a detector


@pytest.mark.parametrize("training", [False, True])
def test_gamma_zero_is_exactly_the_identity(training: bool) -> None:
    module, x = SGDM(64, gamma=0).train(training), 10 * normal(2, 64, 7, 13)
    for _ in range(2):
        assert torch.equal(module(x), x)
    module(x).sum().backward()
    assert module.bn.weight.grad is not None and module.bn.weight.grad.any()


@pytest.mark.parametrize("shape", [(1, 20, 7, 13), (2, 20, 1, 1), (3, 20, 1, 17), (1, 20, 40, 2)])
@pytest.mark.parametrize("split", [0.25, 0.15, 1 / 3])
def test_odd_sizes_keep_their_shape_and_both_forms_agree(shape: tuple[int, ...], split: float) -> None:
    module, x = trained(20, split=split), normal(*shape)
    eager = module(x)
    assert eager.shape == x.shape
    assert eager.isfinite().all()
    module.rd.export = True
    torch.testing.assert_close(module(x), eager, atol=1e-5, rtol=1e-5)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    module, x = trained(32), normal(4, 32, 7, 9)
    alone = torch.cat([module(one[None]) for one in x])
    torch.testing.assert_close(module(x), alone, atol=1e-5, rtol=1e-5)
    assert (module.attention(x).kernel[0] != module.attention(x).kernel[1]).any()


def test_input_is_untouched() -> None:
    x = normal(2, 16, 5, 5)
    for module in (SGDM(16), trained(16), trained(16).fold_()):
        module(x)
        assert torch.equal(x, normal(2, 16, 5, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("folded", [False, True])
def test_half_precision_is_finite_and_near(dtype: torch.dtype, folded: bool) -> None:
    module, x = trained(32), normal(2, 32, 7, 9)
    expected = module(x)
    half = (module.fold_() if folded else module).to(dtype)
    for half.rd.export in (False, True):
        result = half(x.to(dtype))
        assert result.dtype == dtype
        assert (result.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_autocast_is_finite_and_near_and_trains() -> None:
    module, x = trained(32), normal(2, 32, 7, 9)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        near = module(x)
        result = module.train()(x)
    result.float().square().sum().backward()
    assert (near.float() - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in module.parameters())


@pytest.mark.parametrize("options", [{}, *SIZES])
def test_folded_module_computes_the_same(options: dict[str, Any]) -> None:
    module, x = trained(40, **options), normal(3, 40, 7, 13)
    expected = module(x)
    assert module.train().fold_() is module
    assert not module.training
    for module.rd.export in (False, True):
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)
    assert module.fold_()(x).allclose(expected, atol=1e-5)  # the second time does nothing
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def test_folding_respects_the_batchnorm_epsilon_of_the_detector() -> None:
    module, x = trained(16), normal(2, 16, 5, 5)
    module.bn.eps = 0.5
    expected = module(x)
    torch.testing.assert_close(module.fold_()(x), expected, atol=1e-5, rtol=1e-5)


def test_folded_module_refuses_to_train() -> None:
    detector = nn.Sequential(trained(16).fold_())
    detector.eval()
    with pytest.raises(RuntimeError, match="folded SGDM cannot be trained"):
        detector.train()


def test_ultralytics_fuse_leaves_it_untouched() -> None:
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    conv = pytest.importorskip("ultralytics.nn.modules").Conv
    detector = tasks.BaseModel()
    detector.model = nn.Sequential(conv(3, 16), trained(16)).eval()
    detector.info = lambda **_: None
    before, x = dict(detector.model[1].state_dict()), normal(2, 3, 9, 9)
    expected = detector.model(x)
    detector.fuse()
    assert not hasattr(detector.model[0], "bn")
    after = detector.model[1].state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    torch.testing.assert_close(detector.model(x), expected, atol=1e-5, rtol=1e-5)


def test_state_dict_round_trip() -> None:
    module, copy, x = trained(24, razor=0.75), SGDM(24, razor=0.75).eval(), normal(2, 24, 5, 6)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    copy.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(copy(x), module(x))


# --- export; each graph is made at batch 1 and 8 x 8, and run elsewhere

EXPORTED_SHAPES = [(1, 16, 8, 8), (3, 16, 7, 13), (2, 16, 1, 5)]
FORMS = pytest.mark.parametrize(
    ("options", "folded"),
    [({}, False), ({}, True), ({"split": 0.2, "razor": 0.7}, False), ({"split": 1 / 3}, True)],
)


@FORMS
@pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning"
)
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning:torch")
def test_onnx_is_dynamic_in_batch_height_and_width(options: dict[str, Any], folded: bool) -> None:
    runtime = pytest.importorskip("onnxruntime")
    buffer: Any = io.BytesIO()
    module = trained(16, **options)
    expected = [module(normal(*shape)) for shape in EXPORTED_SHAPES]
    axes = {name: {0: "batch", 2: "height", 3: "width"} for name in ("x", "y")}
    model = module.fold_() if folded else module
    sample = (normal(1, 16, 8, 8),)
    torch.onnx.export(
        model, sample, buffer, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
    )
    threads = runtime.SessionOptions()
    threads.intra_op_num_threads = 1
    session = runtime.InferenceSession(buffer.getvalue(), threads, providers=["CPUExecutionProvider"])
    for shape, result in zip(EXPORTED_SHAPES, expected, strict=True):
        (output,) = session.run(None, {"x": normal(*shape).numpy()})
        np.testing.assert_allclose(output, result.detach().numpy(), atol=1e-5, rtol=1e-5)


@FORMS
@pytest.mark.filterwarnings(
    "ignore:`torch.jit.trace:FutureWarning", "ignore:`torch.jit.trace:DeprecationWarning"
)
def test_torchscript_is_dynamic_in_batch_height_and_width(options: dict[str, Any], folded: bool) -> None:
    module = trained(16, **options)
    expected = [module(normal(*shape)) for shape in EXPORTED_SHAPES]
    traced: Any = torch.jit.trace(module.fold_() if folded else module, normal(1, 16, 8, 8))  # type: ignore[no-untyped-call]
    for shape, result in zip(EXPORTED_SHAPES, expected, strict=True):
        torch.testing.assert_close(traced(normal(*shape)), result, atol=1e-5, rtol=1e-5)


# --- its options


def test_build_passes_options_and_yaml_order_is_stable() -> None:
    module = build_module("sgdm", 64, split=0.2, razor=0.25, strip=7, kernels=2, gamma=0)
    positional = SGDM(64, 0.2, 0.25, 7, 2, 9)
    assert parameters(module) == parameters(positional)
    assert isinstance(module, SGDM) and isinstance(module.rd, RDConv)
    assert module.rd.strip_h.kernel_size == (1, 7)
    assert not module.bn.weight.any()


@pytest.mark.parametrize(
    ("name", "channels", "options", "message"),
    [
        ("sgmd", 64, {}, "unknown module 'sgmd'; did you mean sgdm"),
        ("zzz", 64, {}, "unknown module 'zzz'.* Known: sgdm, rdconv"),
        ("sgdm", 64, {"razr": 0.5}, "unknown option of sgdm 'razr'; did you mean razor"),
        ("sgdm", 64, {"split": 0.4}, r"split is 0.4: .* \(0, 1/3\]"),
        ("sgdm", 64, {"split": 0}, r"split is 0: .* \(0, 1/3\]"),
        ("sgdm", 3, {}, "channels is 3: split 0.25 .* take at least 4 channels"),
        ("sgdm", 4, {}, "razor 0.5 .* width 1 .* take razor >= 1 or a width of at least 2"),
        ("sgdm", 64, {"razor": 0}, r"razor is 0: .* \(0, 1\]"),
        ("sgdm", 64, {"static": 7}, "static is 7: .* take 9, 25 or 49"),
        ("sgdm", 64, {"static": 4}, "static is 4: .* odd side"),
        ("sgdm", 64, {"strip": 8}, "strip is 8: .* take 9"),
    ],
)
def test_bad_names_and_options(name: str, channels: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_module(name, channels, **options)


@pytest.mark.parametrize("split", [0.15, 0.2, 0.25, 0.3, 1 / 3])
@pytest.mark.parametrize("channels", [16, 63, 100])
def test_split_never_takes_more_than_it_has(split: float, channels: int) -> None:
    sections = SGDM(channels, split).sections
    assert sum(sections) == channels
    assert sections[0] == sections[1] == sections[2] == math.floor(split * channels + 1e-9)
