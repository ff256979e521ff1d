"""Ultralytics' detection trainer for a network, a data set and a start that we decide, and that can be resumed."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils.callbacks import get_default_callbacks
from ultralytics.utils.torch_utils import init_seeds

from robustbench_sgdm.core.errors import UsageError, unknown_name_error
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.seeding import derive_seed
from robustbench_sgdm.core.untrusted_input import read_yaml
from robustbench_sgdm.modules.dynamic import set_temperature
from robustbench_sgdm.training import training_state
from robustbench_sgdm.training.augmentation import CorruptionAugmentation

Callback = Callable[[Any], None]
Callbacks = defaultdict[str, list[Callback]]

LOGGERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
"""Ultralytics' loggers, attached where a user names them."""


@dataclass(frozen=True)
class SplitFolders:
    """Image folders with label folders beside them, and the names of the labels."""

    train: Path
    val: Path
    names: tuple[str, ...]

    def write(self, path: Path) -> None:
        """An Ultralytics dataset YAML, which the trainer reads, in this process or a spawned one."""
        content = {
            "path": str(self.train.parent),
            "train": str(self.train),
            "val": str(self.val),
            "names": dict(enumerate(self.names)),
        }
        SafeDirectory(path.parent).write_text(
            path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        )


def make_callbacks(loggers: Iterable[str], events: Iterable[Mapping[str, Callback]]) -> Callbacks:
    """Ultralytics' own callbacks, those of the named loggers, and `events` by Ultralytics' names.

    Raises:
        UsageError: an unknown logger, or one whose package is not installed.
    """
    registered: Callbacks = get_default_callbacks()  # type: ignore[no-untyped-call]
    for name in loggers:
        if name not in LOGGERS:
            raise unknown_name_error("logger", name, LOGGERS)
        module = import_module(f"ultralytics.utils.callbacks.{'wb' if name == 'wandb' else name}")
        if not module.callbacks:
            raise UsageError(f"logger {name} needs its package: pip install {_PACKAGES.get(name, name)}")
        events = [*events, module.callbacks]
    for group in events:
        for event, function in group.items():
            registered[event].append(function)
    return registered


_PACKAGES = {"raytune": "'ray[tune]'", "comet": "comet-ml", "dvc": "dvclive"}


# Ultralytics attaches the loggers that the user's settings name (wandb, TensorBoard, its own platform) to
# every class with "Trainer" in its name. A run here sends nothing that was not asked for, hence this name.
class ReproducibleTraining(DetectionTrainer):
    """One run: Ultralytics' loop, our network (`run.model = ...`), the splits that `args.data` describes.

    Its arguments are those of Ultralytics' trainer, because a process spawned for a further GPU builds it anew
    from them and from pickled callbacks. Every random draw of an epoch follows from (seed, epoch, rank), and
    the whole state is saved after each epoch: a run that is started again in its folder ends as if it had
    never stopped, bit for bit where a step takes one batch (else the gradients of a step that spans two epochs
    are lost).

    Args:
        cfg: Ultralytics' defaults.
        overrides: Ultralytics' arguments. `amp="bf16"` works on the CPU too.
        _callbacks: from `make_callbacks`.

    Attributes:
        noise: corrupts training images; None for none.
        requested_batch: the batch size before Ultralytics halved it for want of memory.
    """

    # Ultralytics' class makes these None and fills them in as it goes.
    model: Any
    optimizer: Any
    ema: Any
    metrics: Any
    tloss: Any
    noise: CorruptionAugmentation | None = None
    seconds_before = 0.0

    def __init__(
        self,
        cfg: Any = DEFAULT_CFG,
        overrides: dict[str, Any] | None = None,
        _callbacks: Callbacks | None = None,
    ) -> None:
        arguments = dict(overrides or {})
        # Ultralytics allows bfloat16 on CUDA only; on the CPU `preprocess_batch` switches it on.
        self._bfloat16 = arguments.get("amp") == "bf16" and str(arguments.get("device")) == "cpu"
        if self._bfloat16:
            arguments["amp"] = False
        super().__init__(cfg, arguments, _callbacks)
        self.requested_batch = self.batch_size
        self._batches = 0
        self.add_callback("on_train_start", _continue_clock)
        self.add_callback("on_train_epoch_start", _start_epoch)

    @property
    def state_file(self) -> Path:
        """Where the whole state lies after each epoch."""
        return Path(self.wdir) / training_state.STATE_FILE

    def get_dataset(self) -> dict[str, Any]:
        """The splits as given: nothing is looked up, and no font is fetched to draw their names."""
        path = Path(self.args.data)
        described: dict[str, Any] = read_yaml(path, files=SafeDirectory(path.parent))
        return {**described, "nc": len(described["names"]), "channels": 3}

    def setup_model(self) -> Any:
        """As Ultralytics', for a network that is given."""
        if self._bfloat16:
            _channels_last(self.model)
        return super().setup_model()  # type: ignore[no-untyped-call]

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Noise, Ultralytics' own, then bfloat16 where this run asked for it on the CPU."""
        if self.noise:
            pixels = batch["img"].to(self.device)
            batch["img"] = self.noise(pixels, self.args.seed, self.epoch, self._batches, max(RANK, 0))
        self._batches += 1
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

    def optimizer_step(self) -> None:
        """As Ultralytics', after its event `on_before_zero_grad`, which it declares and does not run."""
        self.run_callbacks("on_before_zero_grad")
        super().optimizer_step()  # type: ignore[no-untyped-call]

    def save_model(self) -> bool:
        """As Ultralytics', each file whole or absent; then the whole state."""
        kept = self.last, self.best
        self.last, self.best = (path.with_name(f".{path.name}") for path in kept)
        drafts = self.last, self.best
        try:
            saved = bool(super().save_model())  # type: ignore[no-untyped-call]
        finally:
            self.last, self.best = kept
        files = training_state.files_of(self)
        for draft, path in reversed(list(zip(drafts, kept, strict=True))):
            if files.is_file(draft):
                files.rename(draft, path.name)
        training_state.save_state(self, self.state_file)
        return saved

    def resume_training(self, ckpt: Any) -> None:
        """Go on from the state in this folder, where there is one."""
        super().resume_training(ckpt)  # type: ignore[no-untyped-call]
        if training_state.files_of(self).is_file(self.state_file):
            training_state.restore_state(self, self.state_file)

    def final_eval(self) -> None:
        """Nothing: the best weights are scored by COCO's rules elsewhere."""


def _channels_last(model: nn.Module) -> None:
    """A fifth faster in bfloat16 on the CPU. Convolutions only: what else has four axes is no image."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)


def _continue_clock(run: ReproducibleTraining) -> None:
    """Let the times in `results.csv` go on where an interrupted run left them."""
    run.train_time_start -= run.seconds_before


def _start_epoch(run: ReproducibleTraining) -> None:
    """Draw everything that is random in an epoch from (seed, epoch, rank), and anneal the attention.

    Then all models see the same images whatever they drew before, and so does a resumed run. The temperature falls over
    ten epochs, or so that a shorter run's last epoch is at 1.
    """
    run._batches = 0
    draw = derive_seed(run.args.seed, "epoch", run.epoch, max(RANK, 0))
    init_seeds(draw % 2**32, deterministic=run.args.deterministic)  # type: ignore[no-untyped-call]
    run.train_loader.generator.manual_seed(draw)
    run.train_loader.reset()
    span = min(10, run.epochs - 1)
    for model in (run.model, run.ema.ema):  # Ultralytics averages buffers too
        set_temperature(model, run.epoch if span else 1, max(span, 1))
