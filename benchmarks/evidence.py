"""Does a module help under noise, or is it the augmentation? Trains the arms of docs/explanation/evidence.md.

What is done is kept: the same command again resumes at the epoch where it stopped, and trains what is missing.

    python benchmarks/evidence.py --init yolov8n.pt      # any YOLOv8n trained on COCO
    python benchmarks/evidence.py --list                 # arms, seeds, what is done and missing

Two processes may train different --groups at the same time, for example one on each core.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import robustbench_sgdm as rb
from robustbench_sgdm.training.comparison import run_name

MODULES = ("sgdm", "cbam", "ca", "rfaconv", "sgdm+odconv", "rdconv")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Group:
    """Arms that share one recipe, so that only the module differs.

    Attributes:
        name: of the comparison's folder.
        models: baseline first.
        starts_from_coco: whether every arm starts from `--init`, or from scratch.
        settings: of `TrainingConfig`, over `RECIPE`.
    """

    name: str
    models: tuple[str, ...]
    starts_from_coco: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


# Fixed before the first result, as docs/explanation/evidence.md says; nothing here may follow from one.
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
    Group("modules", ("yolov8n", *(f"yolov8n-{module}" for module in MODULES))),
    Group("noise-augmented", ("yolov8n", "yolov8n-sgdm"), settings={"noise": ("noise",)}),
    Group(
        "from-scratch",
        ("yolov8n", "yolov8n-sgdm"),
        starts_from_coco=False,
        settings={"epochs": 40, "arguments": {"amp": "bf16"}},
    ),
)


def main() -> None:
    """Train what is missing, or list it."""
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


def print_state(out: Path, seeds: tuple[int, ...]) -> None:
    """A row for each arm, with `done` or `missing` for each seed."""
    print(f"{'recipe':16s} {'model':20s} " + " ".join(f"seed {seed:<3d}" for seed in seeds))
    for group in GROUPS:
        for model in group.models:
            done = [(out / group.name / run_name(model, seed) / "result.json").is_file() for seed in seeds]
            print(f"{group.name:16s} {model:20s} " + " ".join("done    " if d else "missing " for d in done))


if __name__ == "__main__":
    main()
