"""SGDM's forward time over its baseline's: YOLOv8n and YOLOv5n, batch 1 and 16, eager and exported.

Each pair runs in turns, so that a busy machine disturbs both alike; the ratio is the median over rounds, with
its 95 % interval. On CUDA in half precision. The forms, from before to after what was done for speed:

    as written   SGDM line by line as its equations stand: a convolution for each sample, everything joined twice,
                 BatchNorm and the residual apart (`--module sgdm` alone)
    not folded   as trained: all samples' convolutions in one, the four branches joined once
    folded       what detectors run: the guide in the bank, BatchNorm and the residual in the convolutions

All compute the same, which is checked. The paper has 4.3 ms over 4.2 (1.02) for YOLOv8n and 5.2 over 4.4 (1.18)
for its YOLOv5n.

    python benchmarks/latency.py [--models yolov8n,yolov5n] [--module sgdm] [--batch 1,16] [--imgsz 640]
"""

import argparse
import copy
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_sgdm.detectors import select_device
from robustbench_sgdm.detectors.timing import Timing, benchmark_interleaved
from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.modules import SGDM
from robustbench_sgdm.modules.rdconv import resize_guide

_CLASSES = 80
_SAME = 0.05  # of outputs, px and shares, in single precision


def main() -> None:
    options = _options()
    device = select_device(options.device)
    half = device.startswith("cuda")
    print(f"{options.imgsz} px on {device}{' in half precision' if half else ''}, {options.rounds} rounds")
    for plain in options.models.split(","):
        for batch in map(int, options.batch.split(",")):
            images = torch.rand(batch, 3, options.imgsz, options.imgsz, device=device)
            images = images.half() if half else images
            _compare([plain, f"{plain}-{options.module}"], images, options.rounds, device)


def _compare(pair: list[str], images: Tensor, rounds: int, device: str) -> None:
    """Print a line for each form, and check that they compute the same."""
    networks = {name: _network(name).to(images) for name in pair}
    if images.dtype == torch.float32:
        _check_same(networks[pair[1]], images[:2])
    for title, (form, run) in FORMS.items():
        calls = {name: run(form(network), images) for name, network in networks.items()}
        if "as written" in title and not any(isinstance(m, SGDM) for m in networks[pair[1]].modules()):
            continue
        timed = [call for call in calls.values() if call]
        if len(timed) == len(calls):
            _print(
                pair[1],
                len(images),
                title,
                *benchmark_interleaved(dict(zip(calls, timed, strict=True)), rounds, device).values(),
            )


def _print(name: str, batch: int, title: str, base: Timing, other: Timing) -> None:
    print(
        f"  {name:16s} batch {batch:2d} {title:22s} {base.milliseconds:8.2f} -> {other.milliseconds:8.2f} ms, "
        f"ratio {other.ratio:.3f} ({other.low:.3f} to {other.high:.3f})",
        flush=True,
    )


def _network(name: str) -> Any:
    network: Any = zoo.build_model(name, _CLASSES).eval().requires_grad_(False)
    return network.fuse(verbose=False)


@torch.inference_mode()
def _check_same(network: nn.Module, images: Tensor) -> None:
    as_trained = network(images)[0]
    for form in (_as_written, _folded):
        torch.testing.assert_close(form(network)(images)[0], as_trained, rtol=1e-3, atol=_SAME)


def _as_trained(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network)


def _as_written(network: nn.Module) -> nn.Module:
    slow = copy.deepcopy(network)
    for layer in slow.modules():
        if isinstance(layer, SGDM):
            vars(layer)["forward"] = partial(equations, layer)
    return slow


def equations(module: SGDM, x: Tensor) -> Tensor:
    """SGDM's output for x (B, c, H, W), as the paper writes it."""
    rd, (alphas, taps) = module.rd, module.attention(x)  # (5), (6)
    x_rd, x_h, x_w, *x_id = torch.split(x, module.sections, 1)  # (8)
    guide = resize_guide(module.guide(), rd.channels, rd.intrinsic)
    y = rd.razor(x_rd)
    each = []
    for sample, alpha, tap in zip(y, alphas, taps, strict=True):
        kernel = sum(
            (a * d.float() for a, d in zip(alpha, rd.bank_kernels(), strict=True)), torch.zeros_like(guide)
        )  # (2)
        kernel = kernel * tap * guide  # (10)
        each.append(F.conv2d(sample[None], kernel.to(x.dtype), padding=rd.kernel_size // 2))
    cheap = [] if rd.cheap is None else [rd.cheap(y if rd.source is None else y[:, rd.source])]
    x_rd = torch.cat((torch.cat(each), *cheap), 1)  # (7)
    joined = torch.cat((x_rd, module.conv_h(x_h), module.conv_w(x_w), *x_id), 1)  # (9)
    normed: Tensor = module.bn(joined)
    return x + normed


def _folded(network: nn.Module) -> nn.Module:
    folded = copy.deepcopy(network)
    for layer in folded.modules():
        if fold := getattr(layer, "fold_", None):
            fold()
    return folded


def _eager(network: nn.Module, images: Tensor) -> Callable[[], object]:
    laid_out = images.contiguous(memory_format=torch.channels_last)
    for parameter in network.parameters():  # as detectors lay them out
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward() -> object:
        with torch.inference_mode():
            return network(laid_out)

    return forward


def _exported(network: nn.Module, images: Tensor) -> Callable[[], object] | None:
    """In onnxruntime; None where it has no provider for the device."""
    provider = "CPUExecutionProvider" if images.device.type == "cpu" else "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        return None
    exported: Any = network
    head = list(exported.model.children())[-1]
    head.export, head.format = True, "onnx"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter, which needs no further package
        path = Path(folder) / "model.onnx"
        torch.onnx.export(exported, (images,), path, dynamo=False, input_names=["images"])
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path.read_bytes(), settings, providers=[provider])
    array = np.ascontiguousarray(images.cpu().numpy())
    return lambda: session.run(None, {"images": array})


Form = Callable[[nn.Module], nn.Module]
Run = Callable[[nn.Module, Tensor], Callable[[], object] | None]
FORMS: dict[str, tuple[Form, Run]] = {
    "eager, as written": (_as_written, _eager),
    "eager, not folded": (_as_trained, _eager),
    "eager, folded": (_folded, _eager),
    "exported, as written": (_as_written, _exported),
    "exported, folded": (_folded, _exported),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="yolov8n,yolov5n")
    parser.add_argument("--module", default="sgdm")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device")
    return parser.parse_args()


if __name__ == "__main__":
    main()
