"""Turns predictions and scores of other programs into the cells of a run, like any others."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_sgdm.config import ScoringConfig
from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.pickled_arrays import ArrayReader, read_pickle
from robustbench_sgdm.core.pickles import require_type
from robustbench_sgdm.core.progress import make_counter
from robustbench_sgdm.core.untrusted_input import read_yaml, short_repr
from robustbench_sgdm.core.versions import installed_versions, scoring_version
from robustbench_sgdm.corruption import CorruptionRegistry, split_parts
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.scoring import PICKLE_SUFFIXES, Predictions, Scorer
from robustbench_sgdm.store import Cell, Manifest, ModelInfo, Run, Settings, cell_key, is_run
from robustbench_sgdm.sweep.cell_scoring import rescore_cell, score_cell
from robustbench_sgdm.sweep.metadata import corruption_info, dataset_info, ground_truth

EXTERNAL = "elsewhere"
"""The engine of images that another program corrupted."""

# mmdetection's name: ours
_MMDETECTION = dict(
    zip(
        ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
        METRICS,
        strict=True,
    )
)
# (low, high): low <= high for every detector.
_UPPER_BOUNDS = (("AP", "AP50"), ("AP75", "AP50"), ("AR1", "AR10"), ("AR10", "AR100"))
# Strengths such as [sigma=0.15] are part of a name.
_ASSIGNMENT = re.compile(r"((?:[^=\[]|\[[^\]]*\])*)=(.*)", re.DOTALL)
_MAX_CELLS = 10_000  # of nested results: a pickle can share them so that a small file has no end
_ROUNDING = 0.11  # percent; mmdetection rounds fractions to three digits


@dataclass(frozen=True)
class PredictionSource:
    """What a file holds of one corruption and severity.

    Attributes:
        corruption: its name as given, or `clean`.
        severity: 0 to 5; 0 is clean whatever the corruption.
        path: the file.
        metrics: scores in percent, if the file has scores instead of predictions; None for a metric without objects.
    """

    corruption: str
    severity: float
    path: Path
    metrics: Mapping[str, float | None] | None = None


def discover_predictions(source: str) -> list[PredictionSource]:
    """Find the files of one source.

    Args:
        source: `CORRUPTION@SEVERITY=FILE` or `clean=FILE`; or a folder with `CORRUPTION/SEVERITY/*.json` or
            `CORRUPTION/SEVERITY.json`, and `clean.json` or `clean/*.json`, as `robustbench corrupt` lays it out, or
            `.pkl` of mmdetection in their places; or a json, YAML or pickle of mmdetection's nested results,
            `{corruption: {severity: {bbox: {AP: ...}}}}`.

    Raises:
        UsageError: another form.
        DataError: a file or folder that is missing or has other contents.
    """
    if "=" in source and not Path(source).exists():
        assignment = _ASSIGNMENT.fullmatch(source)
        name, file = assignment.groups() if assignment else ("", "")
        corruption, at, severity = name.rpartition("@") if name != CLEAN else (CLEAN, "", "0")
        if not corruption or (corruption == CLEAN) == bool(at):
            raise UsageError(f"{source!r} is neither CORRUPTION@SEVERITY=FILE nor {CLEAN}=FILE")
        *others, last = split_parts(corruption)
        if others and not {"@", "["} & set(last) and all("@" in other or "[" in other for other in others):
            raise UsageError(
                f"{source!r} can be read in two ways: all parts have a severity of their own (write {name}@1={file}), or "
                f"{corruption} is at severity {severity} (put the file at {corruption}/{severity}.json in a folder, and "
                "name the folder)"
            )
        return [PredictionSource(corruption, _severity(severity, source), Path(file))]
    path = Path(source)
    if path.is_dir():
        return _scan_folder(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    return _mmdetection(path)


def unread_files(source: str, sources: Sequence[PredictionSource]) -> list[Path]:
    """The files of predictions in a folder that `discover_predictions` ignores, without hidden ones and annotations."""
    root, used = Path(source), {one.path for one in sources}
    if not root.is_dir():
        return []
    suffixes = {".json", *PICKLE_SUFFIXES}
    unused = (p for p in root.rglob("*") if p.suffix.lower() in suffixes and p not in used)
    return sorted(
        p
        for p in unused
        if not any(map(_is_hidden, parts := p.relative_to(root).parts)) and "annotations" not in parts
    )


def _scan_folder(root: Path) -> list[PredictionSource]:
    sources = [PredictionSource(CLEAN, 0.0, path) for path in _prediction_files(root) if path.stem == CLEAN]
    for folder in _subfolders(root):
        below = _subfolders(folder)
        if folder.name == CLEAN:
            zero = [path for each in below if each.name == "0" for path in _prediction_files(each)]
            sources += [
                PredictionSource(CLEAN, 0.0, path) for path in sorted([*_prediction_files(folder), *zero])
            ]
            continue
        for path in sorted(
            [*_prediction_files(folder), *(path for each in below for path in _prediction_files(each))]
        ):
            level = path.stem if path.parent == folder else path.parent.name
            sources.append(PredictionSource(folder.name, _severity(level, str(path)), path))
    if not sources:
        raise DataError(
            f"{root} has no predictions: put them into CORRUPTION/SEVERITY/*.json or CORRUPTION/SEVERITY.json, and those "
            f"of clean images into {CLEAN}.json"
        )
    return sources


def _prediction_files(folder: Path) -> list[Path]:
    """The json files of a folder; mmdetection's pickles where it has none, as mmdetection may write both."""
    files = sorted(p for p in folder.iterdir() if not _is_hidden(p.name))
    jsons = [p for p in files if p.suffix.lower() == ".json"]
    return jsons or [p for p in files if p.suffix.lower() in PICKLE_SUFFIXES]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _is_hidden(p.name))


