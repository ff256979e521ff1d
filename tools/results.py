"""Writes the results that the pages show: a csv, the tables of `docs/explanation/results.md`, and pictures.

robustbench run --model yolov8n-sgdm --noise gaussian --name results
python tools/results.py runs/robustness/results             # docs/data/results.csv and results.png, then the tables
python tools/results.py                                     # the tables alone, from the csv

robustbench run --model yolov8n-sgdm --noise gaussian,motion_blur,fog,ringing --fraction 0.25 --name pictures
python tools/results.py --pictures runs/robustness/pictures # of the dashboard, the report and the map; needs Chromium
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import robustbench_sgdm as rb  # noqa: E402 - of this checkout
from robustbench_sgdm.core import resources  # noqa: E402

DATA, IMAGES = ROOT / "docs" / "data", ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "explanation" / "results.md"
METRICS = ("AP", "AP50", "AP_S")
COLUMNS = (
    *("model", "baseline", "statistic", "over", "corruption", "severity", "metric"),
    *("estimate", "low", "high", "p", "p_holm", "significant", "se", "resamples"),
)
KEPT = "yolov8n", "yolov8n-sgdm"
"""Baseline and model."""

VIEW = "images?corruption=gaussian_noise&severity=2"
"""Of the dashboard, in its picture."""


def write_csv(run: rb.Run, folder: Path) -> None:
    """Write the scores, means and differences of a run with their intervals.

    Args:
        run: of two models, the second compared with the first.
        folder: for `results.csv`.
    """
    table = run.compare(metrics=METRICS)[list(COLUMNS)]
    table.insert(0, "images", run.results()["images"].max())
    table.to_csv(folder / "results.csv", index=False, float_format="%.4g", lineterminator="\n")


def by_severity(results: pd.DataFrame) -> str:
    """AP of both models at each severity, and the difference."""
    scores = results[(results["statistic"] == "score") & (results["metric"] == "AP")]
    rows = []
    for severity in sorted(scores["severity"].unique()):
        cell = scores[scores["severity"] == severity]
        row: dict[tuple[str, str], Any] = {
            (one.baseline if isinstance(one.baseline, str) else "", one.model): one
            for one in cell.itertuples()
        }
        difference = row[KEPT]
        rows.append(
            [
                f"{severity:g}" if severity else "0 (clean)",
                *(_with_interval(row["", model]) for model in KEPT),
                _with_interval(difference, "+"),
                _p(difference.p_holm),
            ]
        )
    return _table(["severity", *KEPT, "difference", "p"], rows)


def means(results: pd.DataFrame) -> str:
    """P and mPC of each metric, and their differences."""
    first = results[results["statistic"] == "mPC"]["over"].iloc[0]
    rows = []
    for metric in METRICS:
        for statistic, over in (("P", None), ("mPC", first)):
            cell = results[(results["metric"] == metric) & (results["statistic"] == statistic)]
            cell = cell[cell["over"] == over] if over else cell
            own = cell[cell["baseline"].isna()].set_index("model")["estimate"]
            difference: Any = next(cell[cell["baseline"].notna()].itertuples())
            rows.append(
                [
                    f"{statistic} of {_escape(metric)}",
                    *(f"{own[model]:.2f}" for model in KEPT),
                    _with_interval(difference, "+"),
                    _p(difference.p_holm),
                ]
            )
    return _table(["mean", *KEPT, "difference", "p"], rows)


def over_seeds(earlier: pd.DataFrame) -> str:
    """The mean difference over three trainings, with Student's interval of 2 degrees of freedom."""
    study = earlier[(earlier["study"] == "scenes-14") & (earlier["model"] != "difference")]
    wide = study.pivot_table(index=["metric", "severity", "seed"], columns="model", values="estimate")
    differences = wide[KEPT[1]] - wide[KEPT[0]]
    rows = []
    for severity in sorted(study["severity"].unique()):
        row = [f"{severity:g}" if severity else "0 (clean)"]
        for metric in METRICS:
            seeds = differences[metric, severity]
            half = stats.t.ppf(0.975, len(seeds) - 1) * seeds.std() / len(seeds) ** 0.5
            mean = seeds.mean()
            row.append(f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]")
        rows.append(row)
    return _table(["severity", *(f"difference in {_escape(metric)}" for metric in METRICS)], rows)


def tables(folder: Path) -> Mapping[str, str]:
    """The tables of the page, by name, from the csv files of a folder."""
    results = pd.read_csv(folder / "results.csv")
    earlier = pd.read_csv(folder / "results_version1.csv")
    return {"severity": by_severity(results), "means": means(results), "seeds": over_seeds(earlier)}


def filled(page: str, content: Mapping[str, str]) -> str:
    """A page with each table between its comments.

    Args:
        page: has `<!-- table: NAME -->` ... `<!-- end -->` for every name.
        content: tables by name.
    """
    for name, table in content.items():
        before, start, rest = page.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise SystemExit(f"{PAGE.name} has no place for the table {name!r}")
        page = f"{before}{start}\n{table}\n{end}{after}"
    return page


def _with_interval(row: Any, sign: str = "") -> str:
    return f"{row.estimate:{sign}.2f} [{row.low:{sign}.2f}, {row.high:{sign}.2f}]"


def _escape(name: str) -> str:
    return name.replace("_", "\\_")


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [heads, ["---"] * len(heads), *rows])


def draw(run: rb.Run) -> None:
    """Draw the curves of the page."""
    run.figure("severity").save(IMAGES / "results.png")


def take_pictures(run: rb.Run) -> None:
    """Draw the map of differences, and take pictures of the run's report and of the dashboard that shows it."""
    from playwright.sync_api import sync_playwright

    run.figure("differences").save(IMAGES / "differences.png")
    serving = resources.import_file(ROOT / "benchmarks/support/serving.py")
    with serving.Serving(run.path.parent) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*serving.FLAGS])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.set_default_timeout(120_000)
        page.goto((run.path / "report.html").resolve().as_uri())
        page.screenshot(path=IMAGES / "report.jpg", type="jpeg", quality=80)
        page.goto(f"{address}/overview?run={run.path.name}")
        page.get_by_role("button", name="Show the images").click()
        page.locator(".tile image[href]").nth(3).wait_for()
        page.wait_for_timeout(2000)  # until they are drawn
        page.screenshot(path=IMAGES / "overview.jpg", type="jpeg", quality=80)
        page.goto(f"{address}/{VIEW}&run={run.path.name}")
        page.get_by_role("button", name="Show the images").click()
        page.locator(".thumb img").last.wait_for()
        page.wait_for_timeout(2000)  # until they are drawn
        page.screenshot(path=IMAGES / "dashboard.jpg", type="jpeg", quality=88)
        browser.close()


def main() -> None:
    """Do what the words ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="run directory of the embedded pair")
    parser.add_argument("--pictures", metavar="RUN", help="run directory for the pictures")
    options = parser.parse_args()
    steps: list[tuple[str | None, Callable[[rb.Run], None]]] = [
        (options.run, lambda run: write_csv(run, DATA)),
        (options.run, draw),
        (options.pictures, take_pictures),
    ]
    for path, step in steps:
        if path:
            step(rb.Run.open(path))
    PAGE.write_text(filled(PAGE.read_text("utf-8"), tables(DATA)), "utf-8")


if __name__ == "__main__":
    main()
