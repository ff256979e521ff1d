"""Opens exported models, and tries those of strangers in a process of its own with bounded memory and time.

Runtimes parse files and compute with them in native code that no limit in this process holds: an operator can ask for
any amount of memory, a graph for any time, a damaged file can end the process. So a file is first loaded and run once
in a child process, which this file is the program of; it imports nothing of this package.

The child reads a request from its standard input, and writes what the network put out for batches of noise.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MEMORY = 1536 * 2**20
"""Bytes that an image of 640 px and a small file may take; more for larger ones."""

SECONDS = 8.0
"""Of processor time for a small file and an image of 640 px; a megabyte of weights may take `SECONDS_A_MEGABYTE` more."""

SECONDS_A_MEGABYTE = 1.0
_MAX_OUTPUT = 64 * 2**20  # bytes of what a network puts out for an image; YOLOv8 with 80 classes takes 2.8 MB
_WALL = 10.0  # the clock may show so many times the processor's time before a trial ends, on a busy machine


class TrialError(Exception):
    """A file did not load, did not run, or took more than it may; says why."""


def open_onnx(contents: Mapping[str, bytes], device: str) -> Any:
    """An ONNX Runtime session that computes in the thread that calls it."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = (
        1  # workers share the cores among themselves
    )
    options.log_severity_level = 4
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}))
    return onnxruntime.InferenceSession(contents["model"], options, providers=providers)


def open_openvino(contents: Mapping[str, bytes], streams: int) -> Any:
    """An OpenVINO model compiled for the CPU, in float32 where the file says no other, so many streams of one thread."""
    import openvino

    core = openvino.Core()
    model = core.read_model(contents["model"], contents["weights"])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 on processors that have it
        "EXECUTION_MODE_HINT": "ACCURACY",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(streams),
        "ENABLE_CPU_PINNING": "NO",  # processes would share the first core
    }
    return core.compile_model(model, "CPU", settings)


def run_onnx(session: Any, images: NDArray[Any]) -> list[NDArray[Any]]:
    """What a session puts out, in the order of its outputs."""
    outputs: list[NDArray[Any]] = session.run(None, {session.get_inputs()[0].name: images})
    return outputs


def run_openvino(request: Any, images: NDArray[Any]) -> list[NDArray[Any]]:
    """What an infer request puts out; copied, as the next call overwrites it."""
    request.infer([images], share_inputs=True)
    return [np.array(tensor.data) for tensor in request.output_tensors]


def try_out(
    kind: str, contents: Mapping[str, bytes], batches: Sequence[NDArray[Any]], *, size: int
) -> list[list[NDArray[Any]]]:
    """Load a model and show it batches of images, in a child process. Returns its outputs for each batch.

    Args:
        kind: `onnx` or `openvino`.
        contents: `model`, and `weights` where they are apart.
        batches: as the network takes them.
        size: side of the images (px): larger ones may take more.

    Raises:
        TrialError: it cannot be loaded or run, takes more than it may, or ends the process.
    """
    bytes_read = sum(map(len, contents.values()))
    area = max(1.0, (size / 640) ** 2) * max(len(one) if one.ndim == 4 else 1 for one in batches)
    seconds = (SECONDS + SECONDS_A_MEGABYTE * bytes_read / 2**20) * area
    memory = int(MEMORY * area) + 12 * bytes_read
    head = {
        "kind": kind,
        "memory": memory,
        "seconds": seconds,
        "names": list(contents),
        "batches": len(batches),
    }
    blobs = [json.dumps(head).encode(), *map(_npy, batches), *contents.values()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", "MALLOC_ARENA_MAX": "2"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=b"".join(struct.pack("<q", len(blob)) + blob for blob in blobs),
            capture_output=True,
            timeout=_WALL * seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TrialError(f"takes more than {_WALL * seconds:.0f} s to load and run once") from None
    if done.returncode == 0:
        stream = io.BytesIO(done.stdout)
        return [
            [np.load(stream, allow_pickle=False) for _ in range(struct.unpack("<q", stream.read(8))[0])]
            for _ in batches
        ]
    if done.returncode == 1:
        raise TrialError(" ".join(done.stdout.decode("utf-8", "replace").split())[:400])
    if done.returncode in (-24, -9):  # SIGXCPU, then SIGKILL
        raise TrialError(f"takes more than {seconds:.0f} s of the processor to load and run once")
    raise TrialError(
        f"ends the process that loads it (exit code {done.returncode}): damaged, or more than {memory / 2**20:,.0f} MB"
    )


def _main() -> int:
    """The child: 0 and the outputs for each batch; 1 and why not."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native code prints what it likes
    head = json.loads(_blob(source))
    batches = [np.load(io.BytesIO(_blob(source)), allow_pickle=False) for _ in range(head["batches"])]
    contents = {name: _blob(source) for name in head["names"]}
    try:
        if head["kind"] == "onnx":
            import onnxruntime  # noqa: F401 - before the limit, which is of what the file takes
        else:
            import openvino

            openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
        _limit(head["memory"], head["seconds"])
        if head["kind"] == "onnx":
            session = open_onnx(contents, "cpu")
            answer = [_packed(run_onnx(session, images)) for images in batches]
        else:
            request = open_openvino(contents, 1).create_infer_request()
            answer = [_packed(run_openvino(request, images)) for images in batches]
        sink.write(b"".join(answer))
    except MemoryError:
        sink.write(f"takes more than {head['memory'] / 2**20:,.0f} MB".encode())
        return 1
    except Exception as error:  # noqa: BLE001 - whatever the file provokes is the answer
        sink.write((str(error) or type(error).__name__).encode("utf-8", "replace"))
        return 1
    finally:
        sink.flush()
    return 0


def _packed(outputs: Sequence[NDArray[Any]]) -> bytes:
    """Outputs as .npy, after their number."""
    if sum(one.nbytes for one in outputs) > _MAX_OUTPUT:
        raise ValueError(f"outputs more than {_MAX_OUTPUT / 2**20:.0f} MB for an image")
    if any(one.dtype == object for one in outputs):
        raise ValueError("puts out texts")
    return struct.pack("<q", len(outputs)) + b"".join(map(_npy, outputs))


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _limit(memory: int, seconds: float) -> None:
    """Take no more than so many bytes and seconds from here on; only Unix can say so."""
    try:
        import resource
    except ImportError:
        return
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:  # noqa: PTH123
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _blob(source: BinaryIO) -> bytes:
    return source.read(struct.unpack("<q", source.read(8))[0])


if __name__ == "__main__":
    code = _main()
    sys.stderr.flush()
    os._exit(code)  # a runtime whose memory ran out can hang in its own end
