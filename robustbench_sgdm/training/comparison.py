"""A comparison's folder: a run for each (model, seed), what each left, and a table of mean and spread."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import yaml

from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import MAX_NAME_BYTES, read_yaml, short_list, short_repr
from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.scoring import Scores
from robustbench_sgdm.store.schema import ComparisonRecipe, Recipe, TrainingResult
from robustbench_sgdm.store.training_logs import flatten, is_same_comparison, shared_settings
from robustbench_sgdm.training import model_card, training_state

_RESULT = "result.json"
_RECIPE = "recipe.yaml"


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
        """`best.safetensors`, which `load_detector` reads."""
        return self.folder / "best.safetensors"

    def write(self) -> None:
        """Write `result.json`, which marks the run as finished, and remove the state it could go on from."""
        files = SafeDirectory(self.folder.parent)
        result = TrainingResult(
            model=self.model,
            seed=self.seed,
            metrics=dict(self.scores.metrics),
            per_class=dict(self.scores.per_class),
            best_epoch=self.best_epoch,
            seconds=self.seconds,
            batch=self.batch,
            health=self.health,
        )
        result.write(self.folder / _RESULT, files)
        files.unlink(self.folder / "weights" / training_state.STATE_FILE)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The finished run in a folder; None if there is none.

        Raises:
            DataError: its `result.json` is damaged.
        """
        path, files = folder / _RESULT, SafeDirectory(folder.parent)
        if not files.is_file(path):
            return None
        result = TrainingResult.read(path, files)
        return cls(
            model=result.model,
            seed=result.seed,
            folder=folder,
            scores=Scores(result.metrics, result.per_class),
            best_epoch=result.best_epoch,
            seconds=result.seconds,
            batch=result.batch,
            health=result.health,
        )


def clear_run_folder(folder: Path) -> None:
    """Remove what an earlier run in a comparison's folder could be taken for."""
    files = SafeDirectory(folder.parent)
    checkpoints = [f"weights/{name}" for name in (training_state.STATE_FILE, "last.pt", "best.pt")]
    for name in (_RESULT, _RECIPE, "results.csv", "health.csv", "best.safetensors", "best.md", *checkpoints):
        files.unlink(folder / name)


def run_name(model: str, seed: int) -> str:
    """The folder of a run within its comparison: a model's options without their brackets.

    >>> run_name("yolov8n-sgdm[razor=0.25]", 1)
    'yolov8n-sgdm_razor_0.25-seed1'
    """
    plain = "".join(c if c.isalnum() or c in "-._" else "_" for c in model).strip("_")
    return f"{plain}-seed{seed}"


def check_names(models: Iterable[str]) -> None:
    """Refuse models whose runs would share a folder.

    Raises:
        UsageError: names two.
    """
    taken: dict[str, str] = {}
    for model in models:
        if (other := taken.setdefault(run_name(model, 0).lower(), model)) != model:
            raise UsageError(f"{other} and {model} would share a folder; rename one of the files")


