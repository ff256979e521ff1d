"""`robustbench list ...` and `robustbench checks`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli import options
from robustbench_sgdm.cli.common import (
    RUNS,
    CorruptionDirOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    ImagesOption,
    ProjectOption,
    SplitOption,
)

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_sgdm.corruption import CorruptionRegistry
    from robustbench_sgdm.tables import Table

app = typer.Typer(
    help="Show what there is: models, corruptions, data, figures, runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def models() -> None:
    """Zoo models: parameters, GFLOPs at 640 px with BatchNorm folded, embedded weights, source."""
    from robustbench_sgdm.cli.console import counting, show
    from robustbench_sgdm.detectors import bundled_weights
    from robustbench_sgdm.detectors.ultralytics import zoo
    from robustbench_sgdm.tables import Table

    rows, names = [], zoo.model_names()
    numbers: dict[str, int] = {}
    with counting("counting", len(names)) as update:
        for name in names:
            summary = zoo.model_cost(name, classes=80)
            counts = [f"{summary.parameters / 1e6:.3f}", f"{summary.gflops:.2f}"]
            sources = [
                str(numbers.setdefault(source, len(numbers) + 1)) for source in zoo.model_sources(name)
            ]
            rows.append([name, *counts, "scenes" if bundled_weights(name) else "–", ", ".join(sources)])
            update(1)
    notes = [
        "Counts are for 80 classes, GFLOPs with BatchNorm folded as Ultralytics reports them (`robustbench paper` "
        "counts as the paper does, unfolded). Any module goes into any of these and into Ultralytics' own "
        "(yolo11n-sgdm); its options go in brackets (yolov8n-sgdm[razor=0.25]). A path to any Ultralytics "
        "detection checkpoint is a model too.",
        *(f"[{number}] {source}" for source, number in numbers.items()),
    ]
    show(Table("models", ["model", "params (M)", "GFLOPs at 640", "embedded weights", "source"], rows, notes))


@app.command()
def corruptions(
    folders: CorruptionDirOption = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure their PSNR and SSIM at severities 1 to 5 instead.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Data set to measure on; default: four photographs of scikit-image."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Images of --data to measure on, the first ones.")
    ] = 8,
) -> None:
    """Corruptions: family, other names, strengths at severities 1 to 5."""
    from robustbench_sgdm import corruption
    from robustbench_sgdm.cli.console import show
    from robustbench_sgdm.core.errors import UsageError
    from robustbench_sgdm.corruption import GROUPS
    from robustbench_sgdm.tables import Table

    registry = corruption.load_corruptions(folders or [])
    if measure:
        show(_damage_table(registry, data, limit))
        return
    if data is not None:
        raise UsageError("--data goes with --measure")
    rows = []
    for c in registry.select(["all"]):
        first, *others = [p.describe() for p in c.parameters] or [""]
        rows.append([c.name, c.family, ", ".join(c.aliases) or "–", first])
        rows += [["", "", "", text] for text in others]
    notes = [f"Groups for --noise: {', '.join(GROUPS)}. Any real severity in [0, 5] interpolates."]
    show(Table("corruptions", ["corruption", "family", "also", "strength at severity 1 to 5"], rows, notes))


def _damage_table(registry: "CorruptionRegistry", data: str | None, limit: int) -> "Table":
    from robustbench_sgdm import corruption, tables
    from robustbench_sgdm.cli.console import counting

    pictures = corruption.photographs() if data is None else _pictures(data, limit)
    where = (
        f"{len(pictures)} images of {data}" if data else f"scikit-image's {', '.join(corruption.PHOTOGRAPHS)}"
    )
    measured = {}
    with counting("measuring", len(registry)) as update:
        for one in registry:
            measured[one.name] = corruption.measure_image_quality(one, pictures)
            update(1)
    return tables.damage_table(measured, where)


def _pictures(source: str, limit: int) -> "list[Tensor]":
    import torch

    from robustbench_sgdm.cli.data import load_dataset
    from robustbench_sgdm.datasets import image_decoding

    chosen = load_dataset(source).images[:limit]
    return [torch.from_numpy(image_decoding.read_image(image).transpose(2, 0, 1).copy()) for image in chosen]


@app.command()
def figures() -> None:
    """Figures of a run and what each shows."""
    from robustbench_sgdm import figures as drawing
    from robustbench_sgdm.cli.console import show
    from robustbench_sgdm.tables import Table

    rows = [[one.name, one.description] for one in drawing.figures().values()]
    show(Table("figures", ["figure", "shows"], rows))


@app.command()
def data() -> None:
    """Data sets that --data knows by name, and whether they are on this machine."""
    from robustbench_sgdm import datasets
    from robustbench_sgdm.cli.console import show
    from robustbench_sgdm.tables import Table

    rows = []
    for source in datasets.dataset_sources():
        state, folder = source.status() if source.status else ("", "")
        rows.append([source.name, source.description, ", ".join(source.splits), state, str(folder)])
    show(Table("data", ["data", "description", "splits", "state", "folder"], rows))


@app.command()
def runs(
    project: ProjectOption = RUNS,
) -> None:
    """Run directories and how much of each is done.

    Outdated cells are of other weights, data or versions than the same command would use now; it computes them again.
    """
    from robustbench_sgdm.cli.console import note, show
    from robustbench_sgdm.core.errors import RobustBenchError
    from robustbench_sgdm.core.untrusted_input import short_repr
    from robustbench_sgdm.store import list_runs
    from robustbench_sgdm.tables import Table

    rows = []
    for path in list_runs(project):
        try:
            rows.append(_run_row(path))
        except RobustBenchError as error:  # the others are listed all the same
            note(f"warning: {error}")
        except Exception as error:  # noqa: BLE001 - whatever one run provokes must not hide the others
            note(f"warning: {path} cannot be read ({type(error).__name__}: {short_repr(str(error))})")
    if not rows:
        note(f"no runs in {project}")
        return
    show(Table(f"runs in {project}", ["run", "state", "cells", "models", "data"], rows))


def _run_row(path: Path) -> list[str]:
    from robustbench_sgdm.core.versions import inference_version, scoring_version
    from robustbench_sgdm.store import Run

    run = Run.open(path)
    done = len(run.cells) - len(run.missing())
    state = "complete" if done == len(run.cells) else "partial"
    complete = [cell for cell in run.cells if run.store.complete(cell)]
    if run.plan.get("inference", inference_version()) != inference_version():
        state = f"{state}, outdated: made by other versions"
    elif old := sum(run.store.stale(cell) for cell in run.cells):
        state = f"{state}, {old} cells outdated"
    elif any(run.store.has_old_scores(cell, scoring_version()) for cell in complete):
        state = f"{state}, scores outdated"
    models, data = ", ".join(run.plan["models"]), run.plan["data"]["name"]
    return [path.name, state, f"{done} / {len(run.cells)}", models, data]


def checks(
    model: Annotated[
        str | None, typer.Option("--model", help="Check this model against --data; whatever `run` takes.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Check a COCO results json against --data instead.")
    ] = None,
    data: DataOption = "scenes",
    images: ImagesOption = None,
    split: SplitOption = "val",
    weights: Annotated[Path | None, typer.Option("--weights", help="Weights of a --model by name.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Images to run the model on.")] = 32,
    imgsz: Annotated[int, typer.Option("--imgsz", help="As in `run`.")] = 0,
    conf: Annotated[float, typer.Option("--conf", help="As in `run`.")] = 0.001,
    iou: Annotated[float, typer.Option("--iou", help="As in `run`.")] = 0.7,
    max_det: Annotated[int, typer.Option("--max-det", help="As in `run`.")] = 300,
    device: DeviceOption = None,
    trust_weights: Annotated[bool, typer.Option("--trust-weights", help="As in `run`.")] = False,
    download: DownloadOption = False,
) -> None:
    """Why is this not the published AP? With --model or --predictions; else versions, devices, and what is missing.

    Runs a few images and looks for what lowers AP, each with evidence: class names, thresholds, box format, labels,
    suppression, colour order, image size, images without boxes. Exit code 1 where something is to change, or missing.
    """
    if model is None and predictions is None:
        _check_installation()
        return
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import line, show, stages
    from robustbench_sgdm.cli.data import find
    from robustbench_sgdm.tables import Table

    source, folder = find(data, images)
    with stages() as progress:
        found = api.checks(
            options.models([model])[0] if model else None,
            weights=weights,
            predictions=predictions,
            data=source,
            images=folder,
            split=split,
            limit=limit,
            imgsz=imgsz,
            conf=conf,
            iou=iou,
            max_det=max_det,
            device=device,
            trust_weights=trust_weights,
            download=download,
            progress=progress,
        )
    rows = [[one.check, "change" if one.remedy else "ok", one.evidence] for one in found.findings]
    show(
        Table(
            f"{found.model} on {found.images} images of {found.data}", ["check", "result", "evidence"], rows
        )
    )
    for one in found.problems:
        line(f"{one.check}: {one.remedy}")
    if not found.problems:
        line("nothing to change")
        return
    raise typer.Exit(1)


def _check_installation() -> None:
    """Versions, devices, and what is missing; exit code 1 where something is."""
    import os
    import shutil

    from robustbench_sgdm.cli.console import show
    from robustbench_sgdm.tables import Table

    missing = _unmet()
    rows = []
    if not missing:
        import torch

        from robustbench_sgdm.core.versions import installed_versions
        from robustbench_sgdm.detectors import bundled_weights

        rows += [[name, version] for name, version in installed_versions().items()]
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        rows.append(["GPU", ", ".join(gpus) or "none: everything runs on the CPU"])
        missing += [f"embedded weights of {n}" for n in ("yolov8n", "yolov8n-sgdm") if not bundled_weights(n)]
    rows.append(["CPU cores", str(os.cpu_count())])
    rows.append(["free disk here", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB"])
    verdict = f"missing: {', '.join(missing)}; install the package again" if missing else "nothing is missing"
    show(Table("checks", ["what", "found"], rows, [verdict]))
    if missing:
        raise typer.Exit(1)


def _unmet() -> list[str]:
    """The package's requirements that are absent here or have another version."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    unmet = []
    for requirement in map(Requirement, requires("robustbench-sgdm") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                unmet.append(f"{requirement} (found {version(requirement.name)})")
        except PackageNotFoundError:
            unmet.append(str(requirement))
    return unmet
