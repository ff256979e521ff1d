"""Makes the weights that come with the package, from code, a seed, and a YOLOv8n trained on COCO.

`python -m robustbench_sgdm.training.make_bundled_weights yolov8n.pt`: about an hour for each detector on one core with
bfloat16. Two can be made at once, each by a process of its own that names its detector; the result is the same.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from robustbench_sgdm.config import TrainingConfig
from robustbench_sgdm.core import atomic_io
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.training import model_card
from robustbench_sgdm.training.comparison import TrainedRun, read_recipe
from robustbench_sgdm.training.data import TrainingData, make_scenes_data
from robustbench_sgdm.training.evaluate import evaluate_weights
from robustbench_sgdm.training.runner import train

MODELS = ("yolov8n", "yolov8n-sgdm")
SIZES = (320, 640)
"""Sides, px, at which a card gives scores; the first is where the file is meant to be used."""

_OUT = Path(__file__).parents[1] / "weights"


def train_bundled_weights(
    init: Path,
    models: Sequence[str] = MODELS,
    out: Path = _OUT,
    project: Path = Path("runs/train"),
    seeds: Sequence[int] = (0,),
) -> None:
    """Train and write `<name>.safetensors`, `<name>.md`, `<name>.csv` and `recipe.yaml` to `out`.

    Both models start from `init`, so that an hour is enough; the module starts as the identity. The first seed's
    weights are kept; the others show what a seed is worth, in `summary.csv` of the comparison's folder.
    """
    data = make_scenes_data()
    config = TrainingConfig(
        models,
        data=data,
        init=init,
        seeds=seeds,
        epochs=14,
        imgsz=320,
        batch=8,
        project=project,
        exist_ok=True,
        arguments={"amp": "bf16", "lr0": 0.001, "warmup_epochs": 0.5},
        report=lambda progress: None if progress.map50_95 is None else print(progress),
    )
    runs = train(config)
    for run in (r for r in runs if r.seed == seeds[0]):
        install_weights(run, data, out)


def install_weights(run: TrainedRun, data: TrainingData, out: Path) -> None:
    """Put one run's weights, card and log in the package's folder."""
    trained = weights.read_weights(run.weights)
    path = out / f"{run.model}.safetensors"
    meta = {**trained.meta, "imgsz": str(SIZES[0])}
    weights.write_weights(path, trained.state, trained.config, trained.classes, meta, layers=trained.layers)
    scores = {size: evaluate_weights(path, data.val, imgsz=size, batch=16) for size in SIZES}
    atomic_io.write_text(
        out / f"{run.model}.md", model_card.model_card_text(weights.read_weights(path), scores, run.health)
    )
    files = SafeDirectory(run.folder.parent)
    atomic_io.write_bytes(out / f"{run.model}.csv", files.read_bytes(run.folder / "results.csv"))
    recipe = read_recipe(run.folder, files)
    shared = {key: value for key, value in recipe.items() if key not in ("model", "start")}
    atomic_io.write_text(out / "recipe.yaml", model_card.as_yaml(shared))


def main() -> None:
    """Make the detectors named on the command line, or all."""
    parser = argparse.ArgumentParser(description="train the weights that come with the package")
    parser.add_argument("init", type=Path, help="weights of yolov8n for COCO")
    parser.add_argument("models", nargs="*", default=MODELS, help="of %(default)s")
    parser.add_argument("--out", type=Path, default=_OUT, help="folder for the files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="the first one's weights are kept")
    given = parser.parse_args()
    train_bundled_weights(given.init, given.models, given.out, seeds=given.seeds)


if __name__ == "__main__":
    main()