def _is_hidden(name: str) -> bool:
    """Files of systems and editors: .DS_Store, ._clean.json, .ipynb_checkpoints, __MACOSX."""
    return name.startswith(".") or name == "__MACOSX"


def _mmdetection(path: Path) -> list[PredictionSource]:
    is_pickle = path.suffix.lower() in PICKLE_SUFFIXES
    try:
        content = read_pickle(path) if is_pickle else read_yaml(path)  # json is YAML
        reader = ArrayReader(path.stat().st_size)
        cells = (
            (str(corruption), reader.read_plain(severity), require_type(dict, scores)["bbox"])
            for corruption, levels in require_type(dict, content).items()
            for severity, scores in require_type(dict, levels).items()
        )
        sources = [
            PredictionSource(corruption, _severity(str(severity), str(path)), path, _metrics(scores, reader))
            for corruption, severity, scores in itertools.islice(cells, _MAX_CELLS + 1)
        ]
        if len(sources) > _MAX_CELLS:
            raise ValueError(f"it has more than {_MAX_CELLS:,} pairs of corruption and severity")
    except (DataError, ValueError, TypeError, KeyError, OverflowError) as error:
        reason = str(error).replace(str(path), "it")[:300]
        raise DataError(
            f"{path} does not have mmdetection's results {{corruption: {{severity: {{bbox: {{AP: ...}}}}}}}} "
            f"({type(error).__name__}: {reason}); pass a list of predictions as CORRUPTION@SEVERITY={path}"
        ) from error
    return sources


def _metrics(scores: Any, reader: ArrayReader) -> dict[str, float | None]:
    """Percent from mmdetection's fractions, where -1 is absent; missing metrics are left out."""
    require_type(dict, scores)
    metrics: dict[str, float | None] = {}
    for theirs, ours in _MMDETECTION.items():
        if theirs not in scores and theirs != "AP":
            continue
        value = float(reader.read_plain(scores[theirs]))
        if not (value == -1 or 0 <= value <= 1):
            raise ValueError(f"{theirs} is {value}, neither in [0, 1] nor -1")
        metrics[ours] = None if value == -1 else 100 * value
    return metrics


