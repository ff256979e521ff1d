"""`robustbench list ...` and `robustbench checks`."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.cli.shared_options import (
    RUNS,
    ClassesOption,
    ConfOption,
    CorruptionDirOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    End2EndOption,
    HalfOption,
    ImagesOption,
    ImgszOption,
    IouOption,
    LayoutOption,
    MaxDetOption,
    NormalizeOption,
    ProjectOption,
    RuntimeOption,
    SplitOption,
    TrustOption,
)
from robustbench_sgdm.core import parsing
from robustbench_sgdm.core.errors import UsageError

app = typer.Typer(
    help="List what is available: models, corruptions, data, figures, runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def models() -> None:
    """Zoo models: parameters, GFLOPs at 640 px with BatchNorm folded, bundled weights, source."""
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import print_table, progress_bars
    from robustbench_sgdm.tables import Table

    with progress_bars() as progress:
        frame = listings.list_models(progress)
    numbers = {source: str(n) for n, source in enumerate(dict.fromkeys(frame["sources"].explode()), 1)}
    rows = [
        [
            name,
            f"{parameters / 1e6:.3f}",
            f"{gflops:.2f}",
            "scenes" if bundled else "–",
            ", ".join(numbers[s] for s in sources),
        ]
        for name, parameters, gflops, bundled, sources in frame.itertuples(index=False)
    ]
    notes = [
        "Counts are for 80 classes, GFLOPs with BatchNorm folded as Ultralytics reports them (`robustbench paper` "
        "counts as the paper does, unfolded). Any module can be grafted into any of these and into Ultralytics' own "
        "(yolo11n-sgdm); its options go in brackets (yolov8n-sgdm[razor=0.25]). The path of an Ultralytics detection "
        "checkpoint is a model too.",
        *(f"[{number}] {source}" for source, number in numbers.items()),
    ]
    columns = ["model", "params (M)", "GFLOPs at 640", "bundled weights", "source"]
    print_table(Table("models", columns, rows, notes))


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
    """Corruptions: family, aliases, strengths at severities 1 to 5."""
    from robustbench_sgdm import listings, tables
    from robustbench_sgdm.cli.console import print_table, progress_bars
    from robustbench_sgdm.cli.data import resolve_paths

    if measure:
        with progress_bars() as progress:
            source = data and resolve_paths(data)[0]
            scores, where = listings.measure_corruptions(folders or [], source, limit, progress)
        print_table(tables.image_quality_table(scores, where))
        return
    if data is not None:
        raise UsageError("--data goes with --measure")
    rows = []
    for name, family, aliases, strengths in listings.list_corruptions(folders or []).itertuples(index=False):
        first, *others = strengths or ("",)
        rows.append([name, family, ", ".join(aliases) or "–", first])
        rows += [["", "", "", text] for text in others]
    notes = [
        f"Groups for --noise: {', '.join(listings.corruption_groups())}. Any real severity in [0, 5] is interpolated."
    ]
    columns = ["corruption", "family", "aliases", "strength at severity 1 to 5"]
    print_table(tables.Table("corruptions", columns, rows, notes))


@app.command()
def figures() -> None:
    """Figures of a run and what each shows."""
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import print_table
    from robustbench_sgdm.tables import Table

    print_table(Table("figures", ["figure", "shows"], listings.list_figures().to_numpy().tolist()))


@app.command()
def data() -> None:
    """Data sets that --data knows by name, and whether they are on this machine."""
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import print_table
    from robustbench_sgdm.tables import Table

    frame = listings.list_datasets().assign(splits=lambda f: f["splits"].map(", ".join))
    columns = ["data", *frame.columns[1:]]
    print_table(Table("data", columns, frame.to_numpy().tolist()))


@app.command()
def runs(
    project: ProjectOption = RUNS,
) -> None:
    """Run directories and how much of each is done.

    Outdated cells have other weights, data or versions than the same command would use now; it computes them again.
    """
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import info, print_table
    from robustbench_sgdm.tables import Table

    frame = listings.list_runs(project)
    if frame.empty:
        info(f"no runs in {project}")
        return
    rows = [
        [name, state, f"{done} / {cells}", ", ".join(models), data]
        for name, state, done, cells, models, data in frame.itertuples(index=False)
    ]
    print_table(Table(f"runs in {project}", ["run", "state", "cells", "models", "data"], rows))


def clean(
    project: ProjectOption = RUNS,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Run directory; may be repeated. Default: all of them.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove what is listed; without it, nothing is touched.")
    ] = False,
) -> None:
    """List, and with --yes remove, what no run needs: half-written files, left-over shards, outdated cells.

    Complete cells are never removed, nor are shards from which the same command resumes. Runs that a process works on
    are skipped. Locks need no cleaning: the system frees them with their process.
    """
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import info, print_table
    from robustbench_sgdm.tables import Table

    frame = listings.clean_runs(project, name, remove=yes)
    if frame.empty:
        info(f"nothing to remove in {project}")
        return
    size = _format_bytes(int(frame["bytes"].sum()))
    summary = f"{size} removed" if yes else f"{size}; nothing is removed yet: add --yes"
    rows = [
        [r, kind, str(files), _format_bytes(size)] for r, kind, files, size in frame.itertuples(index=False)
    ]
    title = f"{'removed from' if yes else 'to remove in'} {project}"
    print_table(Table(title, ["run", "kind", "files", "size"], rows, [summary]))


def _format_bytes(count: int) -> str:
    """A size as people say it.

    >>> _format_bytes(812), _format_bytes(48_300_000)
    ('812 B', '48.3 MB')
    """
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


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
    imgsz: ImgszOption = 0,
    device: DeviceOption = None,
    half: HalfOption = False,
    conf: ConfOption = 0.001,
    iou: IouOption = 0.7,
    max_det: MaxDetOption = 300,
    end2end: End2EndOption = None,
    trust_weights: TrustOption = False,
    runtime: RuntimeOption = "pytorch",
    classes: ClassesOption = None,
    layout: LayoutOption = None,
    normalize: NormalizeOption = None,
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
    from robustbench_sgdm.cli.console import print_line, print_table, progress_bars
    from robustbench_sgdm.cli.data import resolve_paths
    from robustbench_sgdm.tables import Table

    source, folder = resolve_paths(data, images)
    with progress_bars() as progress:
        found = api.checks(
            _one_model(model) if model else None,
            weights=weights,
            predictions=predictions,
            data=source,
            images=folder,
            split=split,
            limit=limit,
            imgsz=imgsz,
            device=device,
            half=half,
            conf=conf,
            iou=iou,
            max_det=max_det,
            end2end=end2end,
            trust_weights=trust_weights,
            runtime=runtime,
            classes=classes,
            layout=layout,
            normalize=normalize,
            download=download,
            progress=progress,
        )
    rows = [[one.check, "change" if one.remedy else "ok", one.evidence] for one in found.findings]
    title, columns = (
        f"{found.model} on {found.images} images of {found.data}",
        ["check", "result", "evidence"],
    )
    print_table(Table(title, columns, rows), text=columns)
    for one in found.problems:
        print_line(f"{one.check}: {one.remedy}")
    if not found.problems:
        print_line("nothing to change")
        return
    raise typer.Exit(1)


def _one_model(given: str) -> str:
    models = parsing.parse_models([given])
    if len(models) != 1:
        raise UsageError(f"--model {given} names {len(models)} models; check one at a time")
    return models[0]


def _check_installation() -> None:
    """Versions, devices, and what is missing; exit code 1 if something is."""
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import print_table
    from robustbench_sgdm.tables import Table

    frame, missing = listings.check_installation()
    verdict = f"missing: {', '.join(missing)}; install the package again" if missing else "nothing is missing"
    columns = list(frame.columns)
    print_table(Table("checks", columns, frame.to_numpy().tolist(), [verdict]), text=columns)
    if missing:
        raise typer.Exit(1)
