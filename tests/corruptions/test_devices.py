"""What GPUs run, without one: the tensor form of every corruption, on the CPU and on tensors of no memory.

Torch's fake tensors have a device and a shape and no values. On them a corruption fails if it mixes devices, or needs
a value of a tensor, for which a GPU would have to be waited for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.seeding import BatchRng
from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import Corruption, apply_corruption, filters, load_corruptions
from robustbench_sgdm.detectors.letterbox import letterbox, resize_square
from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.detectors.ultralytics.adapter import UltralyticsDetector

REGISTRY = load_corruptions()
each = pytest.mark.parametrize("corruption", REGISTRY.corruptions, ids=REGISTRY.names)
EQUAL = {"motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast", "pixelate", "spatter"}


@each
@pytest.mark.parametrize("severity", [1, 3.5, 5])
def test_both_forms_give_the_same_pixels(
    corruption: Corruption,
    severity: float,
    photographs: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is promised between devices: a grey level, of at most 0.1 % of the values. Most are equal to the bit."""
    crops = [picture[60:280, 100:400] for picture in photographs]
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
    compiled = apply_corruption(corruption, images, severity, seed=0, image_ids=range(4))
    monkeypatch.setattr(filters, "_COMPILED", False)
    tensors = apply_corruption(corruption, images, severity, seed=0, image_ids=range(4))
    apart = (compiled.int() - tensors.int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() <= 1e-3
    if corruption.family in ("noise", "camera") or corruption.name in EQUAL:
        assert torch.equal(compiled, tensors)


class _Transfers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts copies from the device, and those to it that are waited for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.back, self.waiting = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "_to_copy":
            self._count(args[0], out, bool((kwargs or {}).get("non_blocking")))
        elif name == "copy_":
            self._count(args[1], args[0], bool(args[2:3] and args[2]))
        elif name in ("index", "index_put", "index_put_"):  # indices are copied to the values' device
            for index in args[1]:
                if isinstance(index, Tensor):
                    self._count(index, args[0], False)
        return out

    def _count(self, source: Tensor, target: Tensor, is_queued: bool) -> None:
        way = source.device.type, target.device.type
        self.back += way == ("cuda", "cpu")
        self.waiting += way == ("cpu", "cuda") and not is_queued


@pytest.mark.parametrize(
    ("transfer", "counts"),
    [
        (lambda there, here: to_device(here, "cuda"), (0, 0)),
        (lambda there, here: here.to("cuda"), (0, 1)),
        (lambda there, here: there.copy_(here), (0, 1)),
        (lambda there, here: there.copy_(here, non_blocking=True), (0, 0)),
        (lambda there, here: there[here], (0, 1)),
        (lambda there, here: there.__setitem__(slice(None), here), (0, 1)),
        (lambda there, here: here.copy_(there), (1, 0)),
        (lambda there, here: there.cpu(), (1, 0)),
    ],
)
def test_every_kind_of_transfer_is_counted(
    transfer: Callable[[Tensor, Tensor], Any], counts: tuple[int, int]
) -> None:
    with FakeTensorMode(), _Transfers() as transfers:
        transfer(torch.zeros(3, dtype=torch.int64, device="cuda"), torch.zeros(3, dtype=torch.int64))
    assert (transfers.back, transfers.waiting) == counts


@each
@pytest.mark.parametrize("severity", [1, 5])
def test_a_gpu_is_not_waited_for(
    corruption: Corruption, severity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if corruption.name == "jpeg_compression":  # what leaves the device has no values here
        module: Any = resources.import_file(corruption.path)
        monkeypatch.setattr(module, "_recompressed", lambda images, *_: images.clone())
    first = torch.zeros(1, 3, 48, 64, dtype=torch.uint8)
    apply_corruption(corruption, first, severity, seed=0, image_ids=[0])  # makes the tables that are kept
    with FakeTensorMode(allow_non_fake_inputs=True), _Transfers() as transfers:
        images = torch.empty(2, 3, 48, 64, dtype=torch.uint8, device="cuda")
        out = apply_corruption(corruption, images, severity, seed=0, image_ids=[1, 2])
    assert (out.device.type, out.dtype, out.shape) == ("cuda", torch.uint8, images.shape)
    assert transfers.back == (corruption.name == "jpeg_compression")  # once for the whole batch
    assert not transfers.waiting


@pytest.mark.parametrize("draw", ["words", "half_words", "normal", "uniform"])
def test_draws_do_not_wait(draw: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), _Transfers() as transfers:
        rng = BatchRng([1, 2], "cuda")
        assert getattr(rng, draw)(5, 7).shape == (2, 5, 7)
        assert rng.integers(0, 9, 5).device.type == "cuda"
        assert rng.poisson(rng.uniform(4)).device.type == "cuda"
    assert not transfers.back and not transfers.waiting


def test_images_are_fitted_on_the_device() -> None:
    with FakeTensorMode(), _Transfers() as transfers:
        image = torch.empty(3, 48, 64, dtype=torch.uint8, device="cuda")
        for fit in (letterbox, resize_square):
            square, _ = fit(image, 96)
            assert (square.shape, square.device.type) == ((3, 96, 96), "cuda")
    assert not transfers.back and not transfers.waiting


@pytest.mark.parametrize("name", ["yolov8n", "yolov8n-sgdm"])
def test_a_network_makes_no_tensor_elsewhere(name: str) -> None:
    """From an image to the boxes before suppression, in half precision."""
    network = UltralyticsDetector(zoo.build_model(name, 2), name, InferenceConfig(imgsz=96)).network
    with FakeTensorMode(), _Transfers() as transfers:
        for module in network.modules():
            tensors: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, vars(module))
            for held in tensors:
                for key, value in held.items():
                    if isinstance(value, Tensor):
                        dtype = torch.float16 if value.is_floating_point() else value.dtype
                        there = torch.empty(value.shape, dtype=dtype, device="cuda")
                        held[key] = nn.Parameter(there) if isinstance(value, nn.Parameter) else there
        square, _ = letterbox(torch.empty(3, 48, 64, dtype=torch.uint8, device="cuda"), 96)
        boxes = network(square[None].half() / 255)[0]
    assert (boxes.device.type, boxes.shape) == ("cuda", (1, 6, 189))
    assert not transfers.back and not transfers.waiting
