"""`robustbench list ...`: what is available."""

from typing import Annotated

import typer

from robustbench_sgdm.cli.shared_options import RUNS, CorruptionDirOption, FormatOption, ProjectOption
from robustbench_sgdm.core.errors import UsageError

app = typer.Typer(
    help="List what is available: models, corruptions, data, figures, runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def models(form: FormatOption = "table") -> None:
    """Zoo models: parameters, GFLOPs at 640 px with BatchNorm folded, bundled weights, source."""
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import print_as, progress_bars
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
            ", ".join(sources if form == "csv" else [numbers[s] for s in sources]),
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
    print_as(Table("models", columns, rows, notes, text=columns[3:]), form)


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
    form: FormatOption = "table",
) -> None:
    """Corruptions: family, aliases, strengths at severities 1 to 5."""
    from robustbench_sgdm import listings, tables
    from robustbench_sgdm.cli.console import print_as, progress_bars
    from robustbench_sgdm.cli.data import resolve_paths

    if measure:
        with progress_bars() as progress:
            source = data and resolve_paths(data)[0]
            scores, where = listings.measure_corruptions(folders or [], source, limit, progress)
        print_as(tables.image_quality_table(scores, where), form)
        return
    if data is not None:
        raise UsageError("--data needs --measure")
    rows = []
    for name, family, aliases, strengths in listings.list_corruptions(folders or []).itertuples(index=False):
        first, *others = strengths or ("",)
        rows.append([name, family, ", ".join(aliases) or "–", first])
        labels = rows[-1][:3] if form == "csv" else [""] * 3
        rows += [[*labels, text] for text in others]
    notes = [
        f"Groups for --noise: {', '.join(listings.corruption_groups())}. Severities between these are interpolated."
    ]
    columns = ["corruption", "family", "aliases", "strength at severity 1 to 5"]
    print_as(tables.Table("corruptions", columns, rows, notes, text=columns), form)


@app.command()
def figures(form: FormatOption = "table") -> None:
    """Figures of a run and what each shows."""
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import print_as
    from robustbench_sgdm.tables import Table

    rows = listings.list_figures().to_numpy().tolist()
    print_as(Table("figures", ["figure", "shows"], rows, text=["shows"]), form)


@app.command()
def data(form: FormatOption = "table") -> None:
    """Data sets that --data knows by name, and whether they are on this machine."""
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import print_as
    from robustbench_sgdm.tables import Table

    frame = listings.list_datasets().assign(splits=lambda f: f["splits"].map(", ".join))
    columns = ["data", *frame.columns[1:]]
    print_as(Table("data", columns, frame.to_numpy().tolist(), text=columns), form)


@app.command()
def runs(
    project: ProjectOption = RUNS,
    form: FormatOption = "table",
) -> None:
    """Run directories and how much of each is done.

    Outdated cells have other weights, data or versions than the same command would use now; it computes them again.
    """
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import info, print_as
    from robustbench_sgdm.tables import Table

    frame = listings.list_runs(project)
    if frame.empty:
        info(f"no runs in {project}")
        return
    rows = [
        [name, state, f"{done} / {cells}", ", ".join(models), data]
        for name, state, done, cells, models, data in frame.itertuples(index=False)
    ]
    columns = ["run", "state", "cells", "models", "data"]
    print_as(Table(f"runs in {project}", columns, rows, text=columns), form)
