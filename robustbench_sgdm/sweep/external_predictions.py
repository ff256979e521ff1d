"""Predictions and scores made elsewhere become the cells of a run, like any others."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robustbench_sgdm.config import ScoringConfig
from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.progress import make_counter
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import read_yaml, short_repr
from robustbench_sgdm.core.versions import installed_versions, scoring_version
from robustbench_sgdm.corruption import CorruptionRegistry
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.scoring import Predictions, Scorer
from robustbench_sgdm.store import Cell, Run, cell_key
from robustbench_sgdm.sweep.engine import finish, rescore
from robustbench_sgdm.sweep.facts import corruption_facts, data_facts, ground_truth

ELSEWHERE = "elsewhere"
"""The engine of corrupted images of unknown making."""

# mmdetection's name: ours
_MMDETECTION = dict(
    zip(
        ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
        METRICS,
        strict=True,
    )
)
_AT_MOST = (("AP", "AP50"), ("AP75", "AP50"), ("AR1", "AR10"), ("AR10", "AR100"))  # whatever the detector
_ROUNDED = 0.11  # percent; mmdetection keeps three digits of a share


@dataclass(frozen=True)
class PredictionSource:
    """What a file says of one corruption and severity.

    Attributes:
        corruption: its name as given, or `clean`.
        severity: 0 to 5; 0 is clean whatever the corruption.
        path: the file.
        metrics: scores in percent where the file holds no predictions; None where it says that the data hold no such
            object.
    """

    corruption: str
    severity: float
    path: Path
    metrics: Mapping[str, float | None] | None = None


def discover_predictions(source: str) -> list[PredictionSource]:
    """What one source holds.

    Args:
        source: `CORRUPTION@SEVERITY=FILE` or `clean=FILE`; or a folder with `CORRUPTION/SEVERITY/*.json` or
            `CORRUPTION/SEVERITY.json`, and `clean.json` or `clean/*.json`, as `robustbench corrupt` lays it out; or a
            json or YAML file of mmdetection's nested results, `{corruption: {severity: {bbox: {AP: ...}}}}`.

    Raises:
        UsageError: no such form.
        DataError: a file or folder that is missing or holds something else.
    """
    name, equals, file = source.partition("=")
    if equals and not Path(source).exists():
        corruption, at, severity = name.partition("@")
        if (corruption == CLEAN) == bool(at):
            raise UsageError(f"{source!r} is neither CORRUPTION@SEVERITY=FILE nor {CLEAN}=FILE")
        return [PredictionSource(corruption, _severity(severity or "0", source), Path(file))]
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    if path.suffix in {".pkl", ".pickle"}:
        raise DataError(
            f"{path} is a pickle, which can run code; write it again as json: mmengine.dump(mmengine.load(x), 'x.json')"
        )
    return _mmdetection(path)


def unread_files(source: str, sources: Sequence[PredictionSource]) -> list[Path]:
    """The json files in a folder that `discover_predictions` passes over; hidden ones and annotations aside."""
    root, used = Path(source), {one.path for one in sources}
    if not root.is_dir():
        return []
    found = (p for p in root.rglob("*") if p.suffix.lower() == ".json" and p not in used)
    return sorted(
        p
        for p in found
        if not any(map(_hidden, parts := p.relative_to(root).parts)) and "annotations" not in parts
    )


def _folder(root: Path) -> list[PredictionSource]:
    found = [PredictionSource(CLEAN, 0.0, path) for path in _jsons(root) if path.stem == CLEAN]
    for folder in _folders(root):
        below = _folders(folder)
        if folder.name == CLEAN:
            zero = [path for each in below if each.name == "0" for path in _jsons(each)]
            found += [PredictionSource(CLEAN, 0.0, path) for path in sorted([*_jsons(folder), *zero])]
            continue
        for path in sorted([*_jsons(folder), *(path for each in below for path in _jsons(each))]):
            level = path.stem if path.parent == folder else path.parent.name
            found.append(PredictionSource(folder.name, _severity(level, str(path)), path))
    if not found:
        raise DataError(
            f"{root} holds no predictions: they belong into CORRUPTION/SEVERITY/*.json or CORRUPTION/SEVERITY.json, "
            f"and those of clean images into {CLEAN}.json"
        )
    return found


def _jsons(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".json" and not _hidden(p.name))


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p.name))


def _hidden(name: str) -> bool:
    """What systems and editors leave: .DS_Store, ._clean.json, .ipynb_checkpoints, __MACOSX."""
    return name.startswith(".") or name == "__MACOSX"


def _mmdetection(path: Path) -> list[PredictionSource]:
    try:
        content = read_yaml(path)  # json is YAML
        return [
            PredictionSource(
                str(corruption), _severity(str(severity), str(path)), path, _metrics(scores["bbox"])
            )
            for corruption, levels in content.items()
            for severity, scores in levels.items()
        ]
    except (DataError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        reason = str(error).replace(str(path), "it")[:300]
        raise DataError(
            f"{path} does not hold mmdetection's results {{corruption: {{severity: {{bbox: {{AP: ...}}}}}}}} "
            f"({type(error).__name__}: {reason}); a list of predictions is given as CORRUPTION@SEVERITY={path}"
        ) from error


def _metrics(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """Percent from mmdetection's shares of 1, where -1 is absent; what the file does not give is not there."""
    found: dict[str, float | None] = {}
    for theirs, ours in _MMDETECTION.items():
        if theirs not in scores and theirs != "AP":
            continue
        value = float(scores[theirs])
        if not (value == -1 or 0 <= value <= 1):
            raise ValueError(f"{theirs} is {value}, neither in [0, 1] nor -1")
        found[ours] = None if value == -1 else 100 * value
    return found


