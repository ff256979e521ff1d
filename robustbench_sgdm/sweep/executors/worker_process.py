"""What runs in a worker process, of this machine or of a cluster: the detectors, loaded once."""

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
from typing import cast

import torch

import robustbench_sgdm
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.core.versions import inference_version
from robustbench_sgdm.store import Cell, SharedStore, TakenOverError
from robustbench_sgdm.sweep.cell_scoring import CellScorer
from robustbench_sgdm.sweep.executors.base import Stored, UnitOutcome, run_unit
from robustbench_sgdm.sweep.executors.threads import use_one_thread
from robustbench_sgdm.sweep.plan import ScoringTask, Task, WorkUnit
from robustbench_sgdm.sweep.worker import Worker

_SAMPLE_SIZE = 16  # images by which a worker shows that it sees the driver's files


@dataclass(frozen=True)
class WorkerPayload:
    """What a worker process starts from.

    Attributes:
        code: digest of the driver's package and libraries.
        worker: as torch saves it.
        corruptions: each pickled, with its fingerprint.
        sample: images of the data set with the digests of their files.
        shared: the run directory, for workers that see it.
        scorer: completes cells there, pickled.
    """

    code: str
    worker: bytes
    corruptions: Sequence[tuple[bytes, str]]
    sample: Sequence[tuple[Path, str]]
    shared: SharedStore
    scorer: bytes


@dataclass(frozen=True)
class UnitResult:
    """What a worker sends back.

    Attributes:
        outcome: of the task.
        batch: the largest that the worker's memory is enough for.
        storage_error: why a worker that stored until now no longer does.
    """

    outcome: UnitOutcome
    batch: int
    storage_error: RobustBenchError | None = None


def make_payload(
    units: Sequence[WorkUnit], worker: Worker, shared: SharedStore, scorer: CellScorer
) -> WorkerPayload:
    """What a process needs to run these units as `worker` would, and to store and score them where it can.

    Raises:
        UsageError: a detector's function has no name by which another process can import it.
    """
    used = {u.corruption.name: u.corruption for u in units if u.corruption is not None}
    images = list({image.id: image for unit in units for image in unit.images}.values())
    sample = [images[i * len(images) // _SAMPLE_SIZE] for i in range(_SAMPLE_SIZE)]
    saved = io.BytesIO()
    try:
        torch.save(
            worker, saved
        )  # tensors in one block each; pickle alone would copy them element by element
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"a detector cannot be sent to worker processes ({error}): define its function at the top level of a module, "
            "or leave out --workers, which takes threads instead"
        ) from error
    return WorkerPayload(
        code=_code_digest(),
        worker=saved.getvalue(),
        corruptions=[(pickle.dumps(c), c.fingerprint(worker.settings.engine)) for c in used.values()],
        sample=[(image.path, _file_digest(image.path)) for image in sample],
        shared=shared,
        scorer=pickle.dumps(scorer),
    )


class WorkerRuntime:
    """Runs units in a worker process; a Ray actor is one of these.

    Attributes:
        startup_error: why this process would not compute what the driver does, if so; the outcome of every unit then.
    """

    def __init__(self, payload: WorkerPayload) -> None:
        logging.getLogger("robustbench_sgdm").setLevel(logging.ERROR)  # the driver logs it, once
        self.startup_error: RobustBenchError | None = None
        try:
            self.worker = _load_worker(payload)
        except RobustBenchError as error:
            self.startup_error = error
        self._sample = payload.sample
        self._store = payload.shared.find()
        self._storage_error: RobustBenchError | None = None
        # Pickled until it is needed: it holds the ground truth, and most workers score little.
        self._scorer: CellScorer | bytes = payload.scorer if self._store else b""

    def has_images(self) -> bool:
        """Whether the driver's image files are here too."""
        return all(_file_digest(path) == digest for path, digest in self._sample)

    def run(self, task: Task, contents: Sequence[bytes] = ()) -> UnitResult:
        """Run a unit, from the contents of its image files where this process does not see them, or score a cell.

        What this process cannot store, since it does not see the run directory, is left to the driver.
        """
        if self.startup_error is not None:
            return UnitResult(self.startup_error, batch=sys.maxsize)
        try:
            if isinstance(task, ScoringTask):
                outcome = self._score(task.cell)
            else:
                outcome = self._store_shards(task, self._run_unit(task, contents))
        except RobustBenchError as error:
            outcome = error
        return UnitResult(outcome, self.worker.batch, self._storage_error)

    def _score(self, cell: Cell) -> UnitOutcome:
        if self._store is None:
            return {}
        if isinstance(self._scorer, bytes):
            self._scorer = cast(CellScorer, pickle.loads(self._scorer))  # the driver's own bytes
        self._scorer.score(self._store, cell)
        return Stored()

    def _store_shards(self, unit: WorkUnit, outcome: UnitOutcome) -> UnitOutcome:
        if self._store is None or not isinstance(outcome, dict):
            return outcome
        try:
            for cell, columns in outcome.items():
                self._store.write_shard(cell, unit.shard, columns)
        except TakenOverError:
            raise
        except RobustBenchError as error:  # this node's mount or quota; the driver may well be able to write
            self._store, self._scorer, self._storage_error = None, b"", error
            return outcome
        return Stored()

    def _run_unit(self, unit: WorkUnit, contents: Sequence[bytes]) -> UnitOutcome:
        if not contents:
            return run_unit(self.worker, unit)
        with tempfile.TemporaryDirectory(prefix="robustbench-") as folder:
            images = []
            for image, content in zip(unit.images, contents, strict=True):
                path = Path(folder) / f"{image.id}{image.path.suffix}"
                path.write_bytes(content)
                images.append(replace(image, path=path))
            return run_unit(self.worker, replace(unit, images=images))


def _load_worker(payload: WorkerPayload) -> Worker:
    if payload.code != _code_digest():
        raise RobustBenchError(
            "a worker has another version of robustbench-sgdm, torch, torchvision, ultralytics, opencv-python or "
            "pillow than the driver; install the same on every node"
        )
    worker: Worker = torch.load(io.BytesIO(payload.worker), weights_only=False)  # the driver's own bytes
    if worker.settings.device == "cpu":
        use_one_thread()
    for pickled, fingerprint in payload.corruptions:
        corruption = pickle.loads(pickled)  # raises where its file is missing
        if corruption.fingerprint(worker.settings.engine) != fingerprint:
            raise DataError(
                f"{corruption.path} differs between a worker and the driver; copy it to every node"
            )
    return worker


@cache
def _code_digest() -> str:
    """Changes with every line of the package: the nodes of a cluster must not differ in any."""
    package = Path(robustbench_sgdm.__file__).parent
    digest = hashlib.sha256(inference_version().encode())
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "absent"
