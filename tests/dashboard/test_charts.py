"""Every chart is valid Vega-Lite: the app itself does not spend the time to check."""

import altair as alt
import pandas as pd
import pytest

from robustbench_sgdm.core import palette
from robustbench_sgdm.dashboard import charts

COLORS = {"a": "#112233", "b": "#445566"}


def check(spec: charts.Spec) -> None:
    """Raise what is not valid in a chart's specification."""
    assert spec["layer"]
    alt.LayerChart.from_dict(spec, validate=True)


def curve(**changes: object) -> pd.DataFrame:
    rows = [(m, float(s), 40 - s, 39.0 - s, 41.0 - s, 30.0 - s) for m in COLORS for s in range(3)]
    frame = pd.DataFrame(rows, columns=["model", "severity", "score", "low", "high", "psnr"])
    return frame.assign(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("x", ["severity", "psnr"])
@pytest.mark.parametrize("bands", [True, False])
def test_severity(x: str, bands: bool) -> None:
    for frame in (curve(), curve(low=float("nan"), high=float("nan"), psnr=float("nan"))):
        made = charts.severity_curves(
            frame, COLORS, scale=charts.CurveScale(x, 50.0), metric="AP", bands=bands
        )
        check(made)


@pytest.mark.parametrize("dark", [True, False])
def test_differences(dark: bool) -> None:
    frame = pd.DataFrame(
        {
            "corruption": ["fog", "snow"],
            "severity": [1.0, 3.0],
            "change": [0.0, -2.0],
            "interval": "",
            "p": "",
            "significant": [False, True],
        }
    )
    check(charts.difference_map(frame, "AP", dark=dark))


def test_cells_are_bold_where_the_table_says_significant_and_written_as_in_the_report() -> None:
    frame = pd.DataFrame({"corruption": "gaussian_noise[0.1]", "severity": [1.0, 2.0, 3.0]})
    frame = frame.assign(change=[-0.0034, -2.0, 2.0], interval="", p="", significant=[True, False, True])
    made = charts.difference_map(frame, "AP", dark=False)
    (rows,) = made["datasets"].values()
    assert [row["text"] for row in rows] == ["-0.003*", "-2.00", "+2.00*"]
    assert {row["name"] for row in rows} == {"gaussian noise [0.1]"}
    layers = [layer for layer in made["layer"] if layer["mark"]["type"] == "text"]
    assert {(layer["mark"]["fontWeight"], layer["transform"][0]["filter"]) for layer in layers} == {
        (800, "datum.strong"),
        (400, "!datum.strong"),
    }
    scale = next(layer for layer in made["layer"] if layer["mark"]["type"] == "rect")["encoding"]["color"][
        "scale"
    ]
    assert scale["domain"] == [-2, -1, 0, 1, 2] and scale["range"] == palette.difference_colors()


DIFFERENCES = pd.DataFrame({"corruption": ["fog"], "severity": [1.0], "change": [1.0]}).assign(
    interval="", p="", significant=True
)
LOSSES = pd.DataFrame({"model": "a", "epoch": [1, 2, 3]}).assign(mean=1.0, smooth=1.0, low=1.0, high=1.0)


@pytest.mark.parametrize(
    "chart",
    [
        charts.severity_curves(
            curve(), COLORS, scale=charts.CurveScale("severity", 50.0), metric="AP", bands=True
        ),
        charts.severity_curves(
            curve(), COLORS, scale=charts.CurveScale("psnr", 50.0, (20, 30)), metric="AP", bands=True
        ),
        charts.difference_map(DIFFERENCES, "AP", dark=False),
        charts.loss_curves(LOSSES, COLORS, (1, 3)),
    ],
)
def test_every_layer_says_what_it_shows(chart: charts.Spec) -> None:
    """A layer without its own tooltip shows every encoded field under its axis' title; a line or band is one mark,
    so of fields that change along it the tooltip shows those of its first point."""
    check(chart)
    for layer in chart["layer"]:
        tooltips, kind = layer["encoding"]["tooltip"], layer["mark"]["type"]
        assert tooltips and all(tip["title"] for tip in tooltips)
        fields = [tip["field"] for tip in tooltips]
        if kind in ("line", "area"):
            assert fields == ["model"]
        assert all("title" in layer["encoding"][axis] for axis in ("x", "y"))
    metric = [tip["title"] for tip in tooltips if tip["field"] == "score"]
    assert metric in ([], ["AP, %"])


@pytest.mark.parametrize("signed", [True, False])
def test_classes(signed: bool) -> None:
    frame = pd.DataFrame({"class": ["cat", "dog"], "corruption": "fog", "value": [1.0, float("nan")]})
    frame = frame.assign(label=frame["class"], text="", interval="", p="", objects="3", strong=False)
    made = charts.class_map(frame, "AP", signed=signed, dark=False)
    check(made)
    scale = made["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"][0] == (-1 if signed else 0) and scale["domain"][-1] == 1
    assert len(scale["domain"]) == len(scale["range"])


def test_confusions_and_curves() -> None:
    pairs = [(a, b, 3, 100.0 * (a == b)) for a in ("cat", "background") for b in ("cat", "background")]
    frame = pd.DataFrame(pairs, columns=["object", "box", "count", "value"])
    check(charts.confusion_map(frame, dark=True))
    points = pd.DataFrame({"model": "a", "condition": ["clean", "fog 3"], "confidence": 0.5})
    points = points.assign(recall=50.0, precision=[90.0, 40.0])
    for conditions in (["clean"], ["clean", "fog 3"]):
        check(charts.precision_recall_curves(points, COLORS, conditions))


def test_losses() -> None:
    frame = pd.DataFrame({"model": "a", "epoch": [1, 2, 3]}).assign(mean=1.0, smooth=1.0, low=1.0, high=1.0)
    for epochs in ((1, 3), (2, 2)):
        check(charts.loss_curves(frame, COLORS, epochs))
