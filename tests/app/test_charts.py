"""Every chart is valid Vega-Lite: the app itself does not spend the time to check."""

import altair as alt
import pandas as pd
import pytest

from robustbench_sgdm import content

charts = content.load_file(content.root() / "app/charts.py")
COLORS = {"a": "#112233", "b": "#445566"}


def curve(**changes: object) -> pd.DataFrame:
    rows = [(m, float(s), 40 - s, 39.0 - s, 41.0 - s, 30.0 - s) for m in COLORS for s in range(3)]
    frame = pd.DataFrame(rows, columns=["model", "severity", "score", "low", "high", "psnr"])
    return frame.assign(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("x", ["severity", "psnr"])
@pytest.mark.parametrize("bands", [True, False])
def test_severity(x: str, bands: bool) -> None:
    for frame in (curve(), curve(low=float("nan"), high=float("nan"), psnr=float("nan"))):
        made = charts.severity(frame, COLORS, x=x, metric="AP", top=50.0, bands=bands)
        assert isinstance(made, alt.LayerChart) and made.to_dict(validate=True)


@pytest.mark.parametrize("dark", [True, False])
def test_differences(dark: bool) -> None:
    frame = pd.DataFrame(
        {
            "corruption": ["fog", "snow"],
            "severity": [1.0, 3.0],
            "change": [0.0, -2.0],
            "interval": "",
            "sure": [0, 1],
        }
    )
    assert charts.differences(frame, "AP", dark=dark).to_dict(validate=True)


def test_what_rounds_to_nothing_has_no_sign() -> None:
    frame = pd.DataFrame({"corruption": "fog", "severity": [1.0, 2.0], "change": [-0.04, -0.06]})
    made = charts.differences(frame.assign(interval="", sure=True), "AP", dark=False).to_dict()
    (rows,) = made["datasets"].values()
    assert [(row["text"], row["bold"]) for row in rows] == [("0.0", False), ("-0.1", True)]


def test_losses() -> None:
    frame = pd.DataFrame({"model": "a", "epoch": [1, 2, 3]}).assign(mean=1.0, smooth=1.0, low=1.0, high=1.0)
    for epochs in ((1, 3), (2, 2)):
        assert charts.losses(frame, COLORS, epochs).to_dict(validate=True)
