"""One palette: seaborn's, matplotlib's and the contrast that WCAG asks for are the oracles."""

import itertools
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

from robustbench_sgdm import figures
from robustbench_sgdm.core import palette, resources


def test_models_have_seaborns_colours_and_figures_have_them_too() -> None:
    assert list(palette.MODEL_COLORS) == sns.color_palette("colorblind", 10).as_hex()
    names = [f"model-{number}" for number in range(23)]
    chosen = palette.model_colors(names)
    assert {m: to_rgb(color) for m, color in chosen.items()} == figures.colors_of(names)
    assert len(set(palette.model_colors(names[:10]).values())) == 10


@pytest.mark.parametrize("dark", [False, True])
def test_differences_are_blended_as_matplotlib_does_and_blue_is_better(dark: bool) -> None:
    scale = palette.difference_colors(dark=dark)
    gradient = LinearSegmentedColormap.from_list("", scale, N=1001)
    for place in np.linspace(0, 1, 21):
        pairs = zip(to_rgb(palette.interpolate_colors(scale, place)), gradient(place), strict=False)
        assert max(abs(a - b) for a, b in pairs) < 0.01
    (red, _, blue), (low_red, _, low_blue) = to_rgb(scale[-1]), to_rgb(scale[0])
    assert blue > red and low_red > low_blue


@pytest.mark.parametrize(("dark", "ground"), [(False, "#ffffff"), (True, "#0f131c")])
def test_numbers_and_cells_can_be_read_in_both_themes(dark: bool, ground: str) -> None:
    scale = palette.difference_colors(dark=dark)
    for place in np.linspace(0, 1, 101):
        cell = palette.interpolate_colors(scale, float(place))
        assert palette.contrast_ratio(palette.readable_text_color(cell), cell) >= 4
    assert min(palette.contrast_ratio(end, ground) for end in (scale[0], scale[-1])) >= 3
    if dark:
        assert (
            min(
                palette.contrast_ratio(c, ground)
                for c in palette.model_colors(range_of(10), dark=True).values()
            )
            >= 3
        )


def range_of(number: int) -> list[str]:
    return [f"m{i}" for i in range(number)]


def test_outcomes_differ_in_lightness_or_hue() -> None:
    kinds = ("matched", "missed", "false")
    for one, other in itertools.combinations(kinds, 2):
        apart = np.subtract(to_rgb(palette.OUTCOME_COLORS[one]), to_rgb(palette.OUTCOME_COLORS[other]))
        assert np.abs(apart).max() > 0.3
    assert all(to_hex(color) == color for color in palette.OUTCOME_COLORS.values())


def test_figures_and_viewer_draw_outcomes_and_differences_in_these_colours() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    empty: dict[str, list[str]] = {"outcome": []}
    objects = pd.DataFrame({c: [] for c in "xywh"} | empty, dtype=object)
    boxes = pd.DataFrame({c: [] for c in ("x1", "y1", "x2", "y2")} | empty, dtype=object)
    figure = figures.draw_panels([figures.PanelRow("", [figures.Panel(pixels, (10, 10), objects, boxes)])])
    lines = figure.legends[0].get_lines()
    kinds = ("matched", "missed", "false", "truth")
    assert [to_hex(line.get_color()) for line in lines] == [palette.OUTCOME_COLORS[kind] for kind in kinds]
    viewer = "".join(file.read_text() for file in (resources.root() / "app/viewer").iterdir())
    own = set(re.findall("#[0-9a-f]{6}", viewer))
    assert not own & {*palette.OUTCOME_COLORS.values()} - {"#ffffff"}
    assert all(f"var(--{kind})" in viewer for kind in palette.OUTCOME_COLORS)
    rows = pd.DataFrame({"corruption": "fog", "severity": [1.0, 3.0], "estimate": [-2.0, 2.0]})
    rows = rows.assign(statistic="score", baseline="a", model="b", metric="AP", significant=True)
    (image,) = figures.draw_difference_map(rows).axes[0].images
    assert [to_hex(c) for c in image.to_rgba(np.array([-2.0, 2.0]))] == [
        palette.difference_colors()[0],
        palette.difference_colors()[-1],
    ]


def test_no_plotting_library_is_loaded() -> None:
    imports = "from robustbench_sgdm import tables; from robustbench_sgdm.core import palette"
    code = f"import sys; {imports}; print({{'matplotlib', 'torch'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
