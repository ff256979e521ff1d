"""The comparison modules, value for value: against loops over their papers' equations, or their own libraries.

Every literal function takes one sample x (C, H, W) and the module's state as arrays, and is in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate2d
from timm.layers.cond_conv2d import CondConv2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from ultralytics.nn.modules import CBAM as LIBRARY_CBAM

from robustbench_sgdm.modules import MODULES, RDConv, build_module, set_temperature
from robustbench_sgdm.modules.condconv import CondConv
from robustbench_sgdm.modules.dcd import DCD
from robustbench_sgdm.modules.dyconv import DyConv
from robustbench_sgdm.modules.odconv import ODConv, PooledNorm

Array = NDArray[np.float64]
State = dict[str, Array]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(module: nn.Module, temperature: float = 1.5) -> nn.Module:
    """Every weight and statistic away from its initial value; in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                assert part.running_mean is not None and part.running_var is not None
                part.running_mean.normal_(generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
    set_temperature(module, epoch=0, start=temperature)
    return module.eval()


def arrays(module: nn.Module) -> State:
    return {key: value.double().numpy() for key, value in module.state_dict().items()}


# --- the pieces


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def softmax(z: Array) -> Array:
    """Over the first axis."""
    shares: Array = np.exp(z) / np.exp(z).sum(0)
    return shares


def h_sigmoid(z: Array) -> Array:
    return np.clip(z + 3, 0, 6) / 6


def conv(x: Array, weight: Array) -> Array:
    """Cross-correlation of x (C, H, W) with weight (O, C, k, k), zero padding to keep the size."""
    maps = [[correlate2d(one, of_one, "same") for one, of_one in zip(x, k, strict=True)] for k in weight]
    summed: Array = np.array(maps).sum(1)
    return summed


def linear(x: Array, w: State, name: str) -> Array:
    """A fully connected layer or 1x1 convolution on x (C,)."""
    weight = w[f"{name}.weight"]
    result: Array = weight.reshape(len(weight), -1) @ x + w.get(f"{name}.bias", np.zeros(len(weight)))
    return result


def norm(x: Array, w: State, name: str) -> Array:
    """BatchNorm of x (C, ...)."""
    mean, var, weight, bias = (
        w[f"{name}.{key}"].reshape(-1, *[1] * (x.ndim - 1))
        for key in ("running_mean", "running_var", "weight", "bias")
    )
    normed: Array = (x - mean) / np.sqrt(var + 1e-5) * weight + bias
    return normed


# --- attention blocks and RFAConv


def literal_cbam(x: Array, w: State) -> Array:
    def mlp(pooled: Array) -> Array:
        return linear(relu(linear(pooled, w, "channel.fc1")), w, "channel.fc2")

    x = x * sigmoid(mlp(x.mean((1, 2))) + mlp(x.max((1, 2))))[:, None, None]
    pooled = np.stack([x.mean(0), x.max(0)])
    return x * sigmoid(norm(conv(pooled, w["spatial.conv.conv.weight"]), w, "spatial.conv.bn"))


def literal_ca(x: Array, w: State) -> Array:
    def inside(z: Array) -> Array:
        z = norm(linear(z, w, "conv1"), w, "bn1")
        return z * h_sigmoid(z)

    result = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            of_row, of_column = inside(x[:, i].mean(1)), inside(x[:, :, j].mean(1))
            gates = sigmoid(linear(of_row, w, "conv_h")) * sigmoid(linear(of_column, w, "conv_w"))
            result[:, i, j] = x[:, i, j] * gates
    return result


def literal_rfaconv(x: Array, w: State) -> Array:
    """Through the map of 3H x 3W and its 3x3 convolution of stride 3, which the module never makes."""
    channels, height, width = x.shape
    unfolded = np.stack([conv(x[[j // 9]], w["unfold.weight"][[j]])[0] for j in range(9 * channels)])
    features = relu(norm(unfolded, w, "bn_unfold")).reshape(channels, 9, height, width)
    large = np.empty((channels, 3 * height, 3 * width))
    for c in range(channels):
        pooled = correlate2d(x[c], np.full((3, 3), 1 / 9), "same")
        weights = softmax(np.stack([w["weigh.weight"][9 * c + t, 0, 0, 0] * pooled for t in range(9)]))
        for t in range(9):
            large[c, t // 3 :: 3, t % 3 :: 3] = weights[t] * features[c, t]
    kernels = w["conv.weight"].reshape(-1, channels, 3, 3)
    result = np.empty_like(x)
    for i in range(height):
        for j in range(width):
            field = large[:, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
            result[:, i, j] = (kernels * field).sum((1, 2, 3)) + w["conv.bias"]
    return relu(norm(result, w, "bn"))


BLOCKS: dict[str, Callable[[Array, State], Array]] = {
    "cbam": literal_cbam,
    "ca": literal_ca,
    "rfaconv": literal_rfaconv,
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (1, 40, 3, 7), (1, 6, 1, 1)])
def test_block_is_its_equations(name: str, shape: tuple[int, ...]) -> None:
    module, x = trained(build_module(name, shape[1])), normal(*shape)
    expected = np.stack([BLOCKS[name](one, arrays(module)) for one in x.double().numpy()])
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_cbam_ultralytics_is_the_librarys(kernel_size: int) -> None:
    ours, x = trained(build_module("cbam_ultralytics", 12, kernel_size=kernel_size)), normal(2, 12, 6, 5)
    library: Any = LIBRARY_CBAM(12, kernel_size)  # type: ignore[no-untyped-call]
    library.load_state_dict(
        dict(zip(library.state_dict(), ours.state_dict().values(), strict=True))  # both: layer, then kernel
    )
    torch.testing.assert_close(ours(x), library(x))


@pytest.mark.parametrize(("channels", "inside"), [(16, 8), (256, 8), (512, 16), (1024, 32)])
def test_ca_narrows_by_hous_rule(channels: int, inside: int) -> None:
    assert build_module("ca", channels).get_parameter("conv1.weight").shape[0] == inside


@pytest.mark.parametrize("channels", [32, 64, 256])
def test_parameters_of_the_blocks(channels: int) -> None:
    c = channels
    closed = {
        "cbam": 2 * c * (c // 16) + 98 + 2,
        "cbam_ultralytics": c * c + c + 98,
        "ca": (3 * c + 1 + 2) * max(8, c // 32) + 2 * c,
        "rfaconv": 9 * c * c + 111 * c,
    }
    for name, expected in closed.items():
        assert sum(value.numel() for value in build_module(name, c).parameters()) == expected


# --- dynamic convolutions; each also inside SGDM, where a guide multiplies its kernels


def mixed(weights: Array, matrix: Array, guide: Array | float) -> Array:
    """Equation (2), and (10) where there is a guide; of kernels 3 x 3, stored as a matrix (K n, n 9)."""
    channels = matrix.shape[1] // 9
    bank = matrix.reshape(-1, channels, channels, 3, 3)
    total = np.zeros(bank.shape[1:])
    for weight, kernel in zip(weights, bank, strict=True):
        total += weight * kernel * guide
    return total


def literal_condconv(x: Array, w: State, guide: Array | float = 1.0) -> Array:
    routing = sigmoid(linear(x.mean((1, 2)), w, "fc"))
    return conv(x, mixed(routing, w["bank"], guide))


def literal_dyconv(x: Array, w: State, guide: Array | float = 1.0) -> Array:
    logits = linear(relu(linear(x.mean((1, 2)), w, "fc1")), w, "fc2")
    return conv(x, mixed(softmax(logits / w["temperature"]), w["bank"], guide))


def literal_odconv(x: Array, w: State, guide: Array | float = 1.0) -> Array:
    """As the authors' code: the maps are scaled before and after by the channel and filter attention."""
    common = relu(norm(linear(x.mean((1, 2)), w, "fc"), w, "bn"))
    channel, filters, spatial, kernel = (
        linear(common, w, f"fc_{name}") / w["temperature"]
        for name in ("channel", "filter", "spatial", "kernel")
    )
    kernels = mixed(softmax(kernel), w["bank"], guide) * sigmoid(spatial).reshape(3, 3)
    return conv(x * sigmoid(channel)[:, None, None], kernels) * sigmoid(filters)[:, None, None]


def literal_dcd(x: Array, w: State, guide: Array | float = 1.0) -> Array:
    """Lambda(x) W_0 x + P (z + BN(Phi(x) z)) with z = BN(Q^T x), place by place."""
    u = linear(x.mean((1, 2)), w, "fc")
    y = u * 2 * h_sigmoid(linear(u, w, "fc_gate"))
    scale = 2 * h_sigmoid(linear(y, w, "fc_scale"))
    latent = len(w["q.weight"])
    phi = linear(y, w, "fc_phi").reshape(latent, latent)
    result = conv(x, w["conv.weight"] * guide) * scale[:, None, None]
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            z = norm(linear(x[:, i, j], w, "q"), w, "bn_q")
            result[:, i, j] += linear(z + norm(phi @ z, w, "bn_phi"), w, "p")
    return result


DYNAMIC: dict[str, tuple[Callable[[int], nn.Module], Callable[..., Array]]] = {
    "condconv": (CondConv, literal_condconv),
    "dyconv": (DyConv, literal_dyconv),
    "odconv": (ODConv, literal_odconv),
    "dcd": (DCD, literal_dcd),
}


@pytest.mark.parametrize("name", DYNAMIC)
@pytest.mark.parametrize("shape", [(2, 8, 5, 4), (1, 20, 3, 1)])
def test_dynamic_convolution_is_its_equations(name: str, shape: tuple[int, ...]) -> None:
    make, literal = DYNAMIC[name]
    module, x = trained(make(shape[1])), normal(*shape)
    expected = np.stack([literal(one, arrays(module)) for one in x.double().numpy()])
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=2e-5)


def literal_guided(x: Array, w: State, literal: Callable[..., Array]) -> Array:
    """Equations (8) to (10) around a dynamic convolution, BatchNorm and the residual."""
    n = len(w["conv_h.weight"])
    guide = np.empty((n, n, 3, 3))
    for u in range(3):
        for v in range(3):
            guide[:, :, u, v] = (
                w["conv_h.weight"][:, :, 3 * u + v, 0] + w["conv_w.weight"][:, :, 0, 3 * u + v]
            )
    inner = {key.removeprefix("rd."): value for key, value in w.items() if key.startswith("rd.")}
    parts = (
        literal(x[:n], inner, guide),
        conv(x[n : 2 * n], w["conv_h.weight"]),
        conv(x[2 * n : 3 * n], w["conv_w.weight"]),
        x[3 * n :],
    )
    return x + norm(np.concatenate(parts), w, "bn")


@pytest.mark.parametrize("name", DYNAMIC)
def test_inside_sgdm_the_static_branches_guide_it(name: str) -> None:
    module, x = trained(build_module(f"sgdm+{name}", 18, split=0.3)), normal(2, 18, 4, 6)
    expected = [literal_guided(one, arrays(module), DYNAMIC[name][1]) for one in x.double().numpy()]
    np.testing.assert_allclose(module(x).detach().numpy(), np.stack(expected), atol=5e-5)


def test_every_dynamic_convolution_of_table_3_is_tested_here() -> None:
    assert {f"sgdm+{name}" for name in DYNAMIC} == {name for name in MODULES if "+" in name}


def test_condconv_is_timms() -> None:
    ours, theirs, x = CondConv(6), CondConv2d(6, 6, 3, padding=1, num_experts=4), normal(3, 6, 5, 7)
    with torch.no_grad():
        theirs.weight.copy_(ours.bank_kernels().flatten(1))
    torch.testing.assert_close(ours(x), theirs(x, ours.attention(x)))


@pytest.mark.parametrize(("channels", "latent", "squeeze"), [(4, 2, 1), (16, 4, 1), (50, 7, 3), (64, 8, 4)])
def test_dcd_widths(channels: int, latent: int, squeeze: int) -> None:
    module = DCD(channels)
    assert (module.latent, module.fc.out_features) == (latent, squeeze)


@pytest.mark.parametrize(("channels", "hidden"), [(8, 16), (256, 16), (512, 32)])
def test_odconv_narrows_to_a_sixteenth_and_no_less_than_16(channels: int, hidden: int) -> None:
    assert ODConv(channels).fc.out_features == hidden


def test_a_training_batch_of_one_is_normed_by_the_running_statistics() -> None:
    layer, x = PooledNorm(5), normal(3, 5)
    layer(x)
    layer.eval()
    expected = layer(x[:1])
    torch.testing.assert_close(layer.train()(x[:1]), expected)
    ODConv(8).train()(normal(1, 8, 4, 4))


# --- the temperature


def test_temperature_falls_linearly_to_one_and_stays() -> None:
    model = nn.Sequential(
        build_module("sgdm+dyconv", 16), build_module("sgdm+odconv", 16), build_module("sgdm", 16)
    )
    buffers = [value for key, value in model.named_buffers() if key.endswith("temperature")]
    assert [value.item() for value in buffers] == [1, 1]
    for epoch, expected in ((0, 30), (2.5, 22.75), (5, 15.5), (10, 1), (200, 1)):
        assert set_temperature(model, epoch) == expected
        assert [value.item() for value in buffers] == [expected, expected]
    assert set_temperature(model, 1, epochs=4, start=9) == 7


@pytest.mark.parametrize("make", [DyConv, ODConv])
def test_a_high_temperature_makes_attention_uniform_and_is_saved(make: type[DyConv | ODConv]) -> None:
    module, x = trained(make(8)), 3 * normal(2, 8, 4, 4)

    def kernel(of: DyConv | ODConv) -> Tensor:
        attention = of.attention(x)
        return attention if isinstance(attention, Tensor) else attention.kernel

    assert isinstance(module, DyConv | ODConv)
    assert (kernel(module) - 0.25).abs().max() > 0.01
    set_temperature(module, epoch=0, start=1e6)
    torch.testing.assert_close(kernel(module), torch.full((2, 4), 0.25), atol=1e-4, rtol=0)
    other = make(8).eval()
    other.load_state_dict(module.state_dict())
    assert torch.equal(kernel(other), kernel(module))


def test_rdconv_has_no_temperature() -> None:
    assert "temperature" not in RDConv(8).state_dict()
