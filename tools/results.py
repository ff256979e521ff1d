"""Writes the results that the pages show: csv files, the tables of two pages in `docs/explanation`, and pictures.

robustbench run --model yolov8n-sgdm --noise gaussian --name results
python tools/results.py runs/robustness/results             # docs/data/results.csv and results.png, then the tables
python tools/results.py                                     # the tables alone, from the csv files

python benchmarks/evidence.py --init yolov8n.pt             # hours
python tools/results.py --evidence runs/evidence            # docs/data/evidence_*.csv, docs/evidence, and pictures

robustbench run --model yolov8n-sgdm --noise gaussian,motion_blur,fog,ringing --fraction 0.25 --name pictures
python tools/results.py --pictures runs/robustness/pictures # of the dashboard, the report and the map; needs Chromium
"""

import argparse
import json
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
from robustbench_sgdm import robustness  # noqa: E402
from robustbench_sgdm.core import resources  # noqa: E402
from robustbench_sgdm.store import Run  # noqa: E402

DATA, IMAGES = ROOT / "docs" / "data", ROOT / "docs" / "images"
PAGES = tuple(ROOT / "docs" / "explanation" / name for name in ("results.md", "evidence.md"))
METRICS = ("AP", "AP50", "AP_S")
COLUMNS = (
    *("model", "baseline", "statistic", "over", "corruption", "severity", "metric"),
    *("estimate", "low", "high", "p", "p_holm", "significant", "se", "resamples"),
)
KEPT = "yolov8n", "yolov8n-sgdm"
"""Baseline and model."""

TRAININGS = {"coco": "", "noise": " with noise", "scratch": " from scratch"}
"""How the arms of the study were trained, by the ends of their names."""

EVIDENCE_FIGURES = ("mean-curve", "first-failure", "pareto")

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


def comparisons(table: pd.DataFrame) -> str:
    """The ten comparisons of the study, in the order of its design."""
    rows = [
        [
            arm(row.model),
            arm(row.baseline),
            _with_interval(row, "+"),
            _p(row.p_holm),
            "yes" if row.p_holm < 0.05 else "no",
        ]
        for row in _rows(table)
    ]
    return _table(["model", "compared with", "difference", "p", "shown"], rows)


def arms(means: pd.DataFrame) -> str:
    """Means of every arm of the study: clean, noise, and the other families."""
    own = means[means["baseline"].isna()]
    columns = {
        "clean AP": ("noise", "P", "", "AP"),
        "AP under noise": ("noise", "mPC", "noise", "AP"),
        "AP\\_S under noise": ("noise", "mPC", "noise", "AP_S"),
        "benchmark": ("others", "mPC", "benchmark", "AP"),
        "camera": ("others", "mPC", "camera", "AP"),
        "edge": ("others", "mPC", "edge", "AP"),
    }
    keys = ["evaluation", "statistic", "family", "metric"]
    numbers: Any = own.fillna({"family": ""}).set_index(["model", *keys])
    rows = [
        [arm(model), *(_with_half_width(numbers.loc[(model, *key)]) for key in columns.values())]
        for model in own["model"].unique()
    ]
    return _table(["arm", *columns], rows)


def arm(name: str) -> str:
    """An arm of the study in words: `yolov8n@noise` is `yolov8n with noise`."""
    model, _, training = name.partition("@")
    return f"`{model}`{TRAININGS[training or 'coco']}"


def tables(folder: Path) -> Mapping[str, str]:
    """The tables of the pages, by name, from the csv files of a folder."""
    results = pd.read_csv(folder / "results.csv")
    earlier = pd.read_csv(folder / "results_version1.csv")
    found = {"severity": by_severity(results), "means": means(results), "seeds": over_seeds(earlier)}
    if (folder / "evidence_comparisons.csv").exists():
        found["comparisons"] = comparisons(pd.read_csv(folder / "evidence_comparisons.csv"))
        found["arms"] = arms(pd.read_csv(folder / "evidence_means.csv"))
    return found


