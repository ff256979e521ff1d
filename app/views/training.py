"""Training: loss curves of training runs."""

from pathlib import Path

import pandas as pd
import streamlit as st

import robustbench_sgdm
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import charts, sources, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.figures.losses import smooth_values
from robustbench_sgdm.store import LOSSES, LogGroup, TrainingLog, group_logs, logs_without_record, read_logs

EMBEDDED = "embedded weights"


@page("Training", icon=":material/trending_down:", order=5)
def training() -> None:
    """Select trainings, split and epochs; see a chart for each loss."""
    logs, problems = _read_logs()
    for problem in problems:
        st.warning(escaping.markdown(problem), icon=":material/error:")
    if not logs:
        widgets.empty_state(
            "No trainings yet", "Start one with `robustbench train`.", ":material/trending_down:"
        )
        return
    names = list(logs)
    newest = names[0].partition(" / ")[0]
    chosen = widgets.multiselect(
        "Trainings", names, "trainings", default=[n for n in names if n.partition(" / ")[0] == newest]
    )
    if not chosen:
        widgets.empty_state("No training chosen", "Choose one above.", ":material/check_box:")
        return
    longest = int(max(logs[n].frame["epoch"].max() for n in chosen))
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        split = widgets.segmented_control("Losses of", ["train", "val"], "split")
        smooth = float(widgets.slider("Smoothing, share of the epochs", "smooth", 0.0, 0.2, 0.02, 0.01))
        epochs = widgets.slider("Epochs", "epochs", 1, longest, (1, longest), 1) if longest > 1 else (1, 1)
    _show_charts([logs[n] for n in chosen], split, smooth, (int(epochs[0]), int(epochs[1])))


def _read_logs() -> tuple[dict[str, TrainingLog], list[str]]:
    """Training runs by `folder / run`, newest first, the package's own last; and what is wrong with others."""
    logs: dict[str, TrainingLog] = {}
    problems, labels = [], {EMBEDDED}
    for folder in dict.fromkeys(sources.sources().training):
        for path in sorted(folder.glob("*"), key=_modified, reverse=True) if folder.is_dir() else []:
            if not path.is_dir() or not ((path / "results.csv").is_file() or [*path.glob("*/results.csv")]):
                continue
            label = sources.unique_name(escape_control_chars(path.name), labels)
            labels.add(label)
            try:
                for log in _baseline_first(read_logs([path])):
                    inner = log.path.parent.name if log.path.parent != path else log.model
                    logs[f"{label} / {escape_control_chars(inner)}"] = log
            except RobustBenchError as error:
                problems.append(str(error))
    own = [*(Path(robustbench_sgdm.__file__).parent / "weights").glob("*.csv")]
    logs |= {f"{EMBEDDED} / {log.path.stem}": log for log in _baseline_first(read_logs(own))} if own else {}
    return logs, problems


def _baseline_first(logs: list[TrainingLog]) -> list[TrainingLog]:
    return sorted(logs, key=lambda log: (log.model, str(log.path)))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _show_charts(logs: list[TrainingLog], split: str, smooth: float, epochs: tuple[int, int]) -> None:
    groups = group_logs(logs)
    names = [group.name for group in groups]
    colors = widgets.model_colors(names)
    widgets.show_legend(names)
    for column, loss in zip(st.columns(len(LOSSES)), LOSSES, strict=True):
        name = f"{split}/{loss}_loss"
        with column:
            st.markdown(f"**{loss} loss**")
            curves = [_curve(group, name, smooth) for group in groups]
            if all(curve.empty for curve in curves):
                st.caption(f"These logs have no {split} losses.")
                continue
            charts.show(
                charts.loss_curves(pd.concat(curves), colors, epochs),
                key=f"loss-{loss}",
                alt=f"{loss} loss against the epoch, a line for each of {', '.join(names)}",
            )
    pooled = ", ".join(escaping.markdown(group.label) for group in groups if len(group.logs) > 1)
    st.caption(
        "Line: smoothed mean over seeds. Faint line: raw mean. Band: range over seeds. "
        + (
            f"Pooled, since their records differ only in the seed: {pooled}."
            if pooled
            else "No two trainings differ only in the seed."
        )
    )
    if absent := logs_without_record(logs):
        st.caption(
            f"{len(absent)} of these runs have no recipe.yaml or args.yaml beside results.csv, so they are not pooled."
        )
    with st.container(key="wheel"):
        st.caption("Zoom with the wheel, move by dragging.")


def _curve(group: LogGroup, name: str, smooth: float) -> pd.DataFrame:
    """model, epoch, mean, smooth, low, high."""
    table = group.losses(name)
    mean = table.mean(axis=1)
    return pd.DataFrame(
        {
            "model": group.name,
            "epoch": mean.index.astype(int),
            "mean": mean.to_numpy(),
            "smooth": smooth_values(mean.to_numpy(), smooth * len(mean)),
            "low": table.min(axis=1).to_numpy(),
            "high": table.max(axis=1).to_numpy(),
        }
    )
