"""Loss curves in the manner of the SGDM paper's figure 3: one axis for each of box, cls and dfl."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import PAGE, colors_of, legend_above, plot_style
from robustbench_sgdm.store import LOSSES, LogGroup, TrainingLog, group_logs

Values = NDArray[np.float64]

_DASHES = ("-", "--", "-.", ":")


def draw_loss_curves(logs: Sequence[TrainingLog], split: str = "train", smooth: float = 0.02) -> Figure:
    """A line per training: its seeds' mean, smoothed, the raw mean behind it and their range as a band.

    Args:
        logs: of runs; `store.group_logs` finds those that are seeds of one training.
        split: `train` or `val`, whose losses are drawn.
        smooth: standard deviation of the Gaussian window as a share of the epochs; 0 for none.
    """
    groups = group_logs(logs)
    color = colors_of([group.name for group in groups])
    with plot_style():
        figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
        axes, handles = figure.subplots(1, len(LOSSES)), {}
        for axis, loss in zip(axes, LOSSES, strict=True):
            for index, group in enumerate(groups):
                losses = group.losses(f"{split}/{loss}_loss")
                dash = _DASHES[index % len(_DASHES)]
                handles[group.label] = _line(axis, losses, group.label, color[group.name], dash, smooth)
            axis.set(title=f"{loss} loss", xlabel="epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes[0].set_ylabel("training" if split == "train" else "validation")
        legend_above(figure, handles)
    return figure


def _line(axis: Axes, seeds: pd.DataFrame, label: str, color: object, dash: str, smooth: float) -> Line2D:
    mean = seeds.mean(axis=1)  # over the seeds that have the epoch
    epochs = mean.index.to_numpy()
    if seeds.shape[1] > 1:
        axis.fill_between(epochs, seeds.min(axis=1), seeds.max(axis=1), color=color, alpha=0.15, linewidth=0)
    axis.plot(epochs, mean, color=color, alpha=0.35, linewidth=0.8)
    (line,) = axis.plot(
        epochs, smooth_values(mean.to_numpy(), smooth * len(mean)), color=color, linestyle=dash, label=label
    )
    return line


def smooth_values(values: Values, width: float) -> Values:
    """Gaussian smoothing over existing neighbours only, so that the ends are not pulled towards zero.

    >>> smooth_values(np.array([1.0, 1.0, 4.0]), 0).tolist()
    [1.0, 1.0, 4.0]
    """
    if width <= 0:
        return values
    distance = np.subtract.outer(np.arange(len(values)), np.arange(len(values)))
    weight = np.exp(-0.5 * (distance / width) ** 2) * np.isfinite(values)
    mean: Values = weight @ np.nan_to_num(values) / weight.sum(1)
    return mean


@figure(
    "losses", "training losses of the weights, where their logs are known", section="training", compares=False
)
def losses(analysis: RunAnalysis) -> FigureResult:
    """The training losses of a run's weights."""
    logs = analysis.training_logs
    caption = (
        "Training losses of the evaluated weights, smoothed over 2 % of the epochs, raw values behind. A lower loss does "
        "not mean a better model across architectures."
    )
    columns = [f"train/{part}_loss" for part in LOSSES]
    groups = group_logs(logs)
    frames = [log.frame.assign(model=group.name, seed=log.seed) for group in groups for log in group.logs]
    alt = "Line charts of box, class and distribution focal loss: " + "; ".join(
        f"{group.label} ends at {', '.join(_end(group, column) for column in columns)}" for group in groups
    )
    return FigureResult(draw_loss_curves(logs), caption, alt + ".", pd.concat(frames))


def _end(group: LogGroup, column: str) -> str:
    return f"{group.losses(column).mean(axis=1).iloc[-1]:.2f}"
