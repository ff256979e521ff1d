"""Writes `detector_parity.csv`: a detector's AP under our corruptions and under the reference's, at severity 3.

Random corruptions are drawn three times by ours, whose spread says how far from its mean the reference's
single draw may lie: three standard errors, and 0.1 AP in any case.

    python docs/detector_parity.py --data JSON --weights FILE [--model yolov8n] [--seeds 3]

60 cells, of 128 images about 15 minutes on two cores; stopped, the same command goes on.
"""

import argparse
from pathlib import Path

import pandas as pd

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.corruption import ENGINES
from robustbench_sgdm.detectors import Entrant, load
from robustbench_sgdm.store import Run
from robustbench_sgdm.sweep import Settings, cores, make_plan, sweep

SEVERITY = 3


def main() -> None:
    """Run what is not stored yet, and write the table."""
    options = _options()
    draws = [("torch", 0), ("imgaug", 0), *(("torch", seed) for seed in range(1, options.seeds))]
    found = [_run(options, engine, seed) for engine, seed in draws]
    table = compared(pd.concat(found))
    table.to_csv(Path(__file__).with_suffix(".csv"), float_format="%.3f")
    print(table.to_string(float_format="%.2f"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--project", type=Path, default=Path("runs/detector_parity"))
    return parser.parse_args()


def _run(options: argparse.Namespace, engine: str, seed: int) -> pd.DataFrame:
    """Results of one engine and seed; without a draw one seed is enough."""
    chosen = corruption.load().select(["benchmark", "holdout"])
    chosen = [one for one in chosen if one.random or not seed]
    detector = load(options.model, weights=options.weights, imgsz=640, device="cpu")
    data = datasets.load(options.data)
    settings = Settings(device="cpu", engine=engine, seed=seed, batch=4)
    plan = make_plan({detector.name: Entrant(detector, "parity")}, data, chosen, [SEVERITY], settings)
    run = Run.start(options.project, f"{engine}-{seed}", plan.describe(), truth=plan.truth())
    with run.lock():
        sweep(plan, run.store, workers=cores())
    return run.results().assign(engine=engine)


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """A row per corruption: mean AP of each engine, their difference, and its standard error.

    Args:
        results: a row per corruption, engine and seed, with `AP` in percent.
    """
    order = results["corruption"].unique()
    groups = results.groupby(["corruption", "engine"], sort=False)["AP"]
    means, spread, draws = (part.unstack() for part in (groups.mean(), groups.std(), groups.size()))
    table = means.loc[order, list(ENGINES)]
    table["difference"] = table["torch"] - table["imgaug"]
    table["error"] = spread["torch"] * (1 / draws).sum(axis=1) ** 0.5
    table["same"] = table["difference"].abs() <= (3 * table["error"]).fillna(0).clip(lower=0.1)
    return table


if __name__ == "__main__":
    main()