def check_resumable(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse to go on with a run, or with a comparison, that was started with other options.

    Args:
        folder: the run's or the comparison's; nothing to check where it has no record.
        metadata: what the record would be now, from `model_card.run_metadata`.

    Raises:
        UsageError: something differs; the message says what and how to fix it; nothing is touched.
    """
    path, files = folder / _RECIPE, SafeDirectory(folder.parent if "model" in metadata else folder)
    if not files.is_file(path):
        return
    leaves = flatten if "model" in metadata else shared_settings
    new = yaml.safe_load(model_card.as_yaml(metadata))
    then, now = (
        leaves(recipe.model_dump()) for recipe in (Recipe.read(path, files), Recipe.parse(new, path))
    )
    then = {key: value for key, value in then.items() if not key.startswith("effective ")}
    if "init" not in then:
        now.pop("init", None)  # an earlier version said it in `start` alone
    changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    last = folder / "weights" / "last.pt"
    kept = f"{last} is kept" if files.is_file(last) else "its files are kept"
    if old := [key for key in changed if key.startswith("versions ")]:
        raise UsageError(
            f"{folder.name} was started with other versions ({_in_words(old, then, now)}), which may give other "
            f"numbers: install those to resume, or start again under another --name; {kept}"
        )
    if changed:
        raise UsageError(
            f"{folder.name} was started with other options ({_in_words(changed, then, now)}): give the same options "
            f"to resume, or start again under another --name; {kept}"
        )


def _in_words(keys: list[str], then: Mapping[str, str], now: Mapping[str, str]) -> str:
    return ", ".join(
        f"{key.removeprefix('versions ')} {then.get(key)}, now {now.get(key)}" for key in keys[:3]
    )


def read_plan(folder: Path) -> list[tuple[str, int]]:
    """Which (model, seed) a comparison is of, finished or not, in order of model, then seed.

    Raises:
        DataError: the folder is no comparison's.
    """
    path, files = folder / _RECIPE, SafeDirectory(folder)
    content = read_recipe(folder) if files.is_file(path) else {}
    if isinstance(content.get("model"), str):
        raise DataError(f"{folder} is one run of a comparison; give the comparison's folder, {folder.parent}")
    if "runs" not in content:
        raise DataError(
            f"{folder} is not a comparison that `robustbench train` made: no {_RECIPE} there says which models and seeds "
            "it is of; give its folder, for example runs/train/scenes"
        )
    pairs = ComparisonRecipe.parse(content, path).pairs
    if odd := [pair for pair in pairs if not _is_valid_folder_name(*pair)]:
        raise DataError(
            f"{path} is not valid: it plans model {short_repr(odd[0][0])}, too long a name for its folder"
        )
    return pairs


def _is_valid_folder_name(model: str, seed: int) -> bool:
    """Whether file systems can have the run's folder."""
    return len(run_name(model, seed).encode()) <= MAX_NAME_BYTES


def write_recipe(folder: Path, metadata: Mapping[str, Any], runs: Iterable[tuple[str, int]]) -> None:
    """Write a comparison's `recipe.yaml` before its first run begins: what its runs share, and which are planned.

    Runs planned before in the folder stay planned where they are of the same comparison.
    """
    seeds: dict[str, list[int]] = {}
    for model, seed in [*_planned_before(folder, metadata), *runs]:
        if seed not in seeds.setdefault(model, []):
            seeds[model].append(seed)
    SafeDirectory(folder).write_text(_RECIPE, model_card.as_yaml({"runs": seeds, **metadata}))


def _planned_before(folder: Path, metadata: Mapping[str, Any]) -> list[tuple[str, int]]:
    try:
        same = is_same_comparison(read_recipe(folder), yaml.safe_load(model_card.as_yaml(metadata)))
        return read_plan(folder) if same else []
    except DataError:  # none, or damaged: it is written anew
        return []


def unfinished_runs(folder: Path) -> list[str]:
    """The planned runs of a comparison that have no result yet, in words; none where the folder is no comparison's."""
    files = SafeDirectory(folder)
    try:
        plan = read_plan(folder)
    except DataError:
        return []
    return [
        f"{model} seed {seed}"
        for model, seed in plan
        if not files.is_file(folder / run_name(model, seed) / _RESULT)
    ]


def read_comparison(folder: Path) -> list[TrainedRun]:
    """The runs of a finished comparison, in order of model, then seed, as they were planned.

    Args:
        folder: of the comparison, such as `runs/train/scenes`.

    Raises:
        DataError: the folder is no comparison's, a run in it is damaged, or some have no result yet: which ones, and how
            to finish them.
    """
    plan = read_plan(folder)
    if absent := unfinished_runs(folder):
        raise DataError(
            f"{folder} is not finished: {len(absent)} of its {len(plan)} runs have no result yet "
            f"({short_list(absent, 5)}); "
            f"finish it with the command that began it and --resume --name {folder.name}"
        )
    done = [run for model, seed in plan if (run := TrainedRun.read(folder / run_name(model, seed)))]
    for run, pair in zip(done, plan, strict=True):
        if (run.model, run.seed) != pair:
            raise DataError(
                f"{run.folder / _RESULT} is of {short_repr(run.model)} seed {run.seed}, not of {pair[0]} seed {pair[1]}; "
                "remove it, and --resume trains this run again"
            )
        if not SafeDirectory(folder).is_file(run.weights):
            raise DataError(
                f"{run.weights} is missing: remove {_RESULT} beside it, and --resume trains this run again"
            )
    return done


def read_recipe(folder: Path, files: SafeDirectory | None = None) -> dict[str, Any]:
    """The `recipe.yaml` of a run or of a comparison; empty where it holds something else.

    Args:
        folder: of the run or the comparison.
        files: of the comparison that a run is part of.

    Raises:
        DataError: it is missing or damaged.
    """
    content = read_yaml(folder / _RECIPE, files=files or SafeDirectory(folder))
    return content if isinstance(content, dict) else {}


def write_tables(folder: Path) -> list[str]:
    """Write `runs.csv` and `summary.csv` from every finished run in a comparison's folder that is part of it.

    Returns:
        Folders of finished runs that are not, trained on other data or with another recipe.
    """
    files = SafeDirectory(folder)
    whole = read_recipe(folder)
    parts: list[TrainedRun] = []
    others: list[TrainedRun] = []
    for path in (folder / name for name in files.names()):
        if os.path.lexists(path / _RESULT) and (run := TrainedRun.read(path)):
            own = files.is_file(path / _RECIPE)
            is_part = own and is_same_comparison(read_recipe(path, files), whole)
            (parts if is_part else others).append(run)
    runs = runs_table(parts)
    for name, frame in (("runs.csv", runs), ("summary.csv", summarize_runs(runs))):
        files.write_text(name, escaping.csv(frame))
    return [run.folder.name for run in others]


def runs_table(runs: Sequence[TrainedRun]) -> pd.DataFrame:
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


def summarize_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over seeds, a row for each model and metric.

    Columns: `seeds` is how many have the metric; `sd` is the sample's (n - 1), absent for one seed; `difference`
    is the mean over the seeds that both have of model minus baseline, and `difference_sd` its spread.
    """
    rows = []
    for model in dict.fromkeys(runs["model"]):
        baseline = zoo.resolve_model(model).baseline
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
