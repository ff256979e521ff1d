"""Does a module help under noise, or is it the augmentation? Trains and compares what docs/explanation/evidence.md lists.

What is done is kept: the same command again resumes where it stopped. Once every training is there, it evaluates them and
writes tables: `comparisons.csv`, the ten comparisons on which claims rest, `means.csv` and `latency.csv`. Reports of
all arms are `noise/all/report.html` and `others/all/report.html`.

    python benchmarks/evidence.py --init yolov8n.pt      # any YOLOv8n trained on COCO
    python benchmarks/evidence.py --list                 # arms, seeds, what is done and missing
    python tools/results.py --evidence runs/evidence     # then: the tables and pictures of the page

Two processes may train different --groups at the same time, for example one on each core.
"""

import argparse
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

import robustbench_sgdm as rb
from robustbench_sgdm import robustness
from robustbench_sgdm.robustness.significance import holm
from robustbench_sgdm.training.comparison import run_name

MODULES = ("sgdm", "cbam", "ca", "rfaconv", "sgdm+odconv", "rdconv")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Group:
    """Arms that share one recipe, so that only the module differs.

    Attributes:
        name: of the comparison's folder.
        short: name of the evaluation's run, which tells arms of one name apart: `yolov8n@noise`.
        models: baseline first.
        starts_from_coco: whether every arm starts from `--init`, or from scratch.
        settings: of `TrainingConfig`, over `RECIPE`.
    """

    name: str
    short: str
    models: tuple[str, ...]
    starts_from_coco: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


# Fixed before a result of this design was read, as docs/explanation/evidence.md says; nothing here may follow from one.
RECIPE: dict[str, Any] = {
    "data": "scenes",
    "recipe": "quick",
    "imgsz": 160,
    "epochs": 8,
    "fraction": 0.5,
    "batch": 8,
    "device": "cpu",
    "arguments": {"amp": "bf16", "lr0": 0.001, "warmup_epochs": 0.5},
}
GROUPS = (
    Group("modules", "coco", ("yolov8n", *(f"yolov8n-{module}" for module in MODULES))),
    Group("noise-augmented", "noise", ("yolov8n", "yolov8n-sgdm"), settings={"noise": ("noise",)}),
    Group(
        "from-scratch",
        "scratch",
        ("yolov8n", "yolov8n-sgdm"),
        starts_from_coco=False,
        settings={"epochs": 40, "arguments": {"amp": "bf16"}},
    ),
)

COMPARISONS = (  # baseline and model, each with its group
    *((("modules", "yolov8n"), ("modules", f"yolov8n-{module}")) for module in MODULES),
    (("modules", "yolov8n"), ("noise-augmented", "yolov8n")),
    (("modules", "yolov8n"), ("noise-augmented", "yolov8n-sgdm")),
    (("noise-augmented", "yolov8n"), ("noise-augmented", "yolov8n-sgdm")),
    (("from-scratch", "yolov8n"), ("from-scratch", "yolov8n-sgdm")),
)
EVALUATIONS: dict[str, dict[str, Any]] = {
    "noise": {"noise": ("noise",), "fraction": 1.0},
    "others": {"noise": ("benchmark", "camera", "edge"), "fraction": 0.25},
}
FIRST_SETS = {"noise": "noise", "others": "benchmark"}
"""Of each evaluation, what its first mean is over: everything for `noise`, where that is one family."""

SEVERITIES = range(6)
COLUMNS = ["baseline", "model", "estimate", "low", "high", "se_images", "se_seeds", "seeds", "missing"]


