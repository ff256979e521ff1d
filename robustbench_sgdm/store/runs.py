"""Run directories: `manifest.json`, `cells/`, `results.csv` and what is computed and drawn from them."""

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd

from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError, unknown_name_error
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.versions import inference_version, scoring_version
from robustbench_sgdm.store.cells import CellStore, KnownScores
from robustbench_sgdm.store.csv_files import read_csv
from robustbench_sgdm.store.ground_truth import GroundTruth
from robustbench_sgdm.store.locks import exclusive_lock, is_locked
from robustbench_sgdm.store.schema import FIRST_MANIFEST, MANIFEST, Cell, Manifest

_RESULTS_SCHEMA = 1  # of the columns of `results.csv`, which change more seldom than manifests

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

_COMPARISON = ("baseline", "group", "seed")  # what a manifest says of a model that no cell depends on
_SEED = re.compile(r"seed[-_]?(\d{1,10})(?!\d)")
_PATIENCE = 10.0  # seconds for another process to claim a directory


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        path: the directory.
        manifest: everything needed to do the run again, and its cells with their keys.
        baseline: what all others are compared with, in place of the manifest's own pairs; a name of `groups`.
    """

    path: Path
    manifest: Manifest = field(repr=False)
    baseline: str | None = None
    _files: SafeDirectory | None = field(default=None, repr=False, compare=False)
    _known_scores: KnownScores = field(default_factory=dict, repr=False, compare=False)

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
        files = SafeDirectory(path)
        try:
            name = next((name for name in (MANIFEST, FIRST_MANIFEST) if files.is_file(name)), None)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if name is None:
            raise DataError(f"{path} is not a run directory: it has no {MANIFEST}")
        run = cls(path, Manifest.read(path / name, files), _files=files)
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
    def create_or_resume(
        cls,
        project: Path,
        name: str,
        manifest: Manifest,
        *,
        ground_truth: GroundTruth | None = None,
        exist_ok: bool = False,
    ) -> Self:
        """Make the directory of a manifest, or find the one where the same cells were begun before.

        The same cells resume. Other ones under a taken name get the next free name (`name2`, `name3`), or with
        `exist_ok` the same directory, whose fitting cells are kept.

        Args:
            ground_truth: of the manifest's data, kept in the directory; statistics need it.
        """
        if not name or Path(name).name != name or name.startswith("."):
            raise UsageError(f"--name {name!r} must be a plain folder name")
        for number in itertools.count(1):
            path = project / (name if number == 1 else f"{name}{number}")
            if _has_cells(path, manifest) or _claim(path, manifest, exist_ok):
                break
        run = cls.open(path)._with_comparison(manifest)
        if ground_truth is not None:
            ground_truth.write(path / "ground_truth", manifest.data.fingerprint, run.files)
        return run

    def _with_comparison(self, manifest: Manifest) -> Self:
        """The run with the comparisons of a manifest that has the same cells; the directory keeps them."""
        models = {
            name: model.model_copy(
                update={part: getattr(manifest.models[name], part) for part in _COMPARISON}
            )
            for name, model in self.manifest.models.items()
            if name in manifest.models
        }
        changed = self.manifest.model_copy(update={"models": {**self.manifest.models, **models}})
        if changed == self.manifest:
            return self
        with exclusive_lock(self.path):
            changed.write(MANIFEST, self.files)
        return replace(self, manifest=changed)

    def with_shifts(self, shifts: Mapping[str, str]) -> Self:
        """The run with these shifts, names of run directories beside it; the directory keeps them. Call it locked."""
        if dict(shifts) == self.manifest.shifts:
            return self
        changed = self.manifest.model_copy(update={"shifts": dict(shifts)})
        changed.write(MANIFEST, self.files)
        return replace(self, manifest=changed)

    def open_shifts(self) -> tuple[dict[str, "Run"], dict[str, str]]:
        """The runs on shifted data by the shift's name; and for those that cannot be read, why."""
        runs: dict[str, Run] = {}
        reasons: dict[str, str] = {}
        for name, folder in self.manifest.shifts.items():
            try:
                runs[name] = Run.open(self.path.absolute().parent / folder)  # the parent of "." is "."
            except DataError as error:
                reasons[name] = str(error)
        return runs, reasons

    def ground_truth(self) -> GroundTruth:
        """The ground truth of the run's images.

        Raises:
            DataError: the run keeps none, or a file is damaged.
        """
        return GroundTruth.read(self.path / "ground_truth", self.manifest.data.fingerprint, self.files)

    @property
    def store(self) -> CellStore:
        """The cells' store."""
        return CellStore(self.path / "cells", self.files, self._known_scores)

    def statistics_folder(self, cell: Cell) -> Path:
        """Where what was computed from a cell is kept; it can be computed again."""
        return self.path / "statistics" / cell.folder

    @property
    def cells(self) -> Sequence[Cell]:
        """The planned cells, in order."""
        return self.manifest.cells

    @property
    def groups(self) -> dict[str, list[str]]:
        """The networks, each with its trainings: models of one group in the manifest, or a model by itself."""
        groups: dict[str, list[str]] = {}
        for name, model in self.manifest.models.items():
            groups.setdefault(model.group or name, []).append(name)
        return groups

    @property
    def seeds(self) -> dict[str, int]:
        """The training seed of each model: the manifest's, or as `train` names its folders (`yolov8n-seed0`)."""
        seeds = {}
        for name, model in self.manifest.models.items():
            named = _SEED.search(name)
            if model.seed is not None:
                seeds[name] = model.seed
            elif named:
                seeds[name] = int(named[1])
        return seeds

    @property
    def baseline_pairs(self) -> list[tuple[str, str]]:
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
    def has_default_baseline(self) -> bool:
        """Whether nothing says what is compared with what, so that the first model is the others' baseline."""
        return self.baseline is None and not self._planned_pairs

    @property
    def _planned_pairs(self) -> list[tuple[str, str]]:
        """The pairs that the manifest names; names of `groups`."""
        group_of = {model: group for group, members in self.groups.items() for model in members}
        pairs = [
            (group_of[model.baseline], group_of[name])
            for name, model in self.manifest.models.items()
            if model.baseline in group_of
        ]
        return list(dict.fromkeys(pair for pair in pairs if pair[0] != pair[1]))

    @property
    def training_pairs(self) -> list[tuple[str, str]]:
        """The single trainings that `baseline_pairs` compare; see `match_trainings`."""
        return [trained for pair in self.baseline_pairs for trained in self.match_trainings(*pair)]

    def match_trainings(self, baseline: str, model: str) -> list[tuple[str, str]]:
        """(of baseline, of model) of two networks of `groups`: those of the same seed, or else the first ones."""
        sides = self.groups[baseline], self.groups[model]
        return match_seeds(*sides, self.seeds) or [(sides[0][0], sides[1][0])]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Work on the run alone; the system frees the lock with the process, however it ends.

        Raises:
            RobustBenchError: another process works on it, or has put other cells there.
        """
        with exclusive_lock(self.path):
            # --exist-ok of another process, before the lock was ours.
            if not _has_cells(self.path, self.manifest):
                raise RobustBenchError(
                    f"{self.path} was given other cells meanwhile; run the same command again"
                )
            yield

    def missing_cells(self) -> list[Cell]:
        """Planned cells that are not complete."""
        return [c for c in self.cells if not self.store.is_complete(c)]

    def results(self) -> pd.DataFrame:
        """One row per complete cell; metrics in percent, empty where the ground truth has no such object.

        `psnr` (dB) and `ssim` are those of `read_image_quality`, empty where that was not measured.
        """
        measured = self.read_image_quality()
        quality = {
            (corruption, severity): (psnr, ssim)
            for corruption, severity, psnr, ssim in zip(
                *(measured[c].tolist() for c in IMAGE_QUALITY[:4]), strict=True
            )
        }
        rows = [self._row(cell, quality) for cell in self.cells if self.store.is_complete(cell)]
        return pd.DataFrame(rows, columns=list(RESULTS)).astype(dict.fromkeys(METRICS, float))

    def _row(self, cell: Cell, quality: Mapping[tuple[str, float], tuple[float, float]]) -> dict[str, Any]:
        psnr, ssim = quality.get((cell.corruption, cell.severity), (None, None))
        data, settings = self.manifest.data, self.manifest.settings
        corruption = self.manifest.corruptions.get(cell.corruption)
        metrics = self.store.read_scores(cell).metrics
        return {
            "schema": _RESULTS_SCHEMA,
            "data": data.name,
            "images": data.images,
            "model": cell.model,
            "corruption": cell.corruption,
            "severity": cell.severity,
            "strength": corruption.strengths.get(f"{cell.severity:g}", "") if corruption else "",
            "psnr": psnr,
            "ssim": ssim,
            "engine": settings.engine,
            "seed": settings.seed,
            **{m: metrics[m] for m in METRICS},
            "key": cell.key,
        }

    def write_results(self) -> Path:
        """Write `results.csv` from the complete cells; an equal one stays as it is, with its time: see `is_outdated`."""
        path, text = self.path / "results.csv", escaping.csv(self.results())
        content = text.encode()
        if not (self.files.is_file(path) and self.files.read_bytes(path, len(content) + 1) == content):
            self.files.write_text(path, text)
        return path

    def is_outdated(self, name: str) -> bool:
        """Whether a file that was made of the results, such as `report.html`, is older than they or the manifest are."""
        own, *sources = (self.files.stat(one) for one in (name, "results.csv", MANIFEST))
        return own is not None and any(one is not None and own.st_mtime < one.st_mtime for one in sources)

    def write_latency(self, frame: pd.DataFrame) -> Path:
        """Write `latency.csv`; columns as `read_latency` returns them."""
        path = self.path / "latency.csv"
        self.files.write_text(path, escaping.csv(frame))
        return path

    def read_latency(self) -> pd.DataFrame:
        """How long one image takes each model: model, milliseconds, ratio, low, high, device.

        `ratio` is over the first model's time in the same round, with its 95 % interval from `low` to `high`;
        no rows where the run was not timed.
        """
        numbers = dict.fromkeys(("milliseconds", "ratio", "low", "high"), "float64")
        return read_csv(self.path / "latency.csv", dict.fromkeys(LATENCY, "object") | numbers, self.files)

    def read_image_quality(self) -> pd.DataFrame:
        """PSNR and SSIM of some of the run's images under its corruptions; no rows where they were not measured.

        Columns: corruption, severity, psnr (dB; infinite where an image stayed as it was), ssim, both means over
        `images` of them, and a key of all they depend on.
        """
        texts = dict.fromkeys(("corruption", "key"), "object")
        kinds = dict.fromkeys(IMAGE_QUALITY, "float64") | texts | {"images": "int64"}
        return read_csv(self.path / "image_quality.csv", kinds, self.files)

    def write_image_quality(self, frame: pd.DataFrame) -> None:
        """Write `image_quality.csv`; columns as `read_image_quality` returns them."""
        self.files.write_text("image_quality.csv", escaping.csv(frame))


def match_seeds(
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


def is_run(path: Path) -> bool:
    """Whether a directory has a manifest, whatever it holds, also of an earlier version."""
    # Not `exists`: a link that leads nowhere is to be reported.
    return any(os.path.lexists(path / name) for name in (MANIFEST, FIRST_MANIFEST))


def describe_state(run: Run) -> tuple[str, int]:
    """What of a run is complete, partial or outdated, in words; and how many of its cells are complete."""
    done = len(run.cells) - len(run.missing_cells())
    state = "complete" if done == len(run.cells) else "partial"
    complete = [cell for cell in run.cells if run.store.is_complete(cell)]
    if run.manifest.inference not in ("", inference_version()):
        state = f"{state}, outdated: made by other versions"
    elif old := sum(run.store.is_outdated(cell) for cell in run.cells):
        state = f"{state}, {old} cells outdated"
    elif any(run.store.has_outdated_scores(cell, scoring_version()) for cell in complete):
        state = f"{state}, scores outdated"
    return state, done


def list_runs(project: Path) -> list[Path]:
    """The run directories directly below a folder, oldest first; those of earlier versions too.

    The age is that of the manifest: the directory's own changes with every report and everything that is cached in it.
    """
    runs = []
    for path in project.iterdir() if project.is_dir() else ():
        for name in (MANIFEST, FIRST_MANIFEST):
            if os.path.lexists(path / name):
                with contextlib.suppress(OSError):  # removed meanwhile
                    runs.append(((path / name).lstat().st_mtime, path.name, path))
                break
    return [path for *_, path in sorted(runs)]


def _claim(path: Path, manifest: Manifest, exist_ok: bool) -> bool:
    """Write a manifest into a directory that can take it.

    Returns:
        Whether it is there now, put by this process or by another one that was started with it at the same moment.
    """
    until, failures = time.monotonic() + _PATIENCE, 0
    while exist_ok or _can_take(path, manifest):
        try:
            with exclusive_lock(path):
                if _has_cells(path, manifest):
                    return True
                # Still: no process has claimed it before the lock was ours.
                if exist_ok or _can_take(path, manifest):
                    manifest.model_copy(update={"name": path.name}).write(MANIFEST, SafeDirectory(path))
                    return True
        except RobustBenchError:
            failures = 0 if is_locked(path) else failures + 1  # one: the lock may have been freed in between
            if failures > 1 or time.monotonic() > until:
                raise
            time.sleep(0.05)
        if _has_cells(path, manifest):
            return True
    return False


def _can_take(path: Path, manifest: Manifest) -> bool:
    """Whether a directory can take a manifest: it has none, because it was lost or a process was killed before.

    Whatever cells are in it must be the manifest's, so that none is lost.
    """
    if not path.exists():
        return True
    files = SafeDirectory(path)
    if files.is_file(MANIFEST):
        is_lost = _is_torn(files)
    else:
        is_lost = path.is_dir() and all(name == "cells" or name.startswith(".") for name in files.names())
    store = CellStore(path / "cells", files)
    return is_lost and not any(store.is_outdated(cell) for cell in manifest.cells)


def _is_torn(files: SafeDirectory) -> bool:
    """Whether a manifest was cut short; anything else that `Run.open` refuses is somebody's, or of another version."""
    try:
        content = files.read_bytes(MANIFEST, Manifest.most_bytes + 1)
        if len(content) <= Manifest.most_bytes:
            json.loads(content)
    except (ValueError, RecursionError):
        return True
    except OSError:
        return False
    return False


def _has_cells(path: Path, manifest: Manifest) -> bool:
    """Whether a directory is the run of exactly these cells."""
    try:
        return Run.open(path).cells == manifest.cells
    except DataError:
        return False
