"""SGDM's training step over its baseline's: forward and backward, time and memory.

Each pair runs in turns, so that a busy machine disturbs both alike; the ratio is the median over rounds, with
its 95 % interval. A step is what the trainer does to a batch: forward with Ultralytics' loss, backward, without the
optimiser. Memory is what autograd keeps from forward to backward, counted storage by storage, and on CUDA the
allocator's peak too.

    python benchmarks/training.py [--model yolov8n] [--modules sgdm,cbam] [--batch 8] [--imgsz 320] [--device cpu]
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from ultralytics.cfg import get_cfg

from robustbench_sgdm.detectors import select_device
from robustbench_sgdm.detectors.timing import benchmark_interleaved
from robustbench_sgdm.detectors.ultralytics import zoo

_CLASSES = 80
_BOXES = 8  # an image, as COCO has on average


def main() -> None:
    options = _options()
    device = select_device(options.device)
    names = [options.model, *(f"{options.model}-{module}" for module in options.modules.split(","))]
    print(f"{options.imgsz} px, batch {options.batch} on {device}, {options.rounds} rounds")
    networks = {name: _network(name, device) for name in names}
    batch = _batch(options.batch, options.imgsz, device)
    forward = {name: _forward(network, batch) for name, network in networks.items()}
    step = {name: _step(network, batch) for name, network in networks.items()}
    for what, calls in (("forward", forward), ("forward + backward", step)):
        for name, timing in benchmark_interleaved(calls, options.rounds, device).items():
            speed = options.batch / timing.milliseconds * 1e3
            print(
                f"  {name:16s} {what:18s} {speed:8.1f} images/s, time ratio {timing.ratio:.3f} "
                f"({timing.low:.3f} to {timing.high:.3f})"
            )
    kept = {name: _kept(call) for name, call in forward.items()}
    for name, size in kept.items():
        peak = f", peak {_peak(step[name], device) / 2**20:.0f} MiB" if device.startswith("cuda") else ""
        print(
            f"  {name:16s} kept for backward  {size / 2**20:8.1f} MiB, ratio {size / kept[names[0]]:.3f}{peak}"
        )


def _network(name: str, device: str) -> Any:
    network: Any = zoo.build_model(name, _CLASSES).to(device).train()
    network.args = get_cfg()  # the loss reads its gains there
    return network


def _batch(count: int, imgsz: int, device: str) -> dict[str, Tensor]:
    """Grey noise with boxes: what is in the images does not change the work, how many boxes hardly does."""
    draw = torch.Generator().manual_seed(0)
    boxes = count * _BOXES
    content = {
        "img": torch.rand(count, 3, imgsz, imgsz, generator=draw),
        "cls": torch.randint(0, _CLASSES, (boxes, 1), generator=draw).float(),
        "bboxes": 0.2 + 0.2 * torch.rand(boxes, 4, generator=draw),
        "batch_idx": torch.arange(count).repeat_interleave(_BOXES).float(),
    }
    return {key: value.to(device) for key, value in content.items()}


def _forward(network: Any, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    def forward() -> Tensor:
        loss: Tensor = network(batch)[0].sum()
        return loss

    return forward


def _step(network: Any, batch: dict[str, Tensor]) -> Callable[[], object]:
    forward = _forward(network, batch)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        forward().backward()  # type: ignore[no-untyped-call]

    return step


def _kept(forward: Callable[[], object]) -> int:
    """Bytes of the distinct storages that autograd keeps, parameters included in both."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    del loss
    return sum(sizes.values())


def _peak(step: Callable[[], object], device: str) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return torch.cuda.max_memory_allocated(device)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--modules", default="sgdm")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device")
    return parser.parse_args()


if __name__ == "__main__":
    main()