def _check_metrics(scores: Sequence[PredictionSource], dataset: Dataset, scorer: Scorer) -> list[str]:
    """Check scores against each other and against the data set.

    Returns:
        A sentence for everything that cannot be verified, or that contradicts the data.

    Raises:
        DataError: a score exceeds another one that is an upper bound of it.
    """
    for one in scores:
        for low, high in _UPPER_BOUNDS:
            first, second = (dict(one.metrics or {}).get(name) for name in (low, high))
            if first is not None and second is not None and first > second + _ROUNDING:
                raise DataError(
                    f"{one.path}, {one.corruption} at {one.severity:g}: {low} is {first / 100:g} and {high} "
                    f"{second / 100:g}, but {low} cannot exceed {high}; the scores are mixed up or damaged"
                )
    if not scores:
        return []
    empty = scorer.score([]).metrics  # absent exactly for metrics without objects in the data
    notes = [
        f"{scores[0].path} has only scores: it cannot be verified that they are of the images and "
        f"classes of {dataset.name}"
    ]
    for name, blank in empty.items():
        values = [one.metrics[name] for one in scores if one.metrics and name in one.metrics]
        if odd := [value for value in values if (value is None) != (blank is None)]:
            stated, actual = ("absent", "some") if odd[0] is None else (f"{odd[0] / 100:g}", "no")
            notes.append(
                f"{scores[0].path}: {name} is {stated} in {len(odd)} of {len(values)} results, but {dataset.name} has "
                f"{actual} such objects: are the scores of other data?"
            )
    return notes


