"""`robustbench run`: plan, estimate, sweep, tables, report."""

import shlex
import sys
from collections.abc import Callable, Sequence, Sized
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_sgdm.cli import executing, options
from robustbench_sgdm.cli.data import DataOption, ImagesOption, SplitOption, load_dataset
from robustbench_sgdm.cli.figure import tell_baseline, write_report
from robustbench_sgdm.cli.results import show_results
from robustbench_sgdm.errors import DeviceError, RobustBenchError, UsageError

if TYPE_CHECKING:
    from robustbench_sgdm.datasets import Dataset
    from robustbench_sgdm.detectors import Detector, Entrant
    from robustbench_sgdm.store import Run
    from robustbench_sgdm.sweep import Crew, Executor, Plan, Unit

DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1 or an index; the first GPU if there is one, else cpu."),
]


def run(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Zoo name (see `robustbench list models`), path of an Ultralytics detection checkpoint, or model "
            f"YAML with --weights. {options.SEVERAL}",
        ),
    ] = None,
    from_train: Annotated[
        Path | None,
        typer.Option(
            "--from-train",
            help="In place of --model: the folder that `robustbench train` made; each training is run beside that of its "
            "baseline with the same seed, and seeds are put together.",
        ),
    ] = None,
    noise: Annotated[
        list[str],
        typer.Option(
            "--noise",
            help="Corruptions and groups (see `robustbench list corruptions`). Several: commas or repeats.",
        ),
    ] = ["gaussian"],  # noqa: B006 - typer wants a list
    severity: Annotated[
        list[str],
        typer.Option("--severity", help="Severities from 0 (clean) to 5, any real number: 0-5, 1,3, 2.5."),
    ] = ["0-5"],  # noqa: B006
    data: DataOption = "scenes",
    images: ImagesOption = None,
    split: SplitOption = "val",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            help=f"Weights: FILE for every model, one FILE each in order, or NAME=FILE. {options.SEVERAL}",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="Compare all others with this model of the run; default: a module variant with its own, else all with "
            "the first.",
        ),
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Do not also run the baseline of a module variant.")
    ] = False,
    imgsz: Annotated[
        int,
        typer.Option(
            "--imgsz",
            help="Letterbox size in pixels, a multiple of 32; 0: what each model's file says it was trained at, or 640.",
        ),
    ] = 0,
    batch: Annotated[
        int, typer.Option("--batch", min=0, help="Images a forward pass; 0: 4 on the CPU, 32 on a GPU.")
    ] = 0,
    device: DeviceOption = None,
    half: Annotated[bool, typer.Option("--half", help="Half precision; GPU only.")] = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            help="Worker processes; 0: threads of this process (one per core on the CPU, 2 on a GPU), or as many as "
            "a Ray cluster has room for.",
        ),
    ] = 0,
    on: Annotated[
        str,
        typer.Option(
            "--on", help="Where images are worked on: local (this machine) or ray (workers of a Ray cluster)."
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Ray cluster: HOST:PORT or auto; default: one is started here for the run."
        ),
    ] = None,
    gpus: Annotated[
        float,
        typer.Option("--gpus", help="GPUs of each Ray worker on --device cuda; 0.5 lets two share one."),
    ] = 1.0,
    engine: Annotated[
        str, typer.Option("--engine", help="What corrupts: torch (ours) or imgaug (the reference, slow).")
    ] = "torch",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of every random draw.")] = 0,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Share of the images, in (0, 1]; always the same ones.")
    ] = 1.0,
    conf: Annotated[
        float, typer.Option("--conf", help="Least confidence of a detection; AP wants it low.")
    ] = 0.001,
    iou: Annotated[float, typer.Option("--iou", help="IoU above which NMS drops the weaker box.")] = 0.7,
    max_det: Annotated[int, typer.Option("--max-det", help="Most detections kept per image.")] = 300,
    end2end: Annotated[
        bool | None,
        typer.Option(
            "--end2end/--no-end2end",
            help="Branch of YOLOv10's and YOLO26's heads: one-to-one without NMS, or one-to-many with it; default: what "
            "Ultralytics' val takes (one-to-many).",
        ),
    ] = None,
    corruptions: Annotated[
        list[Path] | None,
        typer.Option("--corruptions", help="Folder with corruptions of your own; may be repeated."),
    ] = None,
    trust_weights: Annotated[
        bool,
        typer.Option(
            "--trust-weights", help="Let a .pt file run the code it holds. Only for files you trust fully."
        ),
    ] = False,
    project: Annotated[
        Path, typer.Option("--project", help="Folder that run directories are made in.")
    ] = Path("runs/robustness"),
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Run directory; default: models and corruptions. Where it holds another plan, a number is added.",
        ),
    ] = None,
    exist_ok: Annotated[
        bool,
        typer.Option(
            "--exist-ok", help="Put another plan into an existing directory, keeping the cells that fit."
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Run also where two models detect the same, such as an untrained module."),
    ] = False,
    only_estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the run would cost and stop; nothing is written.")
    ] = False,
) -> None:
    """Measure detectors under corruption: cells, scores, tables and a report.

    Naming a module variant (yolov8n-sgdm) also runs its baseline. Two models of your own are compared too: the first
    is the baseline, or the one that --baseline names. The same command again goes on where
    it stopped and computes only what is missing.
    """
    from robustbench_sgdm import corruption as corrupting
    from robustbench_sgdm.cli.console import note
    from robustbench_sgdm.detectors import against, pick_device
    from robustbench_sgdm.store import Run
    from robustbench_sgdm.sweep import Settings, cores, make_plan, rehearse

    used = pick_device(device)
    executing.check(on, address, gpus, used, connect=not only_estimate)
    levels = options.severities(severity)
    chosen = corrupting.load(corruptions or []).select(options.some(noise, "--noise", "gaussian"))
    rehearse(chosen, levels, engine, used)
    dataset = load_dataset(data, images, split).subset(fraction)
    smallest = min(dataset.images, key=lambda image: min(image.height, image.width))
    rehearse(chosen, levels, engine, used, (smallest.height, smallest.width))
    how = {
        **{"imgsz": imgsz, "device": used, "half": half, "conf": conf, "iou": iou, "max_det": max_det},
        **{"end2end": end2end, "trust": trust_weights},
    }
    if from_train:
        if model or weights:
            raise UsageError("--from-train brings models and weights; leave out --model and --weights")
        entrants = _trained(from_train, dataset, **how)
    else:
        entrants = _entrants(options.models(model or []), weights or [], not no_baseline, dataset, **how)
    default_name = _default_name(entrants, options.split(noise), dataset.name, from_train)
    if baseline:  # no part of the name: the cells are the same
        entrants = against(entrants, baseline)
    settings = Settings(device=used, engine=engine, seed=seed, batch=batch or (4 if used == "cpu" else 32))
    command = shlex.join(["robustbench", *sys.argv[1:]])
    plan = make_plan(entrants, dataset, chosen, levels, settings, command=command)
    _check_outputs(plan, go_on=yes or only_estimate)
    threads = min(workers or cores(), cores()) if used == "cpu" else 2
    crew = executing.crew(on, workers, threads, device=used, address=address, gpus=gpus)
    if only_estimate:
        _estimate(plan, crew, unknown=bool(address) and not workers)
        return
    chosen_name = name or default_name
    directory = Run.start(project, chosen_name, plan.describe(), truth=plan.truth(), exist_ok=exist_ok)
    if directory.path.name != chosen_name:
        note(
            f"{project / chosen_name} holds another plan, so this run goes to {directory.path}; --exist-ok instead puts "
            "it there and keeps the cells that fit"
        )
    tell_baseline(directory)
    with executing.stoppable(), directory.lock():
        executor = executing.executor(on, workers, threads, device=used, address=address, gpus=gpus)
        failed = _sweep(plan, directory, executor, crew)
        if not any(isinstance(error, DeviceError) for error in failed):
            _latency(plan, directory)
            _damage(plan, directory, threads)
        show_results(directory)
        if any(directory.store.complete(cell) for cell in directory.cells):
            write_report(directory, folders=corruptions or [])
    if failed:
        _tell_missing(directory, failed)


