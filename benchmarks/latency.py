"""SGDM's forward time over its baseline's: YOLOv8n and YOLOv5n, batch 1 and 16, eager and exported.

Each pair runs in turns, so that a busy machine disturbs both alike; the ratio is the median over rounds, with
the middle half. "not folded" is the network as trained, with BatchNorm folded into Ultralytics' own layers
only; "folded" is what detectors run. On CUDA in half precision. The paper has 4.3 ms over 4.2 (1.02) for
YOLOv8n and 5.2 over 4.4 (1.18) for its YOLOv5n.

    python benchmarks/latency.py [--models yolov8n,yolov5n] [--module sgdm] [--batch 1,16] [--imgsz 640]
"""

import argparse
import copy
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from robustbench_sgdm.detectors import pick_device, zoo
from robustbench_sgdm.detectors.timing import in_turns

_CLASSES = 80


def main() -> None:
    options = _options()
    device = pick_device(options.device)
    half = device.startswith("cuda")
    print(f"{options.imgsz} px on {device}{' in half precision' if half else ''}, {options.rounds} rounds")
    for plain in options.models.split(","):
        for batch in map(int, options.batch.split(",")):
            images = torch.rand(batch, 3, options.imgsz, options.imgsz, device=device)
            images = images.half() if half else images
            pair = [plain, f"{plain}-{options.module}"]
            for form, prepare in FORMS.items():
                prepared = {name: prepare(_network(name).to(images), images) for name in pair}
                calls = {name: call for name, call in prepared.items() if call}
                if calls:
                    base, other = in_turns(calls, options.rounds, device).values()
                    print(
                        f"  {pair[1]:16s} batch {batch:2d} {form:22s} {base.milliseconds:8.2f} -> "
                        f"{other.milliseconds:8.2f} ms, ratio {other.ratio:.3f} ({other.low:.3f} to {other.high:.3f})"
                    )


def _network(name: str) -> Any:
    network: Any = zoo.build(name, _CLASSES).eval().requires_grad_(False)
    return network.fuse(verbose=False)


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


def _eager_folded(network: nn.Module, images: Tensor) -> Callable[[], object]:
    return _eager(_folded(network), images)


def _exported(network: nn.Module, images: Tensor) -> Callable[[], object] | None:
    """In onnxruntime; None where it has no provider for the device."""
    provider = "CPUExecutionProvider" if images.device.type == "cpu" else "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        return None
    exported: Any = _folded(network)
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


FORMS: dict[str, Callable[[nn.Module, Tensor], Callable[[], object] | None]] = {
    "eager, not folded": _eager,
    "eager, folded": _eager_folded,
    "exported (onnxruntime)": _exported,
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
