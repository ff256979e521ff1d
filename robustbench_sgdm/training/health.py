"""Whether a run is well: enough steps, finite losses, gradients that reach the module, kernels that stay dynamic.

A row of `health.csv` for each pass over the training images; columns `<quantity>/<layer>` for each inserted module:

| column | meaning |
|---|---|
| `steps`, `rate` | optimiser steps in the epoch, and the largest learning rate among them |
| `loss`, `finite` | the epoch's mean training loss; 1 if it and every step's gradients were numbers |
| `gradient` | norm of the module's gradient over the whole network's, mean over the steps |
| `gamma` | mean absolute weight of its last BatchNorm: 0 is a module that adds nothing |
| `entropy` | of the kernel attention, over log K: 1 is all K kernels alike, 0 is one kernel alone |
| `spread` | standard deviation of the kernel attention over images, over its mean: 0 is the same for every image |
| `modulation` | mean distance of the spatial attention from 1, which changes nothing |
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from robustbench_sgdm.modules import MODULES
from robustbench_sgdm.modules.dynamic import DynamicConv
from robustbench_sgdm.modules.rdconv import Attention
from robustbench_sgdm.modules.sgdm import StaticGuided
from robustbench_sgdm.training import training_state
from robustbench_sgdm.training.trainer import Callback

VANISHED = 1e-6
"""Share of the gradient below which a step drowns in float32's rounding of the others (2^-24 is 6e-8)."""
COLLAPSED = 0.1
"""Entropy over log K below which one of four kernels has a weight above 0.97."""
MIN_STEPS = 100
"""Optimiser steps below which a score says nothing of a model; Ultralytics long warmed up for no fewer."""
STATIC = 1e-3
"""Spread and modulation below which an attention is the same for every image."""


@dataclass
class HealthMonitor:
    """Watches a run through Ultralytics' callbacks and writes `health.csv` in its folder."""

    _inputs: dict[int, Tensor] = field(default_factory=dict, init=False)
    _shares: list[Tensor] = field(default_factory=list, init=False)
    _rates: list[float] = field(default_factory=list, init=False)

    def events(self) -> dict[str, Callback]:
        """Callbacks by the name of Ultralytics' event."""
        return {
            "on_train_start": self._hook,
            "on_train_epoch_start": self._clear,
            "on_before_zero_grad": self._gradients,
            "on_train_epoch_end": self._write,
        }

    def _hook(self, run: Any) -> None:
        for place, layer in inserted_modules(unwrap_model(run.model)).items():
            layer.register_forward_pre_hook(lambda _, inputs, place=place: self._keep(place, inputs[0]))

    def _keep(self, place: int, x: Tensor) -> None:
        if len(x) > 1 or place not in self._inputs:  # a spread needs two images
            self._inputs[place] = x.detach()

    def _clear(self, _: Any) -> None:
        self._inputs, self._shares, self._rates = {}, [], []

    def _gradients(self, run: Any) -> None:
        """Norms (1 + modules,): of the whole network and of each module. Left on the device, so nothing waits."""
        network = unwrap_model(run.model)
        parts = [network, *inserted_modules(network).values()]
        self._shares.append(torch.stack([_norm(part) for part in parts]))
        self._rates.append(max(float(group["lr"]) for group in run.optimizer.param_groups))

    def _write(self, run: Any) -> None:
        if RANK > 0:
            return
        loss = sum(float(part) for part in run.tloss.values())
        modules = inserted_modules(unwrap_model(run.model))
        norms = torch.stack(self._shares).double().cpu() if self._shares else torch.zeros(0, 1 + len(modules))
        # Under a loss scale that is too high the first steps overflow and are skipped: no fault of the run.
        finite = math.isfinite(loss) and bool(norms.isfinite().all() or run.scaler.is_enabled())
        row: dict[str, float] = {"epoch": run.epoch + 1, "steps": len(self._rates)}
        row |= {"rate": max(self._rates, default=0.0), "loss": loss, "finite": float(finite)}
        shares = (norms[:, 1:] / norms[:, :1])[norms.isfinite().all(1)].mean(0)
        for (place, layer), share in zip(modules.items(), shares, strict=True):
            row[f"gradient/{place}"] = float(share)
            if isinstance(layer, StaticGuided):
                row[f"gamma/{place}"] = float(layer.bn.weight.detach().abs().mean())
            row |= {
                f"{name}/{place}": value
                for name, value in attention_statistics(layer, self._inputs.get(place)).items()
            }
        with training_state.files_of(run).open(Path(run.save_dir) / "health.csv", "a+b") as file:
            begins = not os.fstat(file.fileno()).st_size
            file.write(pd.DataFrame([row]).to_csv(header=begins, index=False, float_format="%.6g").encode())