def _entrants(
    models: list[str], weights: list[str], baselines: bool, dataset: "Dataset", **how: Any
) -> "dict[str, Entrant]":
    from robustbench_sgdm.detectors import line_up

    entrants = line_up(
        models, lambda names: options.weights(weights, models, names), baselines=baselines, **how
    )
    return _matched(entrants, dataset, how["imgsz"])


def _trained(folder: Path, dataset: "Dataset", **how: Any) -> "dict[str, Entrant]":
    """The detectors of a comparison of trainings."""
    from robustbench_sgdm.detectors import line_up_trained
    from robustbench_sgdm.training import read_comparison

    runs = read_comparison(folder)
    entrants = line_up_trained([(run.model, run.seed, run.weights) for run in runs], **how)
    return _matched(entrants, dataset, how["imgsz"])


def _matched(entrants: "dict[str, Entrant]", dataset: "Dataset", imgsz: int) -> "dict[str, Entrant]":
    """The detectors, whose classes and sizes go with the data; what a user should know of them is told."""
    from robustbench_sgdm.cli.console import note
    from robustbench_sgdm.sweep import match_detector

    for entrant in entrants.values():
        detector = entrant.detector
        match = match_detector(detector, dataset)
        if match.unfound and entrant.weights == "embedded":
            raise UsageError(
                f"{detector.name}'s embedded weights know the classes of scenes, and {dataset.name} has "
                f"{len(match.unfound)} others; give weights that were trained on such classes: --weights "
                f"{detector.name}=FILE"
            )
        for text in match.notes(detector.name, dataset.name):
            note(f"warning: {text}")
    for text in _size_notes([entrant.detector for entrant in entrants.values()], chosen=imgsz):
        note(text)
    return entrants


