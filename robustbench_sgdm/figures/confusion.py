"""What objects are taken for, clean and under corruption: confusion matrices with background."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from robustbench_sgdm import robustness
from robustbench_sgdm.core import palette
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import PAGE, plot_style

_MAX_CLASSES = 24
_MAX_NUMBERS = 10  # classes, background included, up to which cells have room for numbers
_MAX_MODELS = 2  # rows of panels that a page holds


def draw_confusion(
    matrices: Mapping[tuple[str, str], pd.DataFrame], classes: Sequence[str] | None = None
) -> Figure:
    """Draw each matrix in percent of its rows; a row of panels per model.

    Args:
        matrices: (model, condition) -> as of `robustness.confusion_matrix`, all with the same classes.
        classes: that are shown, by default all; those that are not count in the percentages too.
    """
    models, conditions = (list(dict.fromkeys(key[i] for key in matrices)) for i in (0, 1))
    *known, background = next(iter(matrices.values())).index
    names = [*(known if classes is None else classes), background]
    shown = list(fonts.fit_names(names, 1.1, 7).values())
    with plot_style():
        figure = Figure(figsize=(PAGE, 0.6 + 3.1 * len(models)), layout="constrained")
        axes = figure.subplots(len(models), len(conditions), squeeze=False, sharex=True, sharey=True)
        for row, model in zip(axes, models, strict=True):
            for axis, condition in zip(row, conditions, strict=True):
                counts = matrices[model, condition]
                shares = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
                image = axis.imshow(shares.loc[names, names].to_numpy(float), cmap="Blues", vmin=0, vmax=100)
                axis.set_title(fonts.shorten(f"{model}, {condition}", PAGE / len(conditions) - 0.8, 8))
                axis.set_xticks(range(len(names)), shown, rotation=90, fontsize=7)
                axis.set_yticks(range(len(names)), shown, fontsize=7)
                axis.grid(visible=False)
                for (i, j), share in np.ndenumerate(image.get_array() if len(names) <= _MAX_NUMBERS else ()):
                    ink = palette.readable_text_color(to_hex(image.to_rgba(np.array([share]))[0]))
                    axis.text(
                        j,
                        i,
                        f"{share:.0f}" if share >= 0.5 else "",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color=ink,
                    )
            row[0].set_ylabel("object")
        for axis in axes[-1]:
            axis.set_xlabel("box")
        figure.colorbar(image, ax=axes, label="% of the row", shrink=0.6, aspect=40)
    return figure


def most_confused(matrices: Mapping[tuple[str, str], pd.DataFrame], most: int = _MAX_CLASSES) -> list[str]:
    """The classes with most objects that are taken for another class, in their order; all where there are few.

    Args:
        matrices: as of `draw_confusion`.
        most: classes to name.
    """
    names = list(next(iter(matrices.values())).index[:-1])
    if len(names) <= most:
        return names
    total = sum(matrix.loc[names, names].to_numpy() for matrix in matrices.values())
    between = total * (1 - np.eye(len(names), dtype=np.int64))
    ranked = np.argsort(-(between.sum(axis=0) + between.sum(axis=1)), kind="stable")[:most]
    return [names[i] for i in sorted(ranked.tolist())]


@figure("confusion", "what objects are taken for, clean and corrupted", section="operating-point", place=3)
def confusion(analysis: RunAnalysis) -> FigureResult:
    """Confusion matrices of a run's first pair, on clean images and summed over its middle severity."""
    run, known = analysis.run, analysis.known_confidences
    trainings = {m: [t for t in members if t in known] for m, members in run.groups.items()}
    network = {name: group for group, members in run.groups.items() for name in members}
    first = [network[name] for name in analysis.pair] if run.baseline_pairs else []
    models = [m for m in dict.fromkeys([*first, *trainings]) if trainings[m]]
    cells = [c for c in run.cells if run.store.is_complete(c) and run.store.has_detections(c)]
    severities = sorted(
        {c.severity for c in cells if c.severity}
    )  # at the strongest, often nothing is found at all
    middle = severities[len(severities) // 2] if severities else 0.0
    conditions = {CLEAN: 0.0} | ({f"severity {middle:g}": middle} if middle else {})
    matrices: dict[tuple[str, str], pd.DataFrame] = {}
    for model in models[:_MAX_MODELS]:
        stored = {(c.model, c.severity) for c in cells}
        whole = [t for t in trainings[model] if all((t, s) in stored for s in conditions.values())]
        own = [[c for c in cells if c.model in whole and c.severity == s] for s in conditions.values()]
        if whole:
            for name, some in zip(conditions, own, strict=True):
                parts = [
                    robustness.confusion_matrix(run, [c for c in some if c.model == t], known[t])
                    for t in whole
                ]
                matrices[model, name] = sum(parts[1:], start=parts[0])
    if not matrices:
        raise DataError(
            f"{run.path} has no operating confidence, without clean detections that find an object"
        )
    classes = most_confused(matrices)
    background = next(iter(matrices.values())).index[-1]
    count = len(next(iter(matrices.values()))) - 1
    which = (
        f"the {_MAX_CLASSES} of {count} classes that are confused most"
        if count > _MAX_CLASSES
        else "all classes"
    )
    caption = (
        "The class of the box that finds each object, whatever that class is, at the operating confidence and an "
        f"IoU of 0.5: {which}, in percent of the row. Column {background}: objects that no box finds; row "
        f"{background}: boxes that find no object."
        + (
            f" {len(models)} models have a matrix; these are the first {_MAX_MODELS}."
            if len(models) > _MAX_MODELS
            else ""
        )
        + (f" Severity {middle:g}: all corruptions together." if len(analysis.corruption_sets) > 1 else "")
        + (" All trainings of a network together." if any(len(t) > 1 for t in trainings.values()) else "")
    )
    rows = [
        (model, condition, actual, taken, int(matrix.loc[actual, taken]))
        for (model, condition), matrix in matrices.items()
        for actual in matrix.index
        for taken in matrix.columns
    ]
    data = pd.DataFrame(rows, columns=["model", "condition", "object", "box", "count"])
    data = data[data["count"] > 0].reset_index(drop=True)
    missed = []
    for (model, condition), matrix in matrices.items():
        objects = matrix.iloc[:-1]
        share = 100 * objects.iloc[:, -1].sum() / max(int(objects.to_numpy().sum()), 1)
        missed.append(f"{model} {condition} {share:.0f} %")
    alt = f"Confusion matrices; objects that no box finds: {'; '.join(missed)}."
    return FigureResult(draw_confusion(matrices, classes), caption, alt, data)