def inserted_modules(model: nn.Module) -> dict[int, nn.Module]:
    """The modules of `MODULES` in an Ultralytics model, by layer."""
    kinds = tuple(spec.cls for spec in MODULES.values())
    layers = enumerate(model.get_submodule("model").children())
    return {place: layer for place, layer in layers if isinstance(layer, kinds)}


def _norm(part: nn.Module) -> Tensor:
    gradients = [p.grad for p in part.parameters() if p.grad is not None]
    if not gradients:
        return next(part.parameters()).new_zeros(())
    total: Tensor = torch.linalg.vector_norm(torch.stack([*torch._foreach_norm(gradients)]))
    return total


@torch.no_grad()
def attention_statistics(layer: nn.Module, x: Tensor | None) -> dict[str, float]:
    """`entropy`, `spread` and `modulation` of a module's attention for x (B, c, H, W), as far as it has them."""
    conv = layer.rd if isinstance(layer, StaticGuided) else layer
    if x is None or not isinstance(conv, DynamicConv):
        return {}
    training = conv.training
    conv.eval()  # an attention's own BatchNorm must not learn from this
    attention: Any = conv.get_submodule("").attention(x[:, : conv.channels].float())  # type: ignore[operator]
    conv.train(training)
    kernel = attention if isinstance(attention, Tensor) else getattr(attention, "kernel", None)
    measured: dict[str, float] = {}
    if kernel is not None and kernel.shape[1] > 1:
        share = kernel / kernel.sum(1, keepdim=True)
        measured["entropy"] = float(torch.special.entr(share).sum(1).mean()) / math.log(kernel.shape[1])
        if len(kernel) > 1:
            measured["spread"] = float((kernel.std(0) / kernel.mean(0)).mean())
    if isinstance(attention, Attention):
        measured["modulation"] = float((attention.spatial - 1).abs().mean())
    return measured


def diagnose_log(table: pd.DataFrame) -> list[str]:
    """What is wrong with how a run went, a line each; none if all is well.

    Args:
        table: its `health.csv`.
    """
    problems = []
    steps = int(table["steps"].sum())
    if not steps:
        problems.append("no optimiser step was taken: lower nbs, or train on more images or for more epochs")
    elif not table["rate"].any():
        problems.append(f"the learning rate was 0 in all {steps} optimiser steps: the weights did not change")
    elif steps < MIN_STEPS:
        problems.append(
            f"{steps} optimiser step{'s' * (steps > 1)}, too few to judge a model; at least {MIN_STEPS} are needed"
        )
    if bad := _epochs_in_words(table, table["finite"] == 0):
        problems.append(f"loss or gradients were not finite in {bad}")
    names = [str(name) for name in table]
    for place in sorted({int(name.rpartition("/")[2]) for name in names if "/" in name}):
        column = {name.partition("/")[0]: table[name] for name in names if name.endswith(f"/{place}")}
        if bad := _epochs_in_words(table, column["gradient"] < VANISHED):
            problems.append(f"layer {place}: the module's gradients vanished in {bad}")
        if "entropy" in column and (bad := _epochs_in_words(table, column["entropy"] < COLLAPSED)):
            problems.append(f"layer {place}: the attention collapsed to one kernel in {bad}")
        if {"spread", "modulation"} <= column.keys():
            still = (column["spread"] < STATIC) & (column["modulation"] < STATIC)
            if bad := _epochs_in_words(table, still):
                problems.append(f"layer {place}: the kernels were the same for every image in {bad}")
    return problems


def diagnose_run(images: int, batch: int, objects: int, ap: float | None) -> list[str]:
    """What a run lacked, a line each; none if it had enough.

    Args:
        images: in the training split.
        batch: images a step.
        objects: in the validation split, of the classes that are learned.
        ap: AP of the kept weights in percent; None where nothing could be scored.
    """
    problems = []
    if images < batch:
        problems.append(
            f"{images} training image{'s' * (images != 1)}, fewer than a batch of {batch}: every step saw all of them"
        )
    if not objects:
        problems.append(
            "the validation images contain no object: nothing is scored, and no epoch is better than another"
        )
    elif not ap:
        problems.append("AP is 0: the weights find no object in the validation images")
    return problems


def _epochs_in_words(table: pd.DataFrame, where: "pd.Series[bool]") -> str:
    """The epochs in words: `epoch 3`, `epochs 1, 2`, `5 epochs, 3 to 9`; empty for none."""
    numbers = [int(n) for n in dict.fromkeys(table["epoch"][where])]
    if len(numbers) > 3:
        return f"{len(numbers)} epochs, {numbers[0]} to {numbers[-1]}"
    return f"epoch{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}" if numbers else ""
