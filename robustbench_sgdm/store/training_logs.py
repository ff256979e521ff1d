"""Training logs: the `results.csv` that Ultralytics writes, ours or anybody's, and which are seeds of one training."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import read_yaml, short_repr
from robustbench_sgdm.store.csv_files import parse_csv

LOSSES = ("box", "cls", "dfl")
"""The three losses of an Ultralytics detector, in its order."""

_RECORDS = ("recipe.yaml", "args.yaml")  # ours says more than Ultralytics'
_MAX_EPOCHS = 1_000_000
_LONGEST = 24  # characters of a value that tells two lines apart in a legend
# Where a run was made and what it left there, not what was trained.
_PLACES = ("device", "workers", "cache", "project", "name", "save_dir", "exist_ok", "resume")
_OUTPUTS = ("verbose", "plots", "save", "save_period", "save_json", "show")
_OF_A_RUN = ("model", "start", "runs", "seeds", "effective")


@dataclass(frozen=True)
class TrainingLog:
    """One training run's log.

    Attributes:
        model: what was trained.
        path: the `results.csv`.
        frame: one row for each epoch; columns as Ultralytics names them (`train/box_loss`, `metrics/mAP50-95(B)`).
        seed: of the run; None where nothing says.
        record: what decided the run besides its seed, a text for each leaf of the record beside the log; empty where
            there is none.
    """

    model: str
    path: Path
    frame: pd.DataFrame
    seed: int | None = None
    record: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LogGroup:
    """The seeds of one training: runs whose records differ in nothing else.

    Attributes:
        name: the model; where several groups are of it, also what tells this one from them.
        model: what was trained.
        logs: a run for each seed.
    """

    name: str
    model: str
    logs: tuple[TrainingLog, ...]

    @property
    def label(self) -> str:
        """The name, and how many seeds where there are several."""
        return f"{self.name} ({len(self.logs)} seeds)" if len(self.logs) > 1 else self.name

    def losses(self, column: str) -> pd.DataFrame:
        """A column of the logs by epoch, a column for each seed; NaN where a seed lacks the epoch or the column."""
        series = [log.frame.set_index("epoch")[column] for log in self.logs if column in log.frame]
        return pd.concat(series, axis=1) if series else pd.DataFrame()


def read_logs(paths: Sequence[Path], split: str = "train") -> list[TrainingLog]:
    """Read the logs of training runs, of folders that hold several, or the csv files themselves.

    Args:
        split: `train` or `val`, whose losses each log must have.

    Raises:
        DataError: there is none, or one is damaged or not of an Ultralytics detector.
    """
    logs = {file.resolve(): (file, files) for path in paths for file, files in _files(path)}
    return [_log(file, split, files) for file, files in logs.values()]


def group_logs(logs: Sequence[TrainingLog]) -> list[LogGroup]:
    """Put the seeds of one training together, in the order in which trainings first appear.

    Runs are pooled only where both have a record and the records differ in the seed alone: same model, data, classes,
    recipe, epochs, initial weights and versions. A seed that is there twice is not two seeds: runs are then pooled within
    their comparison's folder, or not at all.
    """
    groups: dict[Any, list[TrainingLog]] = {}
    for log in logs:
        groups.setdefault((log.model, *_identity(log)), []).append(log)
    split = [part for group in groups.values() for part in _distinct_seeds(group)]
    names = _names(split)
    return [LogGroup(name, part[0].model, tuple(part)) for name, part in zip(names, split, strict=True)]


def logs_without_record(logs: Iterable[TrainingLog]) -> list[Path]:
    """The logs beside which nothing says what was trained, and that are therefore seeds of no other."""
    return [log.path for log in logs if not log.record and log.path.name == "results.csv"]


def is_same_comparison(one: object, other: object) -> bool:
    """Whether two `recipe.yaml` are of one comparison: they differ in models and seeds, and where they ran, alone.

    Args:
        one: content of a run's or a comparison's file; not necessarily sound.
        other: as `one`.
    """
    return bool(settings := shared_settings(one)) and settings == shared_settings(other)


def shared_settings(content: object) -> dict[str, str]:
    """What runs of one comparison have in common, of the record of one of them or of all: text by path."""
    leaves = _settings(content)
    return {key: value for key, value in leaves.items() if key.split(" ")[0] not in _OF_A_RUN}


def _settings(content: object) -> dict[str, str]:
    """The leaves of a record as text by their path, without the seed and what plays no part in a training."""
    flat = flatten(content) if isinstance(content, dict) else {}
    ours = any(key.startswith("arguments ") for key in flat)
    ignored = {f"arguments {key}" if ours else key for key in (*_PLACES, *_OUTPUTS, "seed")} | {"schema"}
    return {key: value for key, value in flat.items() if key not in ignored}


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """The leaves of a record as text by their path, keys joined by blanks.

    >>> flatten({"a": {"b": 1, "c": "x"}, "d": None})
    {'a b': '1', 'a c': 'x', 'd': 'null'}
    """
    leaves: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        leaves |= flatten(value, f"{name} ") if isinstance(value, dict) else {name: _text(value)}
    return leaves


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, default=str)
    except TypeError:  # a key that JSON lacks, such as a date
        return str(value)


def _files(path: Path) -> list[tuple[Path, SafeDirectory | None]]:
    """The logs, each with the directory that was named; None where the file itself was, which may be any link."""
    if path.is_file():
        return [(path, None)]
    files = SafeDirectory(path)
    logs = [path / "results.csv"]
    if not files.is_file("results.csv"):
        below = [path / name / "results.csv" for name in files.names()]
        logs = [file for file in below if os.path.lexists(file) and files.is_file(file)]
    if not logs:
        raise DataError(
            f"{path} holds no training log: give the folder of an Ultralytics run (with its results.csv) "
            "or of a comparison, for example runs/train/scenes"
        )
    return [(file, files) for file in logs]


def _read(file: Path, split: str, files: SafeDirectory | None) -> pd.DataFrame:
    frame = parse_csv(file, files)
    frame.columns = frame.columns.str.strip()  # Ultralytics padded its columns with blanks once
    absent = [c for c in ("epoch", *(f"{split}/{loss}_loss" for loss in LOSSES)) if c not in frame]
    if absent:
        raise DataError(
            f"{file} is not the log of an Ultralytics detector with {split} losses: no column {absent[0]}"
        )
    try:  # a run that was gone on with elsewhere may have logged an epoch twice
        frame = frame.astype(float).drop_duplicates("epoch", keep="last", ignore_index=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{file} contains text instead of numbers: {short_repr(str(error))}") from error
    if not frame["epoch"].between(0, _MAX_EPOCHS).all():
        raise DataError(f"{file} holds epochs that are not from 0 to {_MAX_EPOCHS:,}")
    return frame


def _log(file: Path, split: str, files: SafeDirectory | None) -> TrainingLog:
    """A log and what the record beside it says: our `recipe.yaml`, or Ultralytics' `args.yaml`."""
    frame = _read(file, split, files)
    for name in _RECORDS if file.name == "results.csv" else ():
        try:
            content = read_yaml(file.parent / name, files=files or SafeDirectory(file.parent))
        except DataError:
            continue
        if isinstance(content, dict) and isinstance(named := content.get("model"), str) and named:
            model, seed = _model(named, file), content.get("seed")
            arguments = content.get("arguments")
            if isinstance(arguments, dict):
                seed = arguments.get("seed")
            leaves = _settings(content)
            start = (
                {"start": re.sub(r"(?<=initialised with seed )\d+", "", leaves["start"])}
                if "start" in leaves
                else {}
            )
            return TrainingLog(model, file, frame, seed if type(seed) is int else None, leaves | start)
    stem = file.parent.name if file.name == "results.csv" else file.stem
    return TrainingLog(re.sub(r"[-_]seed\d+$", "", stem), file, frame)


