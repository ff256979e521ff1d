"""ONNX Runtime: one session for all threads of a process; each call computes in the thread that makes it."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.detectors.runtimes import trial
from robustbench_sgdm.detectors.runtimes.files import ModelFile
from robustbench_sgdm.detectors.runtimes.packages import require, version

_BUILDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


class OnnxRuntime:
    """See `Runtime`.

    Args:
        file: read and checked.
        device: `cpu` or `cuda:0`.

    Raises:
        UsageError: the package is missing, or cannot use the device.
    """

    name = "onnx"

    def __init__(self, file: ModelFile, device: str) -> None:
        runtime = require("onnxruntime", "onnx")
        if device != "cpu" and "CUDAExecutionProvider" not in runtime.get_available_providers():
            raise UsageError(
                f"ONNX Runtime cannot use {device} here: give --device cpu, or replace onnxruntime by onnxruntime-gpu"
            )
        self.version, self.image = version(*_BUILDS), file.image
        self._file, self._device, self._session, self._lock = file, device, None, threading.Lock()
        self.output_names = tuple(one.name for one in self._open().get_outputs())

    def run(self, images: Tensor) -> list[Tensor]:
        """See `Runtime.run`."""
        outputs = trial.run_onnx(self._open(), images.cpu().numpy())
        return [torch.from_numpy(one) for one in outputs]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_lock": threading.Lock()}

    def _open(self) -> Any:
        with self._lock:
            if self._session is None:
                try:
                    self._session = trial.open_onnx(self._file.contents, self._device)
                except Exception as error:  # of ONNX Runtime, which has a kind for each
                    raise DataError(f"{self._file.path}: {' '.join(str(error).split())[:400]}") from error
            return self._session
