"""A comparison's folder: a run for each (model, seed), what each left, and a table of mean and spread."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import yaml

from robustbench_sgdm import atomic
from robustbench_sgdm.detectors import zoo
from robustbench_sgdm.errors import DataError, UsageError
from robustbench_sgdm.foreign import read_yaml
from robustbench_sgdm.scoring import Scores
from robustbench_sgdm.store.checks import read_scores
from robustbench_sgdm.training import checkpoint, record
from robustbench_sgdm.types import METRICS

_RESULT = "result.json"
_RECIPE = "recipe.yaml"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "seed": int,
    "best_epoch": int,
    "seconds": (int, float),
    "batch": int,
    "health": list,
}


@dataclass(frozen=True)
class TrainedRun:
    """One trained detector and where its files are.

    Attributes:
        model: name in the zoo.
        seed: of initial weights, order and augmentation.
        folder: Ultralytics' files (`args.yaml`, `results.csv`, `weights/`) and ours.
        scores: COCO scores on the validation images at the training size, by pycocotools.
        best_epoch: the epoch whose averaged weights were kept, from 1.
        seconds: wall time of training, validation after each epoch included.
        batch: images a step, as it was after halving for want of memory.
        health: what was wrong, a line each; see `training.health`.
    """

    model: str
    seed: int
    folder: Path
    scores: Scores
    best_epoch: int
    seconds: float
    batch: int
    health: tuple[str, ...]

    @property
    def weights(self) -> Path:
        """`best.safetensors`, read by `detectors.weights.read`."""
        return self.folder / "best.safetensors"

    def write(self) -> None:
        """Write `result.json`, which marks the run as finished, and remove the state it could go on from."""
        content = {
            "model": self.model,
            "seed": self.seed,
            "metrics": dict(self.scores.metrics),
            "per_class": dict(self.scores.per_class),
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "batch": self.batch,
            "health": list(self.health),
        }
        atomic.write_json(self.folder / _RESULT, content)
        (self.folder / "weights" / checkpoint.NAME).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The finished run in a folder; None if there is none.

        Raises:
            DataError: its `result.json` is damaged.
        """
        path = folder / _RESULT
        if not path.is_file():
            return None
        found = read_scores(path)
        sound = all(isinstance(found.get(key), kind) for key, kind in _FIELDS.items())
        if not (sound and all(isinstance(line, str) for line in found["health"])):
            raise DataError(f"{path} is damaged; remove it, and --resume trains this run anew")
        scores = Scores(found["metrics"], found["per_class"])
        facts = {key: found[key] for key in _FIELDS} | {"health": tuple(found["health"])}
        return cls(folder=folder, scores=scores, **facts)


def clear(folder: Path) -> None:
    """Remove what an earlier run in a folder could be taken for."""
    checkpoints = [f"weights/{name}" for name in (checkpoint.NAME, "last.pt", "best.pt")]
    for name in (_RESULT, _RECIPE, "results.csv", "health.csv", "best.safetensors", "best.md", *checkpoints):
        (folder / name).unlink(missing_ok=True)


def check_same(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was begun otherwise.

    Args:
        folder: the run's; nothing to check where it has no record.
        facts: what the run would be now, from `record.facts`.

    Raises:
        UsageError: something differs; what and how it can be mended is said, and nothing is touched.
    """
    path = folder / _RECIPE
    if not path.is_file():
        return
    now = yaml.safe_load(record.as_yaml(facts))
    then = read_yaml(path)
    if not (isinstance(then, dict) and isinstance(then.get("versions"), dict)):
        raise DataError(f"{path} is no recipe of a run; give another --name to begin anew")
    kept = f"{folder / 'weights' / 'last.pt'} is kept"
    if old := _difference(then.pop("versions"), now.pop("versions")):
        raise UsageError(
            f"{folder.name} was begun under other versions ({old}), which need not give the same numbers: "
            f"install those to go on, or begin anew under another --name; {kept}"
        )
    if other := _difference(_flat(then), _flat(now)):
        raise UsageError(
            f"{folder.name} was begun otherwise ({other}): give the same options to go on, "
            f"or begin anew under another --name; {kept}"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    return ", ".join(f"{key} {then.get(key)}, now {now.get(key)}" for key in keys[:3])


def write_tables(folder: Path) -> None:
    """Write `runs.csv` and `summary.csv` from every finished run in a comparison's folder."""
    found = [run for path in sorted(folder.glob(f"*/{_RESULT}")) if (run := TrainedRun.read(path.parent))]
    runs = runs_table(found)
    for name, frame in (("runs.csv", runs), ("summary.csv", summary(runs))):
        atomic.write_text(folder / name, frame.to_csv(index=False))


def runs_table(runs: list[TrainedRun]) -> pd.DataFrame:
    """A row for each run: model, seed, the twelve COCO metrics in percent, and how it went."""
    rows = [
        {
            "model": run.model,
            "seed": run.seed,
            **{metric: run.scores.metrics[metric] for metric in METRICS},
            "best_epoch": run.best_epoch,
            "seconds": run.seconds,
            "batch": run.batch,
            "health": "; ".join(run.health) or "ok",
        }
        for run in runs
    ]
    return pd.DataFrame(rows, columns=["model", "seed", *METRICS, "best_epoch", "seconds", "batch", "health"])


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over seeds, a row for each model and metric.

    Columns: `seeds` is how many have the metric; `sd` is the sample's (n - 1), absent for one seed; `difference`
    is the mean over the seeds that both have of model minus baseline, and `difference_sd` its spread.
    """
    rows = []
    for model in dict.fromkeys(runs["model"]):
        baseline = zoo.resolve(model).baseline
        for metric in METRICS:
            table = runs.pivot_table(index="seed", columns="model", values=metric, dropna=False).astype(float)
            values = table[model].dropna()
            pairs = (table[model] - table[baseline]).dropna() if baseline in table else pd.Series(dtype=float)
            rows.append(
                {
                    "model": model,
                    "metric": metric,
                    "seeds": len(values),
                    "mean": values.mean(),
                    "sd": values.std(),
                    "low": values.min(),
                    "high": values.max(),
                    "baseline": baseline if len(pairs) else None,
                    "difference": pairs.mean(),
                    "difference_sd": pairs.std(),
                }
            )
    numbers = ("seeds", "mean", "sd", "low", "high", "baseline", "difference", "difference_sd")
    return pd.DataFrame(rows, columns=["model", "metric", *numbers])