def _severity(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 5:
        raise DataError(f"{where}: severity {short_repr(text)} is not a number from 0 (clean) to 5")
    return value


def import_predictions(
    sources: Sequence[PredictionSource], dataset: Dataset, registry: CorruptionRegistry, config: ScoringConfig
) -> Run:
    """Score predictions into a run directory; another model over the same data joins an existing directory.

    Args:
        sources: of `discover_predictions`.
        dataset: the ground truth.
        registry: of the known corruptions.
        config: everything else; its `sources`, `data` and `corruptions` are already loaded.

    Raises:
        UsageError: an unknown corruption or baseline, or two files for one cell.
        DataError: damaged predictions, impossible scores, or a directory of other data.

    Returns:
        The run; its manifest has the model's `notes`, one sentence each: how the predictions were read, and what is odd.
    """
    name, model = config.name or f"scored_{dataset.name}", config.model
    named = [(one, _canonical_cell(one, registry)) for one in sources]
    scorer = Scorer(dataset)
    # Everything is checked before the directory's manifest names it.
    scores = [one for one in sources if one.metrics is not None]
    about_scores = _check_metrics(scores, dataset, scorer)
    predictions = Predictions(
        [one.path for one in sources if one.metrics is None],
        dataset,
        image_ids=config.image_ids,
        category_ids=config.category_ids,
    )
    cells = _cells(named, predictions, dataset, config)
    about = ModelInfo(
        baseline=config.baseline,
        weights=EXTERNAL,
        notes=(*predictions.notes, *about_scores),
        config=config.manifest(),
    )
    manifest = _joined(config.project / name, _manifest(list(cells), dataset, registry, about, config), model)
    run = Run.create_or_resume(
        config.project, name, manifest, ground_truth=ground_truth(dataset), exist_ok=True
    )
    update = make_counter(config.progress, "scoring", len(cells))
    with run.lock():
        for cell, one in cells.items():
            if not run.store.is_complete(cell):
                _store(run, cell, one, predictions, scorer)
            elif run.store.has_outdated_scores(cell, scoring_version()):
                rescore_cell(run.store, cell, scorer)
            update(1)
        run.write_results()
    return run


def _canonical_cell(one: PredictionSource, registry: CorruptionRegistry) -> tuple[str, float]:
    """The corruption's own name instead of an alias, and the severity."""
    if one.corruption == CLEAN or one.severity == 0:
        return CLEAN, 0.0
    return registry.get(one.corruption).name, one.severity


def _cells(
    named: Sequence[tuple[PredictionSource, tuple[str, float]]],
    predictions: Predictions,
    dataset: Dataset,
    config: ScoringConfig,
) -> dict[Cell, PredictionSource]:
    cells: dict[Cell, PredictionSource] = {}
    for one, (corruption, severity) in named:
        key = cell_key(
            data=dataset.fingerprint, predictions=_digest(one), corruption=corruption, severity=severity,
            engine=config.engine, seed=config.seed,
            meaning=predictions.reference_digest(one.path) if one.metrics is None else None,
        )  # fmt: skip
        cell = Cell(config.model, corruption, severity, key)
        duplicate = next((c for c in cells if c.folder == cell.folder), None)
        if duplicate is None:
            cells[cell] = one
            continue
        # Programs that loop over corruptions repeat the clean predictions under each of them.
        is_repeated = corruption == CLEAN and duplicate.key == key
        if not is_repeated or (one.metrics is None and one.path == cells[duplicate].path):
            raise UsageError(
                f"{cell} has two files, {cells[duplicate].path} and {one.path}"
                + (", and they differ" if duplicate.key != key else "")
            )
    return dict(sorted(cells.items()))


def _digest(one: PredictionSource) -> str:
    if one.metrics is not None:
        return hashlib.sha256(json.dumps(one.metrics).encode()).hexdigest()
    try:
        return hashlib.sha256(one.path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{one.path} cannot be read: {error.strerror or error}") from error


def _manifest(
    cells: Sequence[Cell],
    dataset: Dataset,
    registry: CorruptionRegistry,
    about: ModelInfo,
    config: ScoringConfig,
) -> Manifest:
    used = {c.corruption: registry.get(c.corruption) for c in cells if c.corruption != CLEAN}
    levels = {name: [c.severity for c in cells if c.corruption == name] for name in used}
    engine, ours = config.engine, config.engine != EXTERNAL
    fields = {
        "command": config.command,
        "models": {config.model: about},
        "data": dataset_info(dataset),
        "corruptions": {
            name: corruption_info(one, levels[name], one.fingerprint(engine) if ours else EXTERNAL)
            for name, one in used.items()
        },
        "severities": sorted({c.severity for c in cells}),
        "settings": Settings("cpu" if ours else EXTERNAL, engine, config.seed),
        "versions": installed_versions(),
        "cells": list(cells),
    }
    return Manifest.make(fields, "what this model would record")


def _joined(path: Path, new: Manifest, model: str) -> Manifest:
    """The manifest with what the directory has of other models."""
    baseline = new.models[model].baseline
    if baseline == model:
        raise UsageError(f"baseline {baseline!r} is the model itself; name another one of {path}")
    old = Run.open(path).manifest if is_run(path) else None
    known = old.models if old else {}
    if old:
        _check_same(path, old, new)
    if baseline is not None and baseline not in known:
        raise UsageError(
            f"baseline {baseline!r} is not in {path}, which holds {', '.join(known) or 'nothing'}; score it first, "
            "under the same --name"
        )
    if not old:
        return new
    # A model that is scored again keeps its place: the first one is a baseline.
    models = old.models | new.models
    place = {name: i for i, name in enumerate(models)}
    cells = [*(cell for cell in old.cells if cell.model != model), *new.cells]
    fields = {
        **dict(new),
        "models": models,
        "corruptions": old.corruptions | new.corruptions,
        "severities": sorted({*old.severities, *new.severities}),
        "cells": sorted(cells, key=lambda cell: place[cell.model]),
    }
    return Manifest.make(fields, path)


def _check_same(path: Path, old: Manifest, new: Manifest) -> None:
    """Refuse to score a model into a directory whose cells do not compare with its own."""
    for what, ours, theirs in (
        ("data (fingerprint", old.data.fingerprint, new.data.fingerprint),
        ("settings (engine", old.settings.engine, new.settings.engine),
        ("settings (seed", old.settings.seed, new.settings.seed),
        ("settings (device", old.settings.device, new.settings.device),
    ):
        if ours != theirs:
            raise DataError(
                f"{path} is of another {what} {str(ours)[:12]}, not {str(theirs)[:12]}); give another --name"
            )


def _store(run: Run, cell: Cell, one: PredictionSource, predictions: Predictions, scorer: Scorer) -> None:
    if one.metrics is not None:
        metrics = dict.fromkeys(METRICS) | dict(one.metrics)
        run.store.commit(cell, metrics, detections=None)
        return
    frame = predictions.read(one.path)
    run.store.write_shard(cell, 0, {str(c): frame[c].to_numpy() for c in frame})
    score_cell(run.store, cell, 1, scorer)