def filled(page: str, content: Mapping[str, str]) -> str:
    """A page with each of its tables between its comments, `<!-- table: NAME -->` and `<!-- end -->`.

    Args:
        page: of which names that it lacks are left out.
        content: tables by name.
    """
    for name, table in content.items():
        before, start, rest = page.partition(f"<!-- table: {name} -->\n")
        if start:
            after = rest.partition("<!-- end -->")[2]
            page = f"{before}{start}\n{table}\n<!-- end -->{after}"
    return page


def _with_interval(row: Any, sign: str = "") -> str:
    return f"{row.estimate:{sign}.2f} [{row.low:{sign}.2f}, {row.high:{sign}.2f}]"


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def _with_half_width(row: Any) -> str:
    """An estimate, and half of its interval."""
    return f"{row.estimate:.1f} ± {(row.high - row.low) / 2:.1f}"


def _escape(name: str) -> str:
    return name.replace("_", "\\_")


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [heads, ["---"] * len(heads), *rows])


def draw(run: rb.Run) -> None:
    """Draw the curves of the page."""
    run.figure("severity").save(IMAGES / "results.png")


def write_evidence(study: Path) -> None:
    """Write what the page of the study shows, from a finished `benchmarks/evidence.py`.

    Its csv files go to `docs/data`. `docs/evidence/noise` becomes a small run directory: scores of every training, and
    what a leaderboard needs, without detections.
    """
    for name in ("comparisons", "means", "latency"):
        _write_small(pd.read_csv(study / f"{name}.csv"), DATA / f"evidence_{name}.csv")
    columns = ["model", "corruption", "severity", *robustness.METRICS]
    _write_small(pd.read_csv(study / "others" / "all" / "results.csv")[columns], DATA / "evidence_others.csv")
    run = Run.open(study / "noise" / "all")
    robustness.load_means(run, next(iter(robustness.corruption_sets(run))))
    small = ROOT / "docs" / "evidence" / "noise"
    shutil.rmtree(small, ignore_errors=True)
    for pattern in ("manifest.json", "results.csv", "ground_truth/*", "statistics/**/means.parquet"):
        for file in run.path.glob(pattern):
            target = small / file.relative_to(run.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    manifest = json.loads((small / "manifest.json").read_text("utf-8"))
    manifest["hardware"]["system"] = manifest["hardware"]["system"].partition("-")[
        0
    ]  # a kernel's name says nothing
    (small / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    whole = rb.Run.open(run.path)
    for figure in EVIDENCE_FIGURES:
        whole.figure(figure).save(IMAGES / f"evidence_{figure.replace('-', '_')}.png")
    draw_comparisons(pd.read_csv(DATA / "evidence_comparisons.csv"), IMAGES / "evidence_comparisons.png")


def _write_small(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")


def draw_comparisons(table: pd.DataFrame, path: Path) -> None:
    """Draw the differences of the study with their intervals; filled where the corrected p is below 0.05."""
    from matplotlib.figure import Figure

    from robustbench_sgdm.core import palette
    from robustbench_sgdm.figures import style

    with style.plot_style():
        figure = Figure(figsize=(style.PAGE, 0.32 * len(table) + 0.7), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(_rows(table)):
            color = palette.MODEL_COLORS[0]
            axes.plot([row.low, row.high], [place, place], color=color)
            is_shown = row.p_holm < 0.05
            axes.plot(row.estimate, place, "o", color=color, markerfacecolor=color if is_shown else "white")
        axes.axvline(0, color="0.4", linewidth=0.8)
        names = [f"{arm(r.model)} minus {arm(r.baseline)}".replace("`", "") for r in _rows(table)]
        axes.set_yticks(range(len(table)), names)
        axes.invert_yaxis()
        axes.set_xlabel("difference in mean AP under noise (points); filled: p below 0.05")
        figure.savefig(path, dpi=200, metadata={"Software": None})


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
    parser.add_argument("--evidence", metavar="DIR", help="folder of a finished benchmarks/evidence.py")
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
    if options.evidence:
        write_evidence(Path(options.evidence))
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), tables(DATA)), "utf-8")


if __name__ == "__main__":
    main()
