"""What every runtime does: a batch of images in, the network's raw outputs out."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from robustbench_sgdm.detectors.runtimes.files import TensorSpec


class Runtime(Protocol):
    """A loaded network. Safe to call from several threads at once; pickled, it loads again where it arrives.

    Attributes:
        name: that `--runtime` and manifests have: `onnx`, `openvino`, ...
        version: of the package that computes.
        image: the input that takes images.
        output_names: in the order of `run`'s outputs.
    """

    name: str
    version: str
    image: TensorSpec
    output_names: tuple[str, ...]

    def run(self, images: Tensor) -> list[Tensor]:
        """Raw outputs of images in the type and shape that `image` says, on the CPU or the device of the images."""