def _size_notes(detectors: "Sequence[Detector]", chosen: int) -> list[str]:
    """At which size models run, where the user did not choose it or chose another than their files say."""
    trained = {d.name: getattr(d, "trained_imgsz", None) for d in detectors}
    if chosen:
        return [
            f"{name}: {chosen} px by --imgsz; its file says it was trained at {size} px"
            for name, size in trained.items()
            if size not in (None, chosen)
        ]
    notes = [
        f"{d.name}: {d.imgsz} px, "
        + (
            "as its file says"
            if trained[d.name]
            else "the default, since its file says no size; --imgsz sets it"
        )
        for d in detectors
    ]
    if len({d.imgsz for d in detectors}) > 1:
        notes.append("warning: models run at different sizes; --imgsz gives all the same")
    return notes


def _check_outputs(plan: "Plan", *, go_on: bool) -> None:
    """Ask before time is spent on models that detect the same.

    Raises:
        UsageError: nobody can be asked, or the answer is no.
    """
    from robustbench_sgdm.cli.console import note
    from robustbench_sgdm.store import Run
    from robustbench_sgdm.sweep import same_outputs

    told = []
    for baseline, model in Run(Path(), plan.describe()).trained_pairs:
        if same_outputs(plan, baseline, model):
            module = plan.models[model].detector.describe().get("module")
            same = plan.models[baseline].detector.describe().get("module") == module
            why = "" if same else f": its {module} module is untrained"
            told.append(f"{model} detects the same as {baseline}{why}")
    for text in told:
        note(f"warning: {text}")
    if not told or go_on:
        return
    if sys.stdin.isatty():
        if typer.confirm("Run it all the same?", err=True):
            return
        raise UsageError("nothing was run")
    raise UsageError(f"{told[0]}, so there is nothing to compare; give trained weights, or --yes to run it")


