"""Loss curves in the manner of the SGDM paper's figure 3: one axis for each of box, cls and dfl."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.material import Material
from robustbench_sgdm.figures.style import colors, styled
from robustbench_sgdm.store import LOSSES, Log

Values = NDArray[np.float64]

_DASHES = ("-", "--", "-.", ":")


def loss_curves(logs: Sequence[Log], split: str = "train", smooth: float = 0.02) -> Figure:
    """A line per model: its seeds' mean, smoothed, the raw mean behind it and their range as a band.

    Args:
        logs: runs of one or several models; those of one model are its seeds.
        split: `train` or `val`, whose losses are drawn.
        smooth: standard deviation of the Gaussian window as a share of the epochs; 0 for none.
    """
    models = list(dict.fromkeys(log.model for log in logs))
    color = colors(models)
    with styled():
        figure = Figure(figsize=(7.2, 2.5), layout="constrained")
        axes, handles = figure.subplots(1, len(LOSSES)), {}
        for axis, loss in zip(axes, LOSSES, strict=True):
            for index, model in enumerate(models):
                seeds = [
                    log.frame.set_index("epoch")[f"{split}/{loss}_loss"] for log in logs if log.model == model
                ]
                text = f"{model} ({len(seeds)} seeds)" if len(seeds) > 1 else model
                handles[text] = _line(axis, seeds, text, color[model], _DASHES[index % len(_DASHES)], smooth)
            axis.set(title=f"{loss} loss", xlabel="epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes[0].set_ylabel("training" if split == "train" else "validation")
        axes[-1].legend(list(handles.values()), list(fonts.fit(handles, 1.7).values()))
    return figure


def _line(
    axis: Axes, seeds: Sequence[pd.Series], label: str, color: object, dash: str, smooth: float
) -> Line2D:
    table = pd.concat(seeds, axis=1)  # epochs that one seed lacks are left out of its share of the mean
    mean = table.mean(axis=1)
    epochs = mean.index.to_numpy()
    if len(seeds) > 1:
        axis.fill_between(epochs, table.min(axis=1), table.max(axis=1), color=color, alpha=0.15, linewidth=0)
    axis.plot(epochs, mean, color=color, alpha=0.35, linewidth=0.8)
    (line,) = axis.plot(
        epochs, smoothed(mean.to_numpy(), smooth * len(mean)), color=color, linestyle=dash, label=label
    )
    return line


def smoothed(values: Values, width: float) -> Values:
    """Weighted mean of the neighbours that exist, so that the ends are not drawn towards zero.

    >>> smoothed(np.array([1.0, 1.0, 4.0]), 0).tolist()
    [1.0, 1.0, 4.0]
    """
    if width <= 0:
        return values
    distance = np.subtract.outer(np.arange(len(values)), np.arange(len(values)))
    weight = np.exp(-0.5 * (distance / width) ** 2) * np.isfinite(values)
    mean: Values = weight @ np.nan_to_num(values) / weight.sum(1)
    return mean


def losses(material: Material) -> Drawn:
    """The losses of a run's weights."""
    logs = material.logs
    caption = (
        "Training losses of the weights under test, smoothed over 2 % of the epochs, the raw values behind. Lower is not "
        "better across models of different design."
    )
    columns = [f"train/{part}_loss" for part in LOSSES]
    frames = [log.frame.assign(model=log.model) for log in logs]
    alt = "Line charts of box, class and distribution focal loss: " + "; ".join(
        f"{log.model} ends at {', '.join(f'{log.frame[column].iloc[-1]:.2f}' for column in columns)}"
        for log in logs
    )
    return Drawn(loss_curves(logs), caption, alt + ".", pd.concat(frames))
