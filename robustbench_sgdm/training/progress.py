"""How far a training run is, and when it will be done."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ultralytics.utils import RANK

from robustbench_sgdm.training.trainer import Callback, ReproducibleTraining


@dataclass(frozen=True)
class TrainingProgress:
    """The state of one run after a batch, or after an epoch's validation.

    Attributes:
        model: its name.
        epoch: from 1.
        epochs: how many there will be.
        batch: batches of this epoch that are done.
        batches: batches in an epoch.
        seconds: since the first batch of the run.
        seconds_left: estimate of the seconds to the end of this training.
        loss: the epoch's mean so far.
        map50_95: Ultralytics' own mAP50-95 in percent after validation; None between batches.
    """

    model: str
    epoch: int
    epochs: int
    batch: int
    batches: int
    seconds: float
    seconds_left: float
    loss: float
    map50_95: float | None

    def __str__(self) -> str:
        score = "" if self.map50_95 is None else f"  mAP50-95 {self.map50_95:.1f}"
        left = (
            f"{self.seconds_left / 60:.0f} min" if self.seconds_left >= 90 else f"{self.seconds_left:.0f} s"
        )
        return f"{self.model}  epoch {self.epoch}/{self.epochs}  loss {self.loss:.2f}{score}  {left} left"


ProgressFunction = Callable[[TrainingProgress], None]


@dataclass
class ProgressCallback:
    """Turns Ultralytics' events of one run into `TrainingProgress`."""

    model: str
    report: ProgressFunction
    _start: float = field(default=0.0, init=False)
    _batch: int = field(default=0, init=False)

    def events(self) -> dict[str, Callback]:
        """Callbacks by the name of Ultralytics' event."""
        return {
            "on_train_start": self._begin,
            "on_train_epoch_start": self._new_epoch,
            "on_train_batch_end": self._batch_end,
            "on_fit_epoch_end": self._epoch_end,
        }

    def _begin(self, _: ReproducibleTraining) -> None:
        self._start = time.perf_counter()

    def _new_epoch(self, _: ReproducibleTraining) -> None:
        self._batch = 0

    def _batch_end(self, run: ReproducibleTraining) -> None:
        self._batch += 1
        if RANK <= 0:  # of several processes, the first one tells
            self._tell(run, None)

    def _epoch_end(self, run: ReproducibleTraining) -> None:
        if RANK <= 0:
            self._tell(run, 100 * float(run.metrics["metrics/mAP50-95(B)"]))

    def _tell(self, run: ReproducibleTraining, score: float | None) -> None:
        batches = len(run.train_loader)
        done = (run.epoch - run.start_epoch) * batches + self._batch
        seconds = time.perf_counter() - self._start
        left = seconds / done * ((run.epochs - run.epoch) * batches - self._batch)
        loss = sum(float(part) for part in run.tloss.values())
        self.report(
            TrainingProgress(
                self.model, run.epoch + 1, run.epochs, self._batch, batches, seconds, left, loss, score
            )
        )
