"""Ultralytics' detection trainer for a network, a data set and a start that we decide."""

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_utils import init_seeds, strip_optimizer

from robustbench_sgdm.modules.dynamic import set_temperature

Event = Callable[["ArmRun"], None]


@dataclass(frozen=True)
class Splits:
    """Image folders with label folders beside them, and the names of the labels."""

    train: Path
    val: Path
    names: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """What Ultralytics makes of a `data.yaml`."""
        return {
            "path": self.train.parent,
            "train": str(self.train),
            "val": str(self.val),
            "names": dict(enumerate(self.names)),
            "nc": len(self.names),
            "channels": 3,
        }


# Ultralytics attaches the loggers that the user's settings name (wandb, TensorBoard, its own platform) to
# every class with "Trainer" in its name. A run here writes files and nothing else, hence this name.
class ArmRun(DetectionTrainer):
    """One run: Ultralytics' loop, our network, our splits; remembers the best averaged weights.

    Args:
        model: the network at its start.
        splits: what it learns from and is validated on.
        overrides: Ultralytics' arguments. `amp="bf16"` works on the CPU too.
        events: Ultralytics callbacks by event name.

    Attributes:
        best_state: averaged (EMA) weights of the epoch with the best validation, on the CPU.
        best_epoch: that epoch, from 1.
    """

    # Ultralytics' class makes these None and fills them in as it goes.
    model: Any
    ema: Any
    metrics: Any
    tloss: Any

    def __init__(
        self, model: nn.Module, splits: Splits, overrides: Mapping[str, Any], events: Mapping[str, Event]
    ) -> None:
        self._splits = splits
        arguments = dict(overrides)
        # Ultralytics allows bfloat16 on CUDA only; on the CPU `preprocess_batch` switches it on.
        self._bfloat16 = arguments.get("amp") == "bf16" and str(arguments.get("device")) == "cpu"
        if self._bfloat16:
            arguments["amp"] = False
            _channels_last(model)
        super().__init__(overrides=arguments)
        self.model = model
        self.best_state: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.add_callback("on_train_start", _reseed)
        self.add_callback("on_train_epoch_start", _anneal)
        self.add_callback("on_model_save", _remember_best)
        for event, function in events.items():
            self.add_callback(event, function)

    def get_dataset(self) -> dict[str, Any]:
        """The splits as given: nothing is looked up, and no font is fetched to draw their names."""
        return self._splits.described()

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ultralytics' own, then bfloat16 where this run asked for it on the CPU."""
        batch = super().preprocess_batch(batch)
        if self._bfloat16:
            # The trainer calls this inside its autocast context, which it has just switched off for the CPU
            # and which restores the state outside at its end.
            torch.set_autocast_dtype("cpu", torch.bfloat16)
            torch.set_autocast_enabled("cpu", True)
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    def get_dataloader(self, *arguments: Any, **options: Any) -> Any:
        """Ultralytics' own, without the progress bars of its caches, which its verbosity does not reach."""
        with contextlib.redirect_stdout(io.StringIO()):
            return super().get_dataloader(*arguments, **options)

    def final_eval(self) -> None:
        """Strip the checkpoints of the optimiser; the best weights are scored by COCO's rules elsewhere."""
        for checkpoint in (self.last, self.best):
            if checkpoint.exists():
                strip_optimizer(checkpoint)


def _channels_last(model: nn.Module) -> None:
    """A fifth faster in bfloat16 on the CPU. Convolutions only: an SGDM's bank of kernels has five axes."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)


def _reseed(run: ArmRun) -> None:
    """Building two networks draws different amounts of randomness; augmentation starts equal after this."""
    init_seeds(run.args.seed, deterministic=run.args.deterministic)  # type: ignore[no-untyped-call]


def _anneal(run: ArmRun) -> None:
    """Lower the attention's temperature over ten epochs, or so that a shorter run's last epoch is at 1."""
    span = min(10, run.epochs - 1)
    for model in (run.model, run.ema.ema):  # Ultralytics averages buffers too
        set_temperature(model, run.epoch if span else 1, max(span, 1))


def _remember_best(run: ArmRun) -> None:
    if run.best_fitness == run.fitness:
        run.best_epoch = run.epoch + 1
        state = run.ema.ema.state_dict()
        run.best_state = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items()}