def _model(named: str, file: Path) -> str:
    """The model that a record names; of a training that Ultralytics resumed, which names `last.pt`, the folder."""
    model = Path(named)
    if model.suffix not in {".pt", ".yaml", ".yml"}:
        return named
    return file.parent.name if model.parts[-2:] == ("weights", "last.pt") else model.stem


def _identity(log: TrainingLog) -> tuple[str, ...]:
    if not log.record or log.seed is None:
        return "log", str(log.path)
    return "record", json.dumps(log.record, sort_keys=True)


def _distinct_seeds(logs: Sequence[TrainingLog]) -> list[list[TrainingLog]]:
    """The logs together if no seed is there twice, else by comparison, else each alone."""
    if len({log.seed for log in logs}) == len(logs):
        return [list(logs)]
    parts: dict[Path, list[TrainingLog]] = {}
    for log in logs:
        parts.setdefault(log.path.parent.parent, []).append(log)
    if len(parts) > 1:
        return [part for group in parts.values() for part in _distinct_seeds(group)]
    return [[log] for log in logs]


def _names(groups: Sequence[Sequence[TrainingLog]]) -> list[str]:
    """The model's name, and in brackets what tells groups of one model apart: what was set otherwise, or the folder."""
    names = []
    for group in groups:
        model = group[0].model
        rivals = [other for other in groups if other[0].model == model]
        if len(rivals) == 1:
            names.append(model)
            continue
        label = (_difference(rivals) or _folders(rivals))[[other is group for other in rivals].index(True)]
        names.append(label if label.startswith(model) else f"{model} ({label})")
    return names


def _difference(groups: Sequence[Sequence[TrainingLog]]) -> list[str] | None:
    """One or two entries of the records that tell all groups apart, in words; None where none do."""
    records = [group[0].record for group in groups]
    if not all(records):
        return None
    keys = [
        key for key in dict.fromkeys(k for r in records for k in r) if len({r.get(key) for r in records}) > 1
    ]
    short = [key for key in keys if all(len(record.get(key, "")) <= _LONGEST for record in records)]
    for count in (1, 2):
        for chosen in combinations(short[:12], count):
            labels = [
                ", ".join(f"{_legend_text(key)} {r.get(key, 'unset')}" for key in chosen) for r in records
            ]
            if len(set(labels)) == len(labels):
                return labels
    return None


def _folders(groups: Sequence[Sequence[TrainingLog]]) -> list[str]:
    """The folder of each group's comparison, or else of its first run: as much of its end as no other one has."""
    places = [group[0].path.parent.parent for group in groups]  # of comparisons
    if len(set(places)) < len(places):
        places = [group[0].path.parent for group in groups]
    most = max(len(place.parts) for place in places)
    ends = ["/".join(place.parts[-1:]) for place in places]
    for count in range(2, most + 1):
        if len(set(ends)) == len(ends):
            break
        ends = ["/".join(place.parts[-count:]) for place in places]
    return ends


def _legend_text(key: str) -> str:
    """A leaf of a record as a legend says it."""
    return "data" if key == "data name" else key.removeprefix("arguments ")
