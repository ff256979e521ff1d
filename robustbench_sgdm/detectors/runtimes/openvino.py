"""OpenVINO on the CPU: one compiled model for all threads of a process, a request and a stream for each thread."""

from __future__ import annotations

import os
import threading
from typing import Any

import torch
from torch import Tensor

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.detectors.runtimes import trial
from robustbench_sgdm.detectors.runtimes.files import ModelFile
from robustbench_sgdm.detectors.runtimes.packages import require, version


class OpenVinoRuntime:
    """See `Runtime`.

    Args:
        file: read and checked.
        device: `cpu`.

    Raises:
        UsageError: the package is missing, or another device.
    """

    name = "openvino"

    def __init__(self, file: ModelFile, device: str) -> None:
        require("openvino", "openvino")
        if device != "cpu":
            raise UsageError(f"OpenVINO runs on the CPU here, not on {device}: give --device cpu")
        self.version, self.image = version("openvino"), file.image
        self._file, self._model, self._lock = file, None, threading.Lock()
        self._requests = threading.local()
        outputs = self._open().outputs
        self.output_names = tuple(
            min(one.names, default=f"output{number}") for number, one in enumerate(outputs)
        )

    def run(self, images: Tensor) -> list[Tensor]:
        """See `Runtime.run`."""
        request = getattr(self._requests, "one", None)
        if request is None:
            request = self._requests.one = self._open().create_infer_request()
        return [torch.from_numpy(one) for one in trial.run_openvino(request, images.cpu().numpy())]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_lock": None, "_requests": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_lock": threading.Lock(), "_requests": threading.local()}

    def _open(self) -> Any:
        with self._lock:
            if self._model is None:
                streams = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
                try:
                    self._model = trial.open_openvino(self._file.contents, streams or 1)
                except Exception as error:  # of OpenVINO, which raises RuntimeError for all
                    raise DataError(f"{self._file.path}: {' '.join(str(error).split())[:400]}") from error
            return self._model
