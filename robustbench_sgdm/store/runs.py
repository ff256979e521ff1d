"""Run directories: `plan.yaml`, `cells/`, `results.csv` and what is drawn from them."""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd
import yaml

from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError, unknown_name_error
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import read_yaml, short_repr
from robustbench_sgdm.store.cells import Cell, CellStore
from robustbench_sgdm.store.checks import check_cell, check_names, check_plan, read_csv
from robustbench_sgdm.store.locks import alone, held
from robustbench_sgdm.store.truth import GroundTruth

SCHEMA = 1
"""Version of the run directory's layout and column names."""

RESULTS = (
    *("schema", "data", "images", "model", "corruption", "severity", "strength", "psnr", "ssim"),
    *("engine", "seed"),
    *METRICS,
    "key",
)
"""Columns of `results.csv`."""

LATENCY = ("model", "milliseconds", "ratio", "low", "high", "device")
"""Columns of `latency.csv`."""

IMAGE_QUALITY = ("corruption", "severity", "psnr", "ssim", "images", "key")
"""Columns of `image_quality.csv`."""

_COMPARED = ("baseline", "group", "seed")  # what a plan says of a model that no cell depends on
_SEED = re.compile(r"seed[-_]?(\d{1,10})(?!\d)")
_PATIENCE = 10.0  # seconds for another process to claim a directory


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        path: the directory.
        plan: `plan.yaml`: everything needed to do the run again, and its cells with their keys.
        baseline: what all others are compared with, in place of the plan's own pairs; a name of `groups`.
    """

    path: Path
    plan: Mapping[str, Any]
    baseline: str | None = None
    _files: SafeDirectory | None = field(default=None, repr=False, compare=False)

    @property
    def files(self) -> SafeDirectory:
        """The directory's files, which are opened, written and removed in no other way."""
        return self._files or SafeDirectory(self.path)

    @classmethod
    def open(cls, path: Path, *, baseline: str | None = None) -> Self:
        """Open a run directory to read it.

        Args:
            path: the directory.
            baseline: see `against`.

        Raises:
            DataError: not a run directory, damaged, or of another schema.
            UsageError: a baseline that the run does not have.
        """
        file, files = path / "plan.yaml", SafeDirectory(path)
        try:
            is_run = files.is_file(file)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if not is_run:
            raise DataError(f"{path} is not a run directory: it has no plan.yaml")
        plan = read_yaml(file, files=files)
        found = plan.get("schema") if isinstance(plan, dict) else None
        if found != SCHEMA:
            raise DataError(
                f"{file} has schema {short_repr(found)}, this version reads {SCHEMA}; run again under another --name"
            )
        check_plan(plan, file)
        run = cls(path, plan, _files=files)
        _ = run.cells  # refuses damaged ones
        return run.against(baseline) if baseline else run

    def against(self, baseline: str) -> Self:
        """The same run, with every other network compared with this one.

        Raises:
            UsageError: the run has no such network, or no other.
        """
        groups = self.groups
        if baseline not in groups:
            raise unknown_name_error("baseline", baseline, groups)
        if len(groups) == 1:
            raise UsageError(
                f"--baseline {baseline} is the only model of {self.path}; there is nothing to compare"
            )
        return replace(self, baseline=baseline)

    @classmethod
    def start(
        cls,
        project: Path,
        name: str,
        plan: Mapping[str, Any],
        *,
        truth: GroundTruth | None = None,
        exist_ok: bool = False,
    ) -> Self:
        """Make the directory of a plan, or find the one where the same plan was started before.

        The same plan goes on where it stopped. Another plan under a taken name gets the next free one
        (`name2`, `name3`), or with `exist_ok` the same directory, whose fitting cells are kept.

        Args:
            truth: of the plan's data, kept in the directory; statistics need it.
        """
        if not name or Path(name).name != name or name.startswith("."):
            raise UsageError(f"--name {name!r} must be a plain folder name")
        for number in itertools.count(1):
            path = project / (name if number == 1 else f"{name}{number}")
            if _same_plan(path, plan) or _claimed(path, plan, exist_ok):
                break
        run = cls.open(path)._with_comparison(plan)
        if truth is not None:
            truth.write(path / "ground_truth", plan["data"]["fingerprint"], run.files)
        return run

    def _with_comparison(self, plan: Mapping[str, Any]) -> Self:
        """The run with the comparisons of a plan that has the same cells; the directory keeps them."""
        models = {
            name: {k: v for k, v in about.items() if k not in _COMPARED}
            | {k: v for k, v in plan["models"].get(name, {}).items() if k in _COMPARED}
            for name, about in self.plan["models"].items()
        }
        if models == self.plan["models"]:
            return self
        content = {**self.plan, "models": models}
        with alone(self.path):
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            self.files.write_text("plan.yaml", text)
        return replace(self, plan=content)

    def truth(self) -> GroundTruth:
        """The ground truth of the run's images.

        Raises:
            DataError: the run keeps none, or a file is damaged.
        """
        data = str(self.plan["data"].get("fingerprint"))
        return GroundTruth.read(self.path / "ground_truth", data, self.files)

    @property
    def store(self) -> CellStore:
        """The cells' store."""
        return CellStore(self.path / "cells", self.files)

    def statistics(self, cell: Cell) -> Path:
        """The folder of what was computed from a cell and can be made again."""
        return self.path / "statistics" / cell.folder

    @property
    def cells(self) -> list[Cell]:
        """The planned cells, in order.

        Raises:
            DataError: an entry is damaged or would lie outside the run directory.
        """
        try:
            cells = [
                Cell(str(c["model"]), str(c["corruption"]), float(c["severity"]) + 0.0, str(c["key"]))
                for c in self.plan["cells"]
            ]
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise DataError(
                f"{self.path / 'plan.yaml'} lists a damaged cell ({short_repr(error)})"
            ) from error
        file = self.path / "plan.yaml"
        check_names(self.plan["models"], {cell.corruption for cell in cells}, file)
        for cell in cells:
            check_cell(cell, file)
            if cell.model not in self.plan["models"]:
                raise DataError(
                    f"{file} lists a cell of {short_repr(cell.model)}, which it does not describe"
                )
        if len({cell.folder for cell in cells}) != len(cells):
            raise DataError(f"{file} lists a cell twice")
        return cells

    @property
    def groups(self) -> dict[str, list[str]]:
        """The networks, each with its trainings: models that the plan calls one group, or a model by itself."""
        found: dict[str, list[str]] = {}
        for name, about in self.plan["models"].items():
            found.setdefault(about.get("group") or name, []).append(name)
        return found

    @property
    def seeds(self) -> dict[str, int]:
        """The training seed of each model: the plan's, or as `train` names its folders (`yolov8n-seed0`)."""
        found = {}
        for name, about in self.plan["models"].items():
            named = _SEED.search(name)
            if "seed" in about or named:
                found[name] = int(about.get("seed", named and named[1]))
        return found

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(baseline, model) of the networks that are compared; names of `groups`.

        Every one with `baseline` where that is set; else a module variant with its own baseline; else, where none
        is known, all with the first one.
        """
        if self.baseline is None and (planned := self._planned_pairs):
            return planned
        groups = self.groups
        first = self.baseline or next(iter(groups), "")
        return [(first, name) for name in groups if name != first]

    @property
    def first_is_baseline(self) -> bool:
        """Whether nothing says what is compared with what, so that the first model is the others' baseline."""
        return self.baseline is None and not self._planned_pairs

    @property
    def _planned_pairs(self) -> list[tuple[str, str]]:
        """The pairs that the plan names; names of `groups`."""
        group_of = {m: group for group, members in self.groups.items() for m in members}
        models: Mapping[str, Mapping[str, Any]] = self.plan["models"]
        known = [
            (group_of[m["baseline"]], group_of[n]) for n, m in models.items() if m.get("baseline") in models
        ]
        return list(dict.fromkeys(pair for pair in known if pair[0] != pair[1]))

    @property
    def trained_pairs(self) -> list[tuple[str, str]]:
        """The single trainings that `pairs` compare; see `trainings`."""
        return [trained for pair in self.pairs for trained in self.trainings(*pair)]

    def trainings(self, baseline: str, model: str) -> list[tuple[str, str]]:
        """(of baseline, of model) of two networks of `groups`: those of the same seed, or else the first ones."""
        sides = self.groups[baseline], self.groups[model]
        return same_seeds(*sides, self.seeds) or [(sides[0][0], sides[1][0])]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Work on the run alone; the system frees the lock with the process, however it ends.

        Raises:
            RobustBenchError: another process works on it, or has put another plan there.
        """
        with alone(self.path):
            if not _same_plan(self.path, self.plan):
                raise RobustBenchError(f"{self.path} was given another plan meanwhile; start again")
            yield

    def missing(self) -> list[Cell]:
        """Planned cells that are not complete."""
        return [c for c in self.cells if not self.store.complete(c)]

    def results(self) -> pd.DataFrame:
        """One row per complete cell; metrics in percent, empty where the ground truth has no such object.

        `psnr` (dB) and `ssim` are those of `damage`, empty where that was not measured.
        """
        measured = self.image_quality()
        damage = {
            (corruption, severity): (psnr, ssim)
            for corruption, severity, psnr, ssim in zip(
                *(measured[c].tolist() for c in IMAGE_QUALITY[:4]), strict=True
            )
        }
        rows = [self._row(cell, damage) for cell in self.cells if self.store.complete(cell)]
        return pd.DataFrame(rows, columns=list(RESULTS)).astype(dict.fromkeys(METRICS, float))

    def _row(self, cell: Cell, damage: Mapping[tuple[str, float], tuple[float, float]]) -> dict[str, Any]:
        psnr, ssim = damage.get((cell.corruption, cell.severity), (None, None))
        metrics = self.store.scores(cell)["metrics"]
        strengths = self.plan["corruptions"].get(cell.corruption, {}).get("strengths", {})
        return {
            "schema": SCHEMA,
            "data": self.plan["data"]["name"],
            "images": self.plan["data"]["images"],
            "model": cell.model,
            "corruption": cell.corruption,
            "severity": cell.severity,
            "strength": strengths.get(f"{cell.severity:g}", ""),
            "psnr": psnr,
            "ssim": ssim,
            "engine": self.plan["settings"]["engine"],
            "seed": self.plan["settings"]["seed"],
            **{m: metrics[m] for m in METRICS},
            "key": cell.key,
        }

    def write_results(self) -> Path:
        """Write `results.csv` from the complete cells."""
        path = self.path / "results.csv"
        self.files.write_text(path, escaping.csv(self.results()))
        return path

    def write_latency(self, frame: pd.DataFrame) -> Path:
        """Write `latency.csv`; columns as `latency` returns them."""
        path = self.path / "latency.csv"
        self.files.write_text(path, escaping.csv(frame))
        return path

    def latency(self) -> pd.DataFrame:
        """How long one image takes each model: model, milliseconds, ratio, low, high, device.

        `ratio` is over the first model's time in the same round, with its 95 % interval from `low` to `high`;
        no rows where the run was not timed.
        """
        numbers = dict.fromkeys(("milliseconds", "ratio", "low", "high"), "float64")
        return read_csv(self.path / "latency.csv", dict.fromkeys(LATENCY, "object") | numbers, self.files)

    def image_quality(self) -> pd.DataFrame:
        """What the corruptions did to some of the run's images; no rows where that was not measured.

        Columns: corruption, severity, psnr (dB; infinite where an image stayed as it was), ssim, both means over
        `images` of them, and a key of all they depend on.
        """
        texts = dict.fromkeys(("corruption", "key"), "object")
        kinds = dict.fromkeys(IMAGE_QUALITY, "float64") | texts | {"images": "int64"}
        return read_csv(self.path / "image_quality.csv", kinds, self.files)

    def write_image_quality(self, frame: pd.DataFrame) -> None:
        """Write `image_quality.csv`; columns as `damage` reads them."""
        self.files.write_text("image_quality.csv", escaping.csv(frame))


def same_seeds(
    baseline: Sequence[str], model: Sequence[str], seeds: Mapping[str, int]
) -> list[tuple[str, str]]:
    """The trainings (of baseline, of model) of the same seed; none where a network has a seed twice.

    Args:
        baseline: trainings of one network.
        model: those of the other, whose order counts.
        seeds: of trainings, where known.
    """
    sides = [[m for m in side if m in seeds] for side in (baseline, model)]
    theirs, ours = ({seeds[m]: m for m in side} for side in sides)
    if len(theirs) < len(sides[0]) or len(ours) < len(sides[1]):
        return []
    return [(theirs[seed], m) for seed, m in ours.items() if seed in theirs]


def list_runs(project: Path) -> list[Path]:
    """The run directories directly below a folder, oldest first."""
    found = []
    for path in project.iterdir() if project.is_dir() else ():
        if os.path.lexists(path / "plan.yaml"):  # a link that leads nowhere is to be told of
            with contextlib.suppress(OSError):  # removed meanwhile
                found.append((path.stat().st_mtime, path.name, path))
    return [path for *_, path in sorted(found)]


def _claimed(path: Path, plan: Mapping[str, Any], exist_ok: bool) -> bool:
    """Write a plan into a directory that can take it; whether it is there now, by this process or by one as quick."""
    until, failed = time.monotonic() + _PATIENCE, 0
    while exist_ok or _free(path, plan):
        try:
            with alone(path):
                if _same_plan(path, plan):
                    return True
                if exist_ok or _free(path, plan):  # not taken meanwhile
                    content = {"schema": SCHEMA, "name": path.name, **plan}
                    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
                    SafeDirectory(path).write_text("plan.yaml", text)
                    return True
        except RobustBenchError:
            failed = 0 if held(path) else failed + 1  # once: it was let go meanwhile
            if failed > 1 or time.monotonic() > until:
                raise
            time.sleep(0.05)
        if _same_plan(path, plan):
            return True
    return False


def _free(path: Path, plan: Mapping[str, Any]) -> bool:
    """Whether a directory can take a plan: it has none, because it was lost or the process was before it wrote one.

    Whatever cells are in it must be the plan's, so that none is lost.
    """
    if not path.exists():
        return True
    files = SafeDirectory(path)
    store = CellStore(path / "cells", files)
    if not files.is_file("plan.yaml"):
        lost = path.is_dir() and all(name == "cells" or name.startswith(".") for name in files.names())
    else:
        lost = _torn(files)
    return lost and not any(store.stale(Cell(**cell)) for cell in plan["cells"])


def _torn(files: SafeDirectory) -> bool:
    """Whether a plan was cut short; anything else that `Run.open` refuses is somebody's, or of another version."""
    try:
        text, plan = files.read_text("plan.yaml"), read_yaml(files.path / "plan.yaml", files=files)
    except (ValueError, DataError):
        return True
    except OSError:
        return False
    return not text.endswith("\n") or not isinstance(plan, dict) or ("schema" in plan and "cells" not in plan)


def _same_plan(path: Path, plan: Mapping[str, Any]) -> bool:
    try:
        return bool(Run.open(path).plan["cells"] == plan["cells"])
    except DataError:
        return False