def _check_metrics(scores: Sequence[PredictionSource], dataset: Dataset, scorer: Scorer) -> list[str]:
    """Hold scores against each other and against the data set.

    Returns:
        One sentence for each thing that nobody can check, or that does not go with the data.

    Raises:
        DataError: a score that is above another one that it cannot exceed.
    """
    for one in scores:
        for low, high in _AT_MOST:
            first, second = (dict(one.metrics or {}).get(name) for name in (low, high))
            if first is not None and second is not None and first > second + _ROUNDED:
                raise DataError(
                    f"{one.path}, {one.corruption} at {one.severity:g}: {low} is {first / 100:g} and {high} "
                    f"{second / 100:g}, but {low} is never above {high}; the scores are mixed up or damaged"
                )
    if not scores:
        return []
    nothing = scorer.score([]).metrics  # absent exactly where the data hold no such object
    notes = [
        f"{scores[0].path} holds scores alone, not of how many images and classes they are: nobody can check that "
        f"they are of {dataset.name}"
    ]
    for name, blank in nothing.items():
        values = [one.metrics[name] for one in scores if one.metrics and name in one.metrics]
        if odd := [value for value in values if (value is None) != (blank is None)]:
            given, held = ("-1, for absent,", "some") if odd[0] is None else (f"{odd[0] / 100:g}", "none")
            notes.append(
                f"{scores[0].path}: {name} is {given} in {len(odd)} of {len(values)} results, and of the objects that it "
                f"is of {dataset.name} has {held}: are the scores of other data?"
            )
    return notes


def _severity(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 5:
        raise DataError(f"{where}: severity {short_repr(text)} is no number from 0 (clean) to 5")
    return value


def import_predictions(
    sources: Sequence[PredictionSource], dataset: Dataset, registry: CorruptionRegistry, config: ScoringConfig
) -> Run:
    """Score predictions into a run directory; another model over the same data joins the directory that is there.

    Args:
        sources: what `discover_predictions` found.
        dataset: the ground truth.
        registry: whose names the corruptions must have.
        config: everything else; its `sources`, `data` and `corruptions` are read already.

    Raises:
        UsageError: an unknown corruption or baseline, or a cell that is given twice.
        DataError: damaged predictions, scores that cannot be, or a directory of other data.

    Returns:
        The run; its plan has the model's `notes`, one sentence each: how the predictions were read, and what is odd.
    """
    name, model = config.name or f"scored_{dataset.name}", config.model
    named = [(one, _place(one, registry)) for one in sources]
    scorer = Scorer(dataset)
    # Everything is checked before the directory's plan names it.
    scores = [one for one in sources if one.metrics is not None]
    about_scores = _check_metrics(scores, dataset, scorer)
    predictions = Predictions(
        [one.path for one in sources if one.metrics is None],
        dataset,
        image_ids=config.image_ids,
        category_ids=config.category_ids,
    )
    cells = _cells(named, predictions, dataset, config)
    about: dict[str, Any] = {
        "baseline": config.baseline,
        "weights": ELSEWHERE,
        "notes": [*predictions.notes, *about_scores],
        "config": config.manifest(),
    }
    plan = _plan(list(cells), dataset, registry, {model: about}, config)
    run = Run.start(
        config.project, name, _joined(config.project / name, plan), truth=ground_truth(dataset), exist_ok=True
    )
    update = make_counter(config.progress, "scoring", len(cells))
    with run.lock():
        for cell, one in cells.items():
            if not run.store.complete(cell):
                _store(run, cell, one, predictions, scorer)
            elif run.store.has_old_scores(cell, scoring_version()):
                rescore(run.store, cell, scorer)
            update(1)
        run.write_results()
    return run


def _place(one: PredictionSource, registry: CorruptionRegistry) -> tuple[str, float]:
    """The corruption's own name, and the severity."""
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
            meaning=predictions.meaning(one.path) if one.metrics is None else None,
        )  # fmt: skip
        cell = Cell(config.model, corruption, severity, key)
        twice = next((c for c in cells if c.folder == cell.folder), None)
        if twice is None:
            cells[cell] = one
            continue
        # Clean scores or predictions are repeated under each corruption by those who go through all of them.
        repeated = corruption == CLEAN and twice.key == key
        if not repeated or (one.metrics is None and one.path == cells[twice].path):
            raise UsageError(
                f"{cell} is given twice, by {cells[twice].path} and {one.path}"
                + (", and they differ" if twice.key != key else "")
            )
    return dict(sorted(cells.items()))


