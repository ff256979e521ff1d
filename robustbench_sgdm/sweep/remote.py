"""What lives in a worker process, of this machine or of a cluster: the line-up of detectors, loaded once."""

import hashlib
import io
import logging
import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

import robustbench_sgdm
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.core.versions import inference_version
from robustbench_sgdm.sweep.executor import Outcome, attempt
from robustbench_sgdm.sweep.local import one_thread
from robustbench_sgdm.sweep.plan import Unit
from robustbench_sgdm.sweep.work import Worker

_SAMPLE = 16  # images by which a worker shows that it sees the driver's files


@dataclass(frozen=True)
class Kit:
    """What a worker process starts from.

    Attributes:
        code: digest of the driver's package and libraries.
        worker: as torch saves it.
        corruptions: each pickled, with its fingerprint.
        sample: images of the data set with the digests of their files.
    """

    code: str
    worker: bytes
    corruptions: Sequence[tuple[bytes, str]]
    sample: Sequence[tuple[Path, str]]


@dataclass(frozen=True)
class Report:
    """What comes back for a unit: its outcome, and the largest batch that memory is enough for."""

    outcome: Outcome
    batch: int


def make_kit(units: Sequence[Unit], worker: Worker) -> Kit:
    """What a process needs to do some units as `worker` would."""
    used = {u.corruption.name: u.corruption for u in units if u.corruption is not None}
    images = list({image.id: image for unit in units for image in unit.images}.values())
    spread = [images[i * len(images) // _SAMPLE] for i in range(_SAMPLE)]
    saved = io.BytesIO()
    torch.save(worker, saved)
    return Kit(
        code=_code(),
        worker=saved.getvalue(),
        corruptions=[(pickle.dumps(c), c.fingerprint(worker.settings.engine)) for c in used.values()],
        sample=[(image.path, _digest(image.path)) for image in spread],
    )


class Post:
    """A worker process's end: takes units, reports.

    Attributes:
        refusal: why this process would not do as the driver does, if so; it is every unit's outcome then.
        sees: whether the image files are here too.
    """

    def __init__(self, kit: Kit) -> None:
        logging.getLogger("robustbench_sgdm").setLevel(logging.ERROR)  # the driver says it, once
        self.refusal: RobustBenchError | None = None
        try:
            self.worker = _unpack(kit)
        except RobustBenchError as error:
            self.refusal = error
        self.sees = all(_digest(path) == digest for path, digest in kit.sample)

    def work(self, unit: Unit, contents: Sequence[bytes] = ()) -> Report:
        """Do a unit, from the contents of its image files where this process does not see them."""
        if self.refusal is not None:
            return Report(self.refusal, batch=sys.maxsize)
        if not contents:
            return Report(attempt(self.worker, unit), self.worker.batch)
        with tempfile.TemporaryDirectory(prefix="robustbench-") as folder:
            images = []
            for image, content in zip(unit.images, contents, strict=True):
                path = Path(folder) / f"{image.id}{image.path.suffix}"
                path.write_bytes(content)
                images.append(replace(image, path=path))
            return Report(attempt(self.worker, replace(unit, images=images)), self.worker.batch)


def _unpack(kit: Kit) -> Worker:
    if kit.code != _code():
        raise RobustBenchError(
            "a worker has another version of robustbench-sgdm, torch, torchvision, ultralytics, opencv-python or "
            "pillow than the driver; install the same on every node"
        )
    worker: Worker = torch.load(io.BytesIO(kit.worker), weights_only=False)  # the driver's own bytes
    if worker.settings.device == "cpu":
        one_thread()
    for blob, fingerprint in kit.corruptions:
        found = pickle.loads(blob)  # raises where its file is not there
        if found.fingerprint(worker.settings.engine) != fingerprint:
            raise DataError(f"{found.path} on a worker is not what it is on the driver; make them alike")
    return worker


@cache
def _code() -> str:
    """Changes with every line of the package: a cluster's nodes must not differ in any."""
    package = Path(robustbench_sgdm.__file__).parent
    digest = hashlib.sha256(inference_version().encode())
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "absent"
