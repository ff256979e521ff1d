"""Every figure looks as it did: drawn from made-up frames and compared with small pictures beside this file.

`make baselines` draws the pictures anew; look at them before you commit them.

Those of ten models are beside those of two.

Tolerance: the root mean square of the differences between 4 x 4 pixel means is at most 6 of 255. Fonts are
rasterised a little differently from one FreeType to the next, which stays near 1; a line or bar that is
missing is 8 and more (tested).
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm import figures, tables
from robustbench_sgdm.core import palette
from robustbench_sgdm.figures import CompactMap, FlippedPanel, Panel, PanelRow, all_figures
from robustbench_sgdm.figures.contact import Strengths
from robustbench_sgdm.figures.style import PAGE
from robustbench_sgdm.robustness import OBJECT_OUTCOMES
from robustbench_sgdm.store import TrainingLog

FOLDER = Path(__file__).parent / "baselines"
TOLERANCE = 6.0
MODELS = ("yolov8n", "yolov8n-sgdm")
LONG = "a-detector-that-somebody-has-really-given-a-name-of-at-least-eighty-characters-00"
MANY = (*MODELS, "yolov8s", "rtdetr-l", "yolo11n", "yolo11m", "detr-resnet-50", "ssd", "retinanet", LONG)
NOISES = {"gaussian_noise": "noise", "impulse_noise": "noise", "motion_blur": "blur", "fog": "weather"}


def results(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    rows = [(m, "clean", 0.0, 40.0) for m in models]
    rows += [
        (m, c, float(s), 40 - s * (4 + i) + (s * 0.6 if m == MODELS[1] else 0) + 2 * max(j - 1, 0))
        for j, m in enumerate(models)
        for i, c in enumerate(NOISES)
        for s in range(1, 6)
    ]
    return pd.DataFrame(rows, columns=["model", "corruption", "severity", "AP"])


def intervals(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    """As of `Intervals.table()`."""
    scores = results(models).rename(columns={"AP": "estimate"}).assign(baseline="", statistic="score")
    rows: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in scores.to_dict("records")]
    first, *others = ([r for r in rows if r["model"] == m] for m in models)
    for second in others:
        for one, two in zip(first, second, strict=True):
            gain = two["estimate"] - one["estimate"]
            rows.append({**two, "baseline": models[0], "estimate": gain - 1, "significant": gain > 2})
    for shift, model in enumerate(models):
        for metric, value in (("AP", 40), ("AP_S", 20), ("AP_M", 42), ("AP_L", 55)):
            rows.append(
                {
                    "model": model,
                    "baseline": "",
                    "statistic": "P",
                    "over": "",
                    "metric": metric,
                    "estimate": value + shift,
                }
            )
            for number, over in enumerate(("all", "noise", "blur", "weather")):
                mean = value * (0.4 + 0.1 * number) + shift
                rows.append(
                    {
                        "model": model,
                        "baseline": "",
                        "statistic": "mPC",
                        "over": over,
                        "metric": metric,
                        "estimate": mean,
                    }
                )
                rows.append(
                    {
                        "model": model,
                        "baseline": "",
                        "statistic": "rPC",
                        "over": over,
                        "metric": metric,
                        "estimate": 100 * mean / value,
                    }
                )
    made = pd.DataFrame(rows).fillna({"metric": "AP", "over": ""})
    return made.assign(low=made["estimate"] - 1.5, high=made["estimate"] + 2)


def errors(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    rows = [
        (
            m,
            "clean" if s == 0 else "fog",
            float(s),
            70 - 11 * s,
            8 + s,
            4 + 0.5 * s,
            18 + 9.5 * s,
            1.5 - 0.2 * s,
        )
        for m in models
        for s in range(6)
    ]
    shares = [f"{what}_percent" for what in OBJECT_OUTCOMES]
    return pd.DataFrame(rows, columns=["model", "corruption", "severity", *shares, "false_per_image"])


def damage(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    frame = results(models).query("severity > 0")
    return frame.assign(
        family=frame["corruption"].map(NOISES),
        psnr=34 - 4 * frame["severity"],
        ssim=0.9 - 0.15 * frame["severity"],
    )


def drops(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    names = ["ball", "bolt", "book", "bottle", "clock"]
    rows = [
        (m, name, 40 - 9 * i, i == 3, 10.0 + 3 * i - 2 * j * (i - 1))
        for j, m in enumerate(models)
        for i, name in enumerate(names)
    ]
    made = pd.DataFrame(rows, columns=["model", "class", "objects", "few", "drop"])
    return made.assign(low=made["drop"] - 2, high=made["drop"] + 3)


def survival(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    rows = [
        (m, c, float(s), 100 * (0.8 - 0.1 * i - 0.05 * j) ** s)
        for j, m in enumerate(models)
        for i, c in enumerate(NOISES)
        for s in range(1, 6)
    ]
    made = pd.DataFrame(rows, columns=["model", "corruption", "severity", "share"])
    return made.assign(low=made["share"] - 4, high=made["share"] + 4)


def curves(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    confidence = np.linspace(1, 0, 40)
    parts = []
    for shift, model in enumerate(models):
        for severity in (0.0, 1.0, 3.0, 5.0):
            recall = (90 - 14 * severity + 3 * shift) * (1 - confidence**2)
            precision = 100 - (8 + 6 * severity) * (1 - confidence) ** 2 - recall / 4
            f1 = 2 * recall * precision / (recall + precision)
            own = {"confidence": confidence, "recall": recall, "precision": precision, "f1": f1}
            parts.append(pd.DataFrame(own).assign(model=model, severity=severity))
    return pd.concat(parts, ignore_index=True)


def bins(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    rows = [
        (m, s, 10.0 * b + 5, 10 * b + 5 - 4 * s + 6 * j * (b > 5), 200 - 15 * b)
        for j, m in enumerate(models)
        for s in (0.0, 1.0, 3.0, 5.0)
        for b in range(3, 10)
    ]
    return pd.DataFrame(rows, columns=["model", "severity", "confidence", "precision", "boxes"])


def confusions() -> dict[tuple[str, str], pd.DataFrame]:
    names = ["ball", "bolt", "book", "background"]
    counts = np.array([[60, 5, 0, 35], [2, 50, 8, 40], [0, 0, 90, 10], [20, 5, 5, 0]])
    return {
        (m, condition): pd.DataFrame(counts + 10 * i * (1 - np.eye(4, dtype=int)), names, names)
        for m in MODELS
        for i, condition in enumerate(("clean", "severity 5"))
    }


def shifted(models: tuple[str, ...] = (*MODELS, "rtdetr-l")) -> pd.DataFrame:
    rows = [
        (shift, model, 40.0 + 4 * i, 30 + 5 * i - 8 * j - 3 * (i == 1))
        for j, shift in enumerate(("night", "sketch"))
        for i, model in enumerate(models)
    ]
    made = pd.DataFrame(rows, columns=["shift", "model", "clean", "shifted"])
    ends = {f"{c}_{e}": made[c] + d for c in ("clean", "shifted") for e, d in (("low", -2), ("high", 2))}
    return made.assign(**ends)


def costs() -> pd.DataFrame:
    rows = [
        (model, statistic, score * scale, cost, value * (1 + i))
        for i, (model, score) in enumerate([*zip(MODELS, (15, 18), strict=True), ("rtdetr-l", 16)])
        for statistic, scale in (("mPC", 1.0), ("rPC", 2.2))
        for cost, value in (("latency_ms", 25.0), ("parameters_m", 3.0), ("gflops", 8.0), ("file_mb", 6.0))
    ]
    made = pd.DataFrame(rows, columns=["model", "statistic", "estimate", "cost", "value"])
    ends = {"low": made["estimate"] - 1, "high": made["estimate"] + 1}
    return made.assign(**ends, dominated=made["model"] == "rtdetr-l")


def logs() -> list[TrainingLog]:
    epochs = np.arange(1, 31)
    columns = {f"train/{part}_loss": 1 + 3 / epochs for part in ("box", "cls", "dfl")}
    frame = pd.DataFrame({"epoch": epochs, **columns})
    return [TrainingLog(m, Path("x"), frame * (1 if m == MODELS[0] else 0.9)) for m in MODELS]


def picture() -> NDArray[np.uint8]:
    ramp = np.linspace(40, 200, 120 * 160).reshape(120, 160)
    return np.stack([ramp, ramp[::-1], np.full_like(ramp, 120)], axis=2).astype(np.uint8)


def panel(found: int, name: str = "") -> Panel:
    boxes = pd.DataFrame({"x": [10, 60, 110], "y": [10, 30, 60], "w": [40, 30, 40], "h": [50, 40, 50]})
    outcome = ["matched"] * found + ["missed"] * (3 - found)
    hits = boxes[:found]
    corners = pd.DataFrame({"x1": hits.x + 2, "y1": hits.y + 2, "x2": hits.x + hits.w, "y2": hits.y + hits.h})
    wrong = pd.DataFrame({"x1": [5], "y1": [80], "x2": [50], "y2": [115], "outcome": ["false"]})
    shown = pd.concat([corners.assign(outcome="matched"), wrong])
    flips = [i == 2 for i in range(3)]
    return Panel(
        picture(),
        (160, 120),
        boxes.assign(outcome=outcome, flip=flips, label="ball"),
        shown.assign(flip=[*flips[:found], False], label="bolt 0.93"),
        name,
    )


def rows_of_panels(number: int) -> list[PanelRow]:
    return [
        PanelRow(
            "fog, severity 3: one finds 1 object that the other loses",
            [panel(number, MODELS[0]), panel(2, MODELS[1])],
            "image 1, clean",
            [panel(3, MODELS[0]), panel(3, LONG)],
        ),
        PanelRow("snow, severity 1: both find the same objects", [panel(number), panel(2)]),
    ]


def mean_curve() -> pd.DataFrame:
    made = results().groupby(["model", "severity"], sort=False)["AP"].mean().rename("estimate").reset_index()
    return made.assign(corruptions=4, low=made["estimate"] - 2, high=made["estimate"] + 2)


def compact_map() -> CompactMap:
    rows = [(c, f"{s}", s * (1.5 - i), s > 3) for i, c in enumerate(NOISES) for s in range(1, 6)]
    cells = pd.DataFrame(rows, columns=["corruption", "column", "value", "significant"])
    return CompactMap(cells, "severity", "difference", "AP of one minus the other")


FLIPPED = ((MODELS[1], MODELS[1]), (MODELS[0], MODELS[1]))


def flipped(*finders: str) -> FlippedPanel:
    boxes = pd.DataFrame({"x": [30, 80], "y": [30, 60], "w": [40, 30], "h": [50, 40], "finder": finders})
    return FlippedPanel(picture(), (160, 120), boxes, f"{finders[0]} 2\nfog 3, image 1")


NAMES = {"all": "4 corruptions", "noise": "noise", "blur": "blur", "weather": "weather"}
CASES: dict[str, Callable[[], Figure]] = {
    "severity": lambda: figures.draw_severity_curves(results(), "AP", intervals()),
    "differences": lambda: figures.draw_difference_map(intervals()),
    "means": lambda: figures.draw_mean_bars(intervals(), NAMES),
    "sizes": lambda: figures.draw_size_bars(intervals(), "all", "mean under 4 corruptions"),
    "errors": lambda: figures.draw_error_types(errors()),
    "psnr": lambda: figures.draw_quality_curves(damage()),
    "classes": lambda: figures.draw_class_drops(drops()),
    "first-failure": lambda: figures.draw_survival(survival()),
    "precision-recall": lambda: figures.draw_precision_recall(curves(), dict.fromkeys(MODELS, 0.4)),
    "reliability": lambda: figures.draw_reliability(bins()),
    "confusion": lambda: figures.draw_confusion(confusions()),
    "shift": lambda: figures.draw_shift(shifted()),
    "pareto": lambda: figures.draw_pareto(costs()),
    "losses": lambda: figures.draw_loss_curves(logs()),
    "mean-curve": lambda: figures.draw_mean_curve(mean_curve()),
    "compact-map": lambda: figures.draw_compact_map(compact_map()),
    "flipped-objects": lambda: figures.draw_flipped_objects([flipped(*sides) for sides in FLIPPED], MODELS),
    "side-by-side": lambda: figures.draw_panels(rows_of_panels(3)),
    "contact-sheet": lambda: figures.draw_contact_sheet(
        {name: dict.fromkeys((0.0, 1.0, 3.0, 5.0), picture()) for name in NOISES},
        fit=True,
        strengths={"fog": Strengths(["amount, of full scale", "decay, x"], {1.0: "0.1; 2", 5.0: "0.5; 3"})},
    ),
}
MANY_CASES: dict[str, Callable[[], Figure]] = {
    "severity-many": lambda: figures.draw_severity_curves(results(MANY), "AP", intervals(MANY)),
    "severity-ends": lambda: figures.draw_severity_curves(
        results(MANY).query("corruption in ('clean', 'fog')"), "AP", intervals(MANY)
    ),
    "differences-many": lambda: figures.draw_difference_map(intervals(MANY)),
    "means-many": lambda: figures.draw_mean_bars(intervals(MANY), NAMES),
    "sizes-many": lambda: figures.draw_size_bars(intervals(MANY), "all", "mean under 4 corruptions"),
    "errors-many": lambda: figures.draw_error_types(errors(MANY)),
    "psnr-many": lambda: figures.draw_quality_curves(damage(MANY)),
    "classes-many": lambda: figures.draw_class_drops(drops(MANY)),
    "first-failure-many": lambda: figures.draw_survival(survival(MANY)),
    "precision-recall-many": lambda: figures.draw_precision_recall(curves(MANY), dict.fromkeys(MANY, 0.4)),
    "reliability-many": lambda: figures.draw_reliability(bins(MANY)),
    "shift-many": lambda: figures.draw_shift(shifted(MANY)),
}


def drawn(figure: Figure) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return np.asarray(Pillow.open(buffer).convert("RGB"))


def difference(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
    high, wide = ((min(a, b) // 4) * 4 for a, b in zip(one.shape[:2], two.shape[:2], strict=True))
    means = [
        x[:high, :wide].astype(float).reshape(high // 4, 4, wide // 4, 4, 3).mean((1, 3)) for x in (one, two)
    ]
    return float(np.sqrt(np.mean((means[0] - means[1]) ** 2)))


def test_every_figure_has_a_baseline() -> None:
    assert set(CASES) == set(all_figures())


@pytest.mark.parametrize("name", [*CASES, *MANY_CASES])
def test_it_looks_as_it_did(name: str, tmp_path: Path) -> None:
    figure = {**CASES, **MANY_CASES}[name]()
    path, now = FOLDER / f"{name}.png", drawn(figure)
    if os.environ.get("ROBUSTBENCH_BASELINES") == "write":
        Pillow.fromarray(now).quantize(64).save(path, optimize=True)
        return
    then = np.asarray(Pillow.open(path).convert("RGB"))
    Pillow.fromarray(now).save(tmp_path / "now.png")
    assert np.abs(np.subtract(now.shape, then.shape)).max() <= 3, (
        f"another size; compare {tmp_path / 'now.png'}"
    )
    assert difference(now, then) <= TOLERANCE, f"compare {path} with {tmp_path / 'now.png'}"
    # Nothing reaches beyond the figure, and everything can be read on paper.
    wide, high = figure.get_size_inches()
    box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())  # type: ignore[no-untyped-call]
    assert min(box.x0, box.y0, wide - box.x1, high - box.y1) > -0.03
    texts = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text() and t.get_visible()]
    assert min(float(text.get_fontsize()) for text in texts) >= 7
    assert wide <= PAGE + 0.01 and high < 11  # a page holds it


def test_a_missing_model_or_bar_is_seen() -> None:
    whole = drawn(figures.draw_error_types(errors()))
    assert difference(whole, drawn(figures.draw_error_types(errors().assign(missed_percent=0)))) > TOLERANCE
    curves = [figures.draw_severity_curves(results(models), "AP") for models in (MODELS, MODELS[:1])]
    assert difference(drawn(curves[0]), drawn(curves[1])) > TOLERANCE
    boxes = [figures.draw_panels(rows_of_panels(n)) for n in (3, 1)]
    assert difference(drawn(boxes[0]), drawn(boxes[1])) > TOLERANCE


def test_every_number_of_the_difference_map_can_be_read() -> None:
    """At least 4 to 1 (WCAG asks 4.5 of text, 3 of large text), whether shown to differ or not; with its key."""
    given = intervals()
    one = given[given["corruption"].isin(["fog"]) | given["corruption"].isna()]
    for frame in (given, given.assign(significant=False), given.assign(estimate=-given["estimate"]), one):
        figure = figures.draw_difference_map(frame)
        axis, bar = figure.axes
        assert (bar.get_xlabel() or bar.get_ylabel()) == "Δ AP (points)"
        (image,) = axis.images
        for text in axis.texts:
            column, row = (int(v) for v in text.get_position())
            cell = image.to_rgba(np.asarray(image.get_array())[row : row + 1, column])[0]
            assert palette.contrast_ratio(to_hex(cell), to_hex(text.get_color())) >= 4


def test_every_one_of_many_corruptions_is_named_beside_its_family() -> None:
    first = damage()
    many = pd.concat([first, first.assign(corruption=first["corruption"] + "_2", ssim=first["ssim"] / 2)])
    many = pd.concat([many, many[many["corruption"] == "fog"].assign(corruption="frost")], ignore_index=True)
    figure = figures.draw_quality_curves(many)
    named = {}
    for legend in filter(None, (axis.get_legend() for axis in figure.axes)):
        named[legend.get_title().get_text()] = {text.get_text() for text in legend.get_texts()}
    assert named == {
        family: {tables.humanize(c) for c in rows["corruption"]} for family, rows in many.groupby("family")
    }
    assert all(len(axis.lines) == 2 * many["corruption"].nunique() for axis in figure.axes)