def _default_name(
    entrants: "dict[str, Entrant]", noise: list[str], data: str, from_train: Path | None
) -> str:
    models = [name for name, entrant in entrants.items() if entrant.baseline] or list(entrants)
    if from_train:
        models = [from_train.resolve().name]
    return "_".join([*models[:3], "-".join(noise[:3]), data]).replace("/", "-")


def _size(plan: "Plan") -> str:
    from robustbench_sgdm.cli.console import several

    counts: dict[str, Sized] = {"model": plan.models, "cell": plan.cells, "image": plan.dataset}
    return ", ".join(several(len(each), what) for what, each in counts.items())


def _estimate(plan: "Plan", crew: "Crew", unknown: bool) -> None:
    """Cells, predictions and time of a run from its beginning, on standard output.

    Args:
        crew: who would work.
        unknown: a cluster has as many workers as it has room for, which is not asked.
    """
    import tempfile

    from robustbench_sgdm.cli.console import line
    from robustbench_sgdm.store import CellStore
    from robustbench_sgdm.sweep import needed_units

    with tempfile.TemporaryDirectory() as empty:
        units = needed_units(plan, CellStore(Path(empty)))
    first, *parts = _cost(plan, units, crew)
    predictions = sum(unit.size for unit in units)
    line(f"{_size(plan)}, {predictions:,} predictions: {first}")
    for part in parts:
        line(f"  {part}")
    if unknown:
        line(
            "The cluster was not asked for its size: its other workers share the predictions; see --workers."
        )


def _cost(plan: "Plan", units: "Sequence[Unit]", crew: "Crew", run: "Run | None" = None) -> list[str]:
    """Time and workers, then what each part of the run takes."""
    from robustbench_sgdm.cli.console import durations, several
    from robustbench_sgdm.sweep import estimate

    parts = estimate(plan, units, crew, run)
    whole = durations(*(sum(ends) for ends in zip(*parts.values(), strict=True)))
    return [
        f"{whole} on {plan.settings.device} with {several(crew.workers, 'worker')}",
        *(f"{name}: {durations(*span)}" for name, span in parts.items()),
    ]


def _latency(plan: "Plan", run: "Run") -> None:
    """Time the run's detectors in turns, once."""
    from robustbench_sgdm.sweep import latency

    if run.latency().empty:
        run.write_latency(latency(plan))


def _tell_missing(run: "Run", failed: "list[RobustBenchError]") -> None:
    missing = run.missing()
    named = "; ".join(map(str, missing[:5])) + ("; ..." if len(missing) > 5 else "")
    raise RobustBenchError(
        f"{'; '.join(map(str, failed))}; {len(missing)} of {len(run.cells)} cells are missing ({named}): "
        "mend it, and the same command makes them"
    )


def _sweep(
    plan: "Plan", run: "Run", executor: "AbstractContextManager[Executor]", crew: "Crew"
) -> "list[RobustBenchError]":
    from robustbench_sgdm.cli.console import counting, note
    from robustbench_sgdm.sweep import needed_units, sweep

    units = needed_units(plan, run.store)
    todo = sum(u.size for u in units)
    have = len(plan.cells) - len(run.missing())
    note(f"{run.path}: {_size(plan)}; {have} cells stored, {todo:,} predictions to make")
    if not units:
        return sweep(plan, run.store, units=units)
    with executor as on:
        try:
            whole, *parts = _cost(plan, units, replace(crew, workers=on.workers), run)
            note(f"{whole} ({', '.join(parts)})")
        except RobustBenchError as error:  # the sweep finds out whether anything comes of it
            note(f"duration unknown: {error}")
        update: Callable[[int], None]
        with counting("predicting", todo) as update:
            return sweep(plan, run.store, units=units, on=on, progress=update)


def _damage(plan: "Plan", run: "Run", workers: int) -> None:
    """Measure the corruptions on the run's images; what fails here has failed in the sweep too."""
    from robustbench_sgdm.cli.console import counting
    from robustbench_sgdm.sweep import measure_damage, measurements

    with counting("measuring damage", measurements(plan, run)) as update:
        measure_damage(plan, run, workers=workers, progress=update)
