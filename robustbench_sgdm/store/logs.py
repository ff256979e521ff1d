"""Training logs: the `results.csv` that Ultralytics writes, ours or anybody's."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robustbench_sgdm.errors import DataError
from robustbench_sgdm.foreign import read_yaml

LOSSES = ("box", "cls", "dfl")
"""The three losses of an Ultralytics detector, in its order."""


@dataclass(frozen=True)
class Log:
    """One training run's log.

    Attributes:
        model: what was trained; runs of one model differ in their seed.
        path: the `results.csv`.
        frame: one row for each epoch; columns as Ultralytics names them (`train/box_loss`, `metrics/mAP50-95(B)`).
    """

    model: str
    path: Path
    frame: pd.DataFrame


def read_logs(paths: Sequence[Path], split: str = "train") -> list[Log]:
    """Read the logs of training runs, of folders that hold several, or the csv files themselves.

    Args:
        split: `train` or `val`, whose losses each log must have.

    Raises:
        DataError: there is none, or one is damaged or not of an Ultralytics detector.
    """
    files = [file for path in paths for file in _files(path)]
    return [Log(_model(file), file, _read(file, split)) for file in dict.fromkeys(files)]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [path / "results.csv"] if (path / "results.csv").is_file() else sorted(path.glob("*/results.csv"))
    if not found:
        raise DataError(
            f"{path} holds no training log: give the folder of an Ultralytics run (with its results.csv) "
            "or of a comparison, for example runs/train/scenes"
        )
    return found


def _read(file: Path, split: str) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, skipinitialspace=True)
    except Exception as error:
        raise DataError(f"{file} cannot be read as csv: {error}") from error
    frame.columns = frame.columns.str.strip()  # Ultralytics padded its columns with blanks once
    absent = [c for c in ("epoch", *(f"{split}/{loss}_loss" for loss in LOSSES)) if c not in frame]
    if absent:
        raise DataError(
            f"{file} is no log of an Ultralytics detector with {split} losses: no column {absent[0]}"
        )
    try:  # a run that was gone on with elsewhere may have logged an epoch twice
        return frame.astype(float).drop_duplicates("epoch", keep="last", ignore_index=True)
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} holds something else than numbers: {error}") from error


def _model(file: Path) -> str:
    """What our `recipe.yaml` or Ultralytics' `args.yaml` names, else the folder without its seed."""
    for name in ("recipe.yaml", "args.yaml"):
        try:
            content = read_yaml(file.parent / name)
        except DataError:
            continue
        if isinstance(content, dict) and isinstance(named := content.get("model"), str) and named:
            model = Path(named)
            return model.stem if model.suffix in {".pt", ".yaml", ".yml"} else named
    stem = file.parent.name if file.name == "results.csv" else file.stem
    return re.sub(r"[-_]seed\d+$", "", stem)
