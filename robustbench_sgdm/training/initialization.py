"""The networks of a comparison at their start: what they share, they start from equal."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors.ultralytics import graft, layer_settings, yolov5, zoo
from robustbench_sgdm.detectors.ultralytics.architecture import QUERY_HEAD
from robustbench_sgdm.detectors.ultralytics.weights import Weights
from robustbench_sgdm.modules import MODULES
from robustbench_sgdm.training.batchnorm import restore_statistics


@dataclass(frozen=True)
class InitializedModel:
    """A detector about to be trained.

    Attributes:
        name: in the zoo.
        config: the model YAML that rebuilds it.
        model: the network at its start.
        start: how that start came about, one line.
        note: what a user should know of it, a sentence; empty for nothing.
    """

    name: str
    config: dict[str, Any]
    model: nn.Module
    start: str
    note: str = ""


def check_trainable(name: str) -> None:
    """Refuse a detector that cannot be trained here.

    Raises:
        UsageError: no such detector, or Ultralytics' detection trainer has no loss for its head.
    """
    kind = zoo.head_name(zoo.resolve_model(name).base_model)
    if kind == yolov5.ANCHOR_HEAD:
        raise UsageError(yolov5.UNTRAINABLE)
    if kind == QUERY_HEAD:
        raise UsageError(f"{name} ends in {kind}, whose loss only Ultralytics' own RTDETR(...).train() has")


def initialize_model(
    name: str, classes: Sequence[str], seed: int, init: Weights | None = None, pictures: Iterable[Tensor] = ()
) -> InitializedModel:
    """Bring a detector to its start: from a seed alone, or from a baseline's weights.

    A grafted one gets every tensor it shares with its baseline from the baseline's start. From a seed its
    module begins with BatchNorm weights (`gamma`) of 1, as its paper trains from scratch; from weights with
    0, so that the model starts as exactly its baseline's function. `name[gamma=...]` decides otherwise. A module without
    `gamma`, such as CBAM, begins at its own initial values; the model then says that it starts as another function.

    Args:
        name: of the zoo, options in brackets allowed; or the path of a model YAML.
        classes: class names, in the order of the labels.
        seed: decides every initial value; the caller's random state is left as it was.
        init: of the baseline; its classification branch is dropped where the classes differ.
        pictures: float (B, 3, H, W) in [0, 1], to restore the statistics of folded BatchNorms from.

    Raises:
        UsageError: no such detector, module or option, or weights of another detector.
    """
    entry = zoo.resolve_model(name)
    spec = MODULES[entry.module] if entry.module else None
    is_identity = init is not None and spec is not None and spec.can_start_as_identity
    options = {"gamma": 0.0} if is_identity and "gamma" not in entry.options else {}
    with _seed_torch(seed):
        model = zoo.build_model(name, len(classes), classes, **options)
    baseline = model
    if entry.baseline:
        with _seed_torch(seed):
            baseline = zoo.build_model(entry.baseline, len(classes), classes)
    start = f"{entry.baseline or name} initialised with seed {seed}"
    if init:
        moved = graft.transfer_weights(
            init.state, baseline, layers=init.layers, new_classes=init.classes != tuple(classes)
        )
        restore_statistics(baseline, pictures)
        start += f", then {init.path.name} (sha256 {init.sha256}): {moved.summary()}"
    if entry.baseline:
        layers = layer_settings.from_network(baseline.get_submodule("model"))
        moved = graft.transfer_weights(baseline.state_dict(), model, layers=layers)
        start += f"; grafted: {moved.summary()}"
    note = ""
    if init and spec and not spec.can_start_as_identity:
        start += f"; {spec.name} at its own initial values"
        note = (
            f"{name} starts from {init.path.name} where it shares tensors with {entry.baseline}, but not as the same "
            f"function: {spec.name} cannot start as the identity"
        )
    return InitializedModel(name, zoo.model_config(name, len(classes), **options), model.train(), start, note)


@contextmanager
def _seed_torch(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
