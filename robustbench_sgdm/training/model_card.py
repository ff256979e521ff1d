"""What a trained file says about itself: metadata of the run, a card for people, nothing typed by hand."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from robustbench_sgdm.core.escaping import code, markdown
from robustbench_sgdm.core.versions import installed_versions
from robustbench_sgdm.detectors.ultralytics.weights import Weights
from robustbench_sgdm.scoring import Scores
from robustbench_sgdm.store import SCHEMA
from robustbench_sgdm.training.data import TrainingData
from robustbench_sgdm.training.trainer import ReproducibleTraining, SplitFolders

LICENCE = "AGPL-3.0-or-later"
_PLACES = ("project", "name", "data", "exist_ok", "model")  # of one machine, or said elsewhere


def run_metadata(
    data: TrainingData,
    splits: SplitFolders,
    recipe: str,
    arguments: Mapping[str, Any],
    init: Weights | None = None,
) -> dict[str, Any]:
    """What the runs of a comparison share; with its model and seed, everything needed to do a run again."""
    return {
        "init": f"{init.path.name} (sha256 {init.sha256})" if init else "none: from scratch",
        "data": {
            "name": data.name,
            **data.metadata,
            "training images": len(data.train),
            "training boxes": len(data.train.annotations),
            "validation images": len(data.val),
            "validation boxes": len(data.val.annotations),
            "validation truth": data.val.ground_truth_summary,
            "validation fingerprint": data.val.fingerprint,
            "classes": list(splits.names),
        },
        "recipe": recipe,
        "arguments": {key: arguments[key] for key in sorted(arguments) if key not in _PLACES},
        "versions": installed_versions(),
        "licence": LICENCE,
    }


def effective_arguments(run: ReproducibleTraining) -> dict[str, Any]:
    """What Ultralytics trains with, under the names of its arguments, read from a trainer that has been set up.

    Some arguments are not taken as they are given: `weight_decay` is multiplied by batch x accumulate / `nbs`;
    `optimizer=auto` chooses `lr0` and momentum too; `warmup_epochs` is cut in short runs; `imgsz` is rounded up; and
    `batch` is halved where memory is short.
    """
    groups = run.optimizer.param_groups
    warmup = int(run._get_warmup_iterations(len(run.train_loader)))  # type: ignore[no-untyped-call]
    momentum = [group["betas"][0] if "betas" in group else group.get("momentum", 0.0) for group in groups]
    if warmup and "momentum" in groups[0]:
        momentum = [run.args.momentum]  # where warm-up ends, whatever it starts from
    return {
        "optimizer": type(run.optimizer).__name__,
        "lr0": _common_value(group["initial_lr"] for group in groups),
        "momentum": _common_value(momentum),
        "weight_decay": _common_value(group["weight_decay"] for group in groups if group["weight_decay"]),
        "batch": run.batch_size,
        "batches per epoch": len(run.train_loader),
        "accumulate": run.accumulate,
        "warm-up batches": warmup,
        "epochs with mosaic": max(0, run.epochs - run.args.close_mosaic) if run.args.mosaic else 0,
        "imgsz": run.args.imgsz,
        "amp": str(run.args.amp) if run.amp or run.args.amp == "bf16" else "no",
    }


def _common_value(values: Iterable[Any]) -> Any:
    """The one value that all have, or the different ones; 0 for none."""
    distinct = sorted({float(value) for value in values}) or [0.0]
    return distinct[0] if len(distinct) == 1 else distinct


def as_yaml(content: Mapping[str, Any]) -> str:
    """The metadata as `recipe.yaml` holds them; `store.schema` reads it."""
    return str(yaml.safe_dump({"schema": SCHEMA, **content}, sort_keys=False, allow_unicode=True))


def weights_header(run: Mapping[str, Any]) -> dict[str, str]:
    """The metadata as a weights file carries them: strings, json where they are not."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in run.items()}


def model_card_text(weights: Weights, scores: Mapping[int, Scores], health: Sequence[str]) -> str:
    """The Markdown that lies beside a weights file.

    Args:
        weights: as read from the file; its header tells of the run.
        scores: on the validation images, by side of the square they were letterboxed to, px.
        health: what was wrong with the run, a line each.
    """
    run = {key: _parse(value) for key, value in weights.meta.items()}
    data, arguments = run["data"], run["arguments"]
    minutes = run["seconds"] / 60
    epoch = run["best_epoch"] if "best_epoch" in run else run["best epoch"]  # as earlier files have it
    sizes = [f"{size} px" for size in scores]
    columns = list(scores.values())
    metrics = [(name, *(s.metrics[name] for s in columns)) for name in columns[0].metrics]
    classes = [(name, *(s.per_class[name] for s in columns)) for name in data["classes"]]
    origin = [(key, value) for key, value in data.items() if key not in ("classes", "name")]
    return f"""# {markdown(run["model"])}

Detects {len(data["classes"])} classes of {code(data["name"])}: {markdown(", ".join(data["classes"]))}.
Licence {markdown(run["licence"])}. File sha256 `{weights.sha256}`, tensors in half precision.

## Scores on {data["validation images"]} clean validation images

By pycocotools, in percent, each image letterboxed to the size at the head of the column; confidence from
0.001, overlap for suppression 0.7, at most 300 boxes an image.

{_table(("metric", *sizes), metrics)}

{_table(("AP of class", *sizes), classes)}

## How it was made

Start: {markdown(run["start"])}.
{markdown(arguments["epochs"])} epochs in {minutes:.0f} minutes on {markdown(arguments["device"])}, validation included.
Averaged weights of epoch {markdown(epoch)}, the best by Ultralytics' own mAP on the same images.

Health of the training: {markdown("; ".join(health) or "nothing was found wrong")}.

{_table(("data", data["name"]), origin)}

{_table(("argument of Ultralytics", f"recipe {run['recipe']}"), arguments.items())}

{_table(("argument", "in effect"), run.get("effective", {}).items())}

{_table(("package", "version"), run["versions"].items())}

## What it does not show

One seed ({markdown(arguments["seed"])}): a difference between two such files may be chance. The validation images also
chose the epoch, so the scores above lean upwards a little. A detector trained on rendered images says nothing
of photographs.
"""


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [[_cell(value) for value in row] for row in (head, *rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.1f}" if isinstance(value, float) and value >= 1 else markdown(value)
