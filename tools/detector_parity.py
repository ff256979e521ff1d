"""Writes `docs/data/detector_parity.csv`: a detector's AP under our corruptions and under the reference's, at severity 3.

The AP of each draw is kept in `detector_parity_draws.csv` beside it: later draws (`--first-seed`) are added to it.

Random corruptions are drawn several times by either engine, whose spread says how far apart the means may lie:
three standard errors, and 0.1 AP in any case.

    python tools/detector_parity.py --data DATA --weights FILE [--model yolov8n] [--seeds 3]

82 cells, of 128 images about 12 minutes on two cores; with --seeds 10, 236 cells. Stopped, the same command resumes.
"""

import argparse
from pathlib import Path

import pandas as pd

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.corruption import ENGINES
from robustbench_sgdm.detectors import DetectorEntry, load_detector
from robustbench_sgdm.store import Run, Settings
from robustbench_sgdm.sweep import ThreadExecutor, available_cores, make_plan, run_sweep

SEVERITY = 3
DRAWS = Path(__file__).parents[1] / "docs" / "data" / "detector_parity_draws.csv"
COLUMNS = ["corruption", "engine", "seed", "AP", "fingerprint", "data", "model"]


def main() -> None:
    """Run what is not stored yet, and write the table."""
    options = _options()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    found = pd.concat([_run(options, engine, seed) for seed in seeds for engine in ENGINES])
    draws = merged(pd.read_csv(DRAWS) if DRAWS.is_file() else pd.DataFrame(), found)
    draws = draws.round({"AP": 3})  # as they are kept
    draws.to_csv(DRAWS, index=False, float_format="%.3f")
    table = compared(draws)
    table.to_csv(DRAWS.with_name("detector_parity.csv"), float_format="%.3f")
    print(table.to_string(float_format="%.2f"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many draws")
    parser.add_argument("--first-seed", type=int, default=0, help="of them; another number gives fresh draws")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the images")
    parser.add_argument("--project", type=Path, default=Path("runs/detector_parity"))
    return parser.parse_args()


def _run(options: argparse.Namespace, engine: str, seed: int) -> pd.DataFrame:
    """Results of one engine and seed; without a draw one seed is enough."""
    chosen = corruption.load_corruptions().select(["benchmark", "holdout"])
    chosen = [one for one in chosen if one.random or not seed]
    inference = InferenceConfig(imgsz=640, device="cpu")
    detector = load_detector(options.model, inference, weights=options.weights)
    data = datasets.load_dataset(options.data).subset(options.fraction)
    settings = Settings(device="cpu", engine=engine, seed=seed, batch=4)
    plan = make_plan({detector.name: DetectorEntry(detector, "parity")}, data, chosen, [SEVERITY], settings)
    run = Run.create_or_resume(
        options.project, f"{engine}-{seed}", plan.to_manifest(), ground_truth=plan.ground_truth()
    )
    with run.lock():
        run_sweep(plan, run.store, executor=ThreadExecutor(available_cores()))
    fingerprints = {name: one.fingerprint[:12] for name, one in run.manifest.corruptions.items()}
    found = run.results().assign(engine=engine)
    return found.assign(
        fingerprint=found["corruption"].map(fingerprints),
        data=run.manifest.data.fingerprint[:12],
        model=str(run.manifest.models[detector.name].fingerprint)[:12],
    )[COLUMNS]


def merged(kept: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Earlier draws of the same versions of the corruptions, and new ones in the place of those of the same seed.

    Args:
        kept, found: columns corruption, engine, seed, AP, and the fingerprints of the corruption (with its engine), the
            data and the model; `kept` may be empty.

    Raises:
        SystemExit: the kept draws are of other data or another model.
    """
    if kept.empty:
        return found
    for column in ("data", "model"):
        if set(kept[column]) != set(found[column]):
            raise SystemExit(f"the draws in {DRAWS} are not of this {column}; remove the file to start again")
    keys = ["corruption", "engine"]
    versions = found.drop_duplicates(keys)[[*keys, "fingerprint"]]
    current = kept[keys].merge(versions, how="left", on=keys)["fingerprint"]
    same = current.isna() | (current == kept["fingerprint"].reset_index(drop=True))
    both = pd.concat([kept[same.to_numpy()], found])
    return both.drop_duplicates(["corruption", "engine", "seed"], keep="last").reset_index(drop=True)


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """A row per corruption: mean AP of each engine, draws, difference, its standard error, and a verdict.

    Args:
        results: a row per corruption, engine and seed, with `AP` in percent.
    """
    order = results["corruption"].unique()
    groups = results.groupby(["corruption", "engine"], sort=False)["AP"]
    means, counts = groups.mean().unstack(), groups.size().unstack()
    table = means.loc[order, list(ENGINES)]
    table["draws"] = counts[list(ENGINES)].astype(str).agg(" and ".join, axis=1)
    table["difference"] = table["torch"] - table["imgaug"]
    # Three draws say little of their own spread, so it is that of all random ones together.
    spread = groups.var().mean() ** 0.5
    table["error"] = (spread * (1 / counts).sum(axis=1) ** 0.5).where(counts["torch"] > 1)
    table["same"] = table["difference"].abs() <= (3 * table["error"]).fillna(0).clip(lower=0.1)
    return table


if __name__ == "__main__":
    main()