def main() -> None:
    """Train, evaluate and compare what is missing, or list it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--init", type=Path, help="weights of a YOLOv8n trained on COCO")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"), help="directory of everything")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: %(default)s")
    names = [group.name for group in GROUPS]
    parser.add_argument("--groups", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--list", action="store_true", help="say what is done and missing, and stop")
    options = parser.parse_args()
    if not options.list:
        if options.init is None:
            parser.error("--init is missing: the weights that the arms start from, such as yolov8n.pt")
        for seed in options.seeds:  # all arms of a seed first: a part of the whole is balanced
            for group in GROUPS:
                if group.name in options.groups:
                    train(group, seed, options.init, options.out)
        seeds = tuple(dict.fromkeys((*SEEDS, *options.seeds)))
        if all(done for *_, states in training_states(options.out, seeds) for done in states):
            compare(options.out)
        else:
            print(f"nothing is compared before every arm has been trained with the seeds {seeds}")
    print_state(options.out, options.seeds)


def train(group: Group, seed: int, init: Path, out: Path) -> None:
    """Train the arms of a group with one seed; finished ones are read."""
    settings = {**RECIPE, **group.settings, "init": init if group.starts_from_coco else None}
    rb.train(
        group.models,
        seeds=(seed,),
        project=out,
        name=group.name,
        resume=True,
        report=lambda progress: None if progress.map50_95 is None else print(progress),
        **settings,
    )


def compare(out: Path) -> None:
    """Evaluate the trainings of all groups, and write the tables to `out`."""
    tables, latency = {}, []
    for name, how in EVALUATIONS.items():
        runs = []
        for group in GROUPS:
            print(f"evaluating {group.name} under {', '.join(how['noise'])}", flush=True)
            evaluated = rb.evaluate(
                (),
                from_train=out / group.name,
                severity=SEVERITIES,
                project=out / name,
                name=group.short,
                exist_ok=True,  # the same folder with further seeds
                allow_identical=True,  # a module that stays the identity is a result too
                **how,
            )
            runs.append(evaluated.directory)
            latency.append(
                pd.read_csv(evaluated.path / "latency.csv").assign(evaluation=name, group=group.short)
            )
        named = dict(zip((group.name for group in GROUPS), robustness.unique_model_names(runs), strict=True))
        pairs = [(named[a][one], named[b][other]) for (a, one), (b, other) in COMPARISONS]
        intervals = robustness.bootstrap_intervals(runs)
        table = intervals.table(["AP", "AP_S"], pairs=pairs)
        is_first = table["over"] == next(iter(intervals.sets)).name
        table["family"] = table["family"].mask(is_first, FIRST_SETS[name])
        tables[name] = table[table["statistic"].isin(["P", "mPC"])]
        print(f"writing {out / name / 'all' / 'report.html'}", flush=True)
        shutil.rmtree(out / name / "all", ignore_errors=True)  # copies, perhaps of fewer seeds
        rb.join_runs([run.path for run in runs], out / name / "all").report()
    means = pd.concat([table.assign(evaluation=name) for name, table in tables.items()])
    write(means[["evaluation", "statistic", "family", "over", "metric", *COLUMNS]], out / "means.csv")
    write(pd.concat(latency), out / "latency.csv")
    claimed = tables["noise"].query(
        "statistic == 'mPC' and metric == 'AP' and baseline != '' and family == 'noise'"
    )
    assert len(claimed) == len(COMPARISONS)
    p = claimed["p"].fillna(1.0)  # a comparison without a p still counts among the ten
    claimed = claimed.assign(p_holm=holm(p.to_numpy()))
    write(claimed[[*COLUMNS, "p", "p_holm"]], out / "comparisons.csv")


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table as the package writes its own."""
    table.to_csv(path, index=False, lineterminator="\n")


def training_states(out: Path, seeds: tuple[int, ...]) -> list[tuple[str, str, list[bool]]]:
    """Of every arm its group, its model, and whether the training of each seed is done."""
    return [
        (
            group.name,
            model,
            [(out / group.name / run_name(model, s) / "result.json").is_file() for s in seeds],
        )
        for group in GROUPS
        for model in group.models
    ]


def print_state(out: Path, seeds: tuple[int, ...]) -> None:
    """A row for each arm, with `done` or `missing` for each seed; then the tables."""
    print(f"{'recipe':16s} {'model':20s} " + " ".join(f"seed {seed:<3d}" for seed in seeds))
    for group, model, states in training_states(out, seeds):
        print(f"{group:16s} {model:20s} " + " ".join("done    " if done else "missing " for done in states))
    for name in ("comparisons.csv", "means.csv", "latency.csv"):
        print(f"{name:37s} {'done' if (out / name).is_file() else 'missing'}")


if __name__ == "__main__":
    main()