def _digest(one: PredictionSource) -> str:
    if one.metrics is not None:
        return hashlib.sha256(json.dumps(one.metrics).encode()).hexdigest()
    try:
        return hashlib.sha256(one.path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{one.path} cannot be read: {error.strerror or error}") from error


def _plan(
    cells: Sequence[Cell],
    dataset: Dataset,
    registry: CorruptionRegistry,
    models: Mapping[str, Mapping[str, Any]],
    config: ScoringConfig,
) -> dict[str, Any]:
    used = {c.corruption: registry.get(c.corruption) for c in cells if c.corruption != CLEAN}
    levels = {name: [c.severity for c in cells if c.corruption == name] for name in used}
    engine, ours = config.engine, config.engine != ELSEWHERE
    return {
        "command": config.command,
        "models": models,
        "data": data_facts(dataset),
        "corruptions": {
            name: corruption_facts(one, levels[name], one.fingerprint(engine) if ours else ELSEWHERE)
            for name, one in used.items()
        },
        "severities": sorted({c.severity for c in cells}),
        "settings": {
            "device": "cpu" if ours else ELSEWHERE,
            "engine": engine,
            "seed": config.seed,
            "batch": 0,
        },
        "versions": installed_versions(),
        "cells": [asdict(c) for c in cells],
    }


def _joined(path: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan with what the directory has of other models."""
    (model,) = plan["models"]
    baseline = plan["models"][model]["baseline"]
    models: dict[str, Any] = {}
    cells, corruptions, severities = [], {}, set(plan["severities"])
    if baseline == model:
        raise UsageError(f"baseline {baseline!r} is the model itself; name another one of {path}")
    if SafeDirectory(path).is_file("plan.yaml"):
        there = Run.open(path).plan
        for part in ("data", "settings"):
            keys = ("fingerprint",) if part == "data" else ("engine", "seed", "device")
            differing = [k for k in keys if there[part].get(k) != plan[part].get(k)]
            if differing:
                raise DataError(
                    f"{path} is of another {part} ({differing[0]} {str(there[part].get(differing[0]))[:12]}, not "
                    f"{str(plan[part][differing[0]])[:12]}); give another --name"
                )
        models = dict(there["models"])
        cells = [c for c in there["cells"] if c["model"] != model]
        corruptions, severities = there["corruptions"], severities | set(there.get("severities", ()))
    if baseline is not None and baseline not in models:
        raise UsageError(
            f"baseline {baseline!r} is not in {path}, which holds {', '.join(models) or 'nothing'}; score it first, "
            "under the same --name"
        )
    models |= plan["models"]  # a model that is scored again keeps its place: the first one is a baseline
    place = {name: i for i, name in enumerate(models)}
    cells = sorted([*cells, *plan["cells"]], key=lambda cell: place.get(str(cell["model"]), 0))
    return {
        **plan,
        "models": models,
        "corruptions": {**corruptions, **plan["corruptions"]},
        "severities": sorted(severities),
        "cells": cells,
    }


def _store(run: Run, cell: Cell, one: PredictionSource, predictions: Predictions, scorer: Scorer) -> None:
    if one.metrics is not None:
        metrics = dict.fromkeys(METRICS) | dict(one.metrics)
        run.store.finish(cell, {"detections": None, "metrics": metrics, "per_class": {}})
        return
    frame = predictions.read(one.path)
    run.store.write_shard(cell, 0, {str(c): frame[c].to_numpy() for c in frame})
    finish(run.store, cell, 1, scorer)
