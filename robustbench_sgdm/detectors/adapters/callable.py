"""Any function from images to boxes as a `Detector`."""

import hashlib
import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_sgdm.core.arguments import check_arguments
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.untrusted_input import short_repr
from robustbench_sgdm.detectors.adapters.base import AdaptedDetector
from robustbench_sgdm.detectors.adapters.results import Result
from robustbench_sgdm.detectors.ultralytics.weights import hash_tensors

_LOG = logging.getLogger(__name__)

Function = Callable[[list[NDArray[np.uint8]]], Sequence[Result]]
"""Takes uint8 (H, W, 3) RGB arrays at their own sizes, gives for each image one of the forms of `Result`."""


class CallableDetector(AdaptedDetector):
    """A `Detector` around a function; arguments as `wrap_detector`'s."""

    def __init__(
        self,
        function: Function,
        classes: Sequence[str] | Mapping[int, str],
        name: str,
        fingerprint: str | None = None,
        imgsz: int = 0,
        thread_safe: bool = False,
    ) -> None:
        network = _network(function)
        parameters = sum(one.numel() for one in network.parameters()) if network else 0
        super().__init__(name, classes, imgsz=imgsz, parameters=parameters)
        if not fingerprint and network is None:
            _LOG.warning(
                "%s has no fingerprint and no state_dict to make one of, so stored results are not reused; give "
                "fingerprint=, a text that changes with its weights and settings",
                name,
            )
        self._given = fingerprint or (None if network else uuid.uuid4().hex)
        # The structure too: strides and activations are in no state dict.
        held = [hash_tensors(network.state_dict()), repr(network)] if network else []
        parts = ("callable", self._given, held, self.classes, self.label_index.tolist(), imgsz)
        self.fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()
        self._function = function
        self._lock = None if thread_safe else threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": self._lock is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_lock": threading.Lock() if state["_lock"] else None}

    def describe(self) -> dict[str, Any]:
        """What the manifest keeps."""
        return super().describe() | ({"given_fingerprint": self._given} if self._given else {})

    def _call(self, images: Sequence[Tensor]) -> Sequence[Result]:
        # Copies: a function may draw into them.
        arrays = [np.array(image.permute(1, 2, 0).cpu().numpy(), order="C") for image in images]
        with self._lock or nullcontext():
            returned: Any = self._function(arrays)
        if isinstance(returned, np.ndarray | Tensor) and returned.ndim == 2:
            raise ValueError(
                f"one array of {tuple(returned.shape)} for {len(images)} images; return a list with the boxes of each"
            )
        results = list(returned)
        for result, array in zip(results, arrays, strict=False):  # Ultralytics keeps what it was given
            seen = getattr(result, "orig_img", None)
            if (
                isinstance(seen, np.ndarray)
                and np.array_equal(seen, array)
                and (array[..., 0] != array[..., 2]).any()
            ):
                raise ValueError(
                    "Ultralytics takes arrays as BGR and was given RGB; pass image[..., ::-1] for each image"
                )
        return results


@check_arguments
def wrap_detector(
    function: "Function",
    classes: Sequence[str] | Mapping[int, str],
    *,
    name: str | None = None,
    fingerprint: str | None = None,
    imgsz: int = 0,
    thread_safe: bool = False,
) -> CallableDetector:
    """Make a function a detector that `evaluate` takes. Results are clipped to the image and sorted by score.

    Args:
        function: takes a list of uint8 (H, W, 3) RGB arrays; gives for each image, in its pixels, one of: `Detections`,
            Ultralytics' `Results`, `supervision.Detections`, a MAITE target, the dict of torchvision or transformers
            (boxes, scores, labels), a tuple (xyxy, scores, labels), or rows of x1, y1, x2, y2, score, label.
        classes: class names; a label is an index into them, or a key where they are a dict.
        name: what results call it; the function's own if None.
        fingerprint: names the function, its weights and settings: results stored under it are used again. Where the
            function is an `nn.Module`, or has one as `.model`, its state dict and structure count too, and are enough
            by themselves. With neither, nothing stored is used again.
        imgsz: the size it works at, for tables; images come as they are.
        thread_safe: whether several threads may call the function at once.

    Raises:
        UsageError: no function, no class, or a name that no folder can have.

    >>> nothing = wrap_detector(lambda images: [np.zeros((0, 6)) for _ in images], ["cat"], fingerprint="1")
    >>> nothing.classes
    ('cat',)
    """
    if not callable(function):
        raise UsageError(f"{short_repr(function)} is not a function; give one from images to boxes")
    name = name or str(getattr(function, "__name__", type(function).__name__))
    if Path(name).name != name or name == "..":
        raise UsageError(f"name {name!r} must be a plain name: it becomes the name of a folder")
    return CallableDetector(function, classes, name, fingerprint, imgsz, thread_safe)


def _network(function: Any) -> nn.Module | None:
    """The network whose weights decide what a function finds: itself, or its `.model`, also of a method's object."""
    for owner in (function, getattr(function, "__self__", None)):
        for one in (owner, getattr(owner, "model", None)):
            if isinstance(one, nn.Module):
                return one
    return None
