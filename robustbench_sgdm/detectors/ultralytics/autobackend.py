"""Formats that run code of the file, or native code that nothing bounds: TorchScript, TensorRT and others of Ultralytics'
AutoBackend. For files whose author the user trusts (`--trust-weights`)."""

from __future__ import annotations

import hashlib
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.nn.autobackend import AutoBackend

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.detectors.runtimes.files import TensorSpec
from robustbench_sgdm.detectors.runtimes.metadata import FileMetadata, parse_metadata
from robustbench_sgdm.detectors.runtimes.packages import version, without_installing

FORMATS = {
    ".torchscript": ("torchscript", "torch"),
    ".engine": ("tensorrt", "tensorrt"),
    ".mnn": ("mnn", "MNN"),
    ".tflite": ("litert", "ai-edge-litert"),
    ".mlpackage": ("coreml", "coremltools"),
    "_ncnn_model": ("ncnn", "ncnn"),
    "_paddle_model": ("paddle", "paddlepaddle"),
    "_saved_model": ("saved_model", "tensorflow"),
    "_executorch_model": ("executorch", "executorch"),
}
"""How names of files and folders end: the runtime's name, and the package that computes."""


class AutoBackendRuntime:
    """See `Runtime`; one thread calls it at a time.

    Args:
        path: file or folder; trusted.
        device: `cpu` or `cuda:0`.

    Raises:
        UsageError: its package is not installed, or the device does not do.
        DataError: it cannot be loaded.
    """

    def __init__(self, path: Path, device: str) -> None:
        self.name, package = FORMATS[format_of(path) or ""]
        if self.name == "tensorrt" and not device.startswith("cuda"):
            raise UsageError(f"{path}: TensorRT needs an NVIDIA GPU: give --device cuda")
        self.version = version(package)
        if self.version == "absent" and self.name != "tensorrt":
            raise UsageError(f"{path}: {package} is not installed; install it with: pip install {package}")
        if self.version == "absent":
            raise UsageError(
                f'{path}: tensorrt is not installed; install it with: pip install "robustbench-sgdm[tensorrt]"'
            )
        self.path, self.device, self.sha256 = path, device, hash_path(path)
        self._backend: Any = None
        self._lock = threading.Lock()
        backend = self._open()
        self.metadata: FileMetadata = parse_metadata(dict(backend.metadata))
        fixed = None if backend.dynamic else self.metadata.imgsz
        kind = "float16" if backend.fp16 else "float32"
        # An engine has a largest batch: that of its export.
        batch = None if backend.dynamic and self.name != "tensorrt" else int(backend.batch or 1)
        self.image = TensorSpec("images", (batch, 3, fixed, fixed), kind)
        self.output_names: tuple[str, ...] = ()

    @torch.inference_mode()
    def run(self, images: Tensor) -> list[Tensor]:
        """See `Runtime.run`."""
        with self._lock:
            outputs = self._open()(images.to(self.device))
            return [one.clone() for one in (outputs if isinstance(outputs, list | tuple) else [outputs])]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_backend": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_lock": threading.Lock()}
        if hash_path(self.path) != self.sha256:
            raise DataError(f"{self.path} on a worker is not what it is on the driver; copy it there")

    def _open(self) -> Any:
        if self._backend is None:
            try:
                with without_installing(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what a library says of its own formats
                    self._backend = AutoBackend(
                        str(self.path), device=torch.device(self.device), verbose=False
                    )
            except Exception as error:  # whatever the library of the format raises
                reason = " ".join(str(error).split())[:300]
                other = "; an engine runs on the kind of GPU and with the version of TensorRT that made it"
                raise DataError(
                    f"{self.path}: cannot be loaded ({type(error).__name__}: "
                    f"{reason}){other * (self.name == 'tensorrt')}"
                ) from error
        return self._backend


def format_of(path: Path) -> str | None:
    """How the name of a file or folder ends, if that is one of `FORMATS`."""
    name = path.name.lower()
    return next((ending for ending in FORMATS if name.endswith(ending)), None)


def hash_path(path: Path) -> str:
    """sha256 of a file, or of a folder's files and their names.

    Raises:
        DataError: it cannot be read.
    """
    sha = hashlib.sha256()
    try:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                data = file.read_bytes()
                sha.update(f"{file.relative_to(path)} {len(data)};".encode() + data)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return sha.hexdigest()
