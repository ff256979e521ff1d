"""`robustbench score`: score predictions of a detector that ran somewhere else."""

import shlex
import sys
from dataclasses import replace
from typing import Annotated

import typer

from robustbench_sgdm.cli.data import resolve_paths
from robustbench_sgdm.cli.results import print_results, results_record
from robustbench_sgdm.cli.shared_options import (
    RUNS,
    CorruptionDirOption,
    DataOption,
    ImagesOption,
    JsonOption,
    ProjectOption,
    QuietOption,
    SplitOption,
)
from robustbench_sgdm.config import CategoryIds, ImageIds, ScoringEngine


def score(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders with CORRUPTION/SEVERITY/*.json and clean.json, as `robustbench corrupt` lays them out; "
            "CORRUPTION@SEVERITY=FILE or clean=FILE, where a file may be mmdetection's .pkl; or mmdetection's nested "
            "results as json, YAML or pickle."
        ),
    ],
    model: Annotated[str, typer.Option("--model", help="Name of the detector.")],
    data: DataOption,
    images: ImagesOption = None,
    split: SplitOption = "val",
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Model of the same directory to compare it with.")
    ] = None,
    engine: Annotated[
        ScoringEngine,
        typer.Option(
            "--engine",
            help="What corrupted the images. If `robustbench corrupt` used this engine, the scores are comparable "
            "with those of `robustbench run`.",
        ),
    ] = "elsewhere",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the corruptions.")] = 0,
    image_ids: Annotated[
        ImageIds,
        typer.Option(
            "--image-ids",
            help="How to find the image of a prediction. id: image_id is the data's own. file-name: by file_name, else "
            "image_id is the file's stem. auto: whatever fits all predictions.",
        ),
    ] = "auto",
    category_ids: Annotated[
        CategoryIds,
        typer.Option(
            "--category-ids",
            help="What category_id is. id: the data's own. from-0 or from-1: the index of the class. coco: COCO's 1 to "
            "90. name: category_name is used instead. auto: whatever fits all predictions.",
        ),
    ] = "auto",
    corruptions: CorruptionDirOption = None,
    project: ProjectOption = RUNS,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="Run directory, which may have other models; default: named after the data."
        ),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score predictions of a detector that ran somewhere else: COCO results for each corruption and severity.

    A file is a list of {image_id, category_id, bbox [x, y, w, h], score}. Images are found by file_name if it is
    there; else image_id is an id of the data or the stem of the image's file. category_id is an id of the data; for a
    dataset YAML, whose classes have no ids, it is the label from 0 or, as Ultralytics writes it, from 1. Ambiguous
    ids are rejected until --image-ids or --category-ids decides. mmdetection's pickled test results are read as data,
    without mmdetection. Its nested results have scores but no detections: they get no intervals and no flips.
    """
    from robustbench_sgdm import api, tables
    from robustbench_sgdm.cli import console

    source, folder = resolve_paths(data, images)
    with console.quiet(quiet), console.progress_bars() as progress:
        run = api.score(
            sources,
            model=model,
            data=source,
            images=folder,
            split=split,
            baseline=baseline,
            engine=engine,
            seed=seed,
            image_ids=image_ids,
            category_ids=category_ids,
            corruptions=corruptions or [],
            project=project,
            name=name,
            command=shlex.join(["robustbench", *sys.argv[1:]]),
            progress=progress,
        )
        run = replace(run, progress=progress)
        _ = (
            run.results().empty or run.analysis().score_tables
        )  # computed below the bars, which are gone when it is printed
    if as_json:
        console.print_document(tables.to_json_text(results_record(run)))
        return
    with console.quiet(quiet):
        print_results(run, brief=quiet)
