"""Training: losses, AP and learning rate of training runs, and what was wrong with them."""

from pathlib import Path

import pandas as pd
import streamlit as st

import robustbench_sgdm
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import charts, sources, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.figures.losses import smooth_values
from robustbench_sgdm.store import LOSSES, LogGroup, TrainingLog, group_logs, logs_without_record, read_logs
from robustbench_sgdm.store.schema import TrainingResult

EMBEDDED = "bundled weights"
PROGRESS = [  # title, column, smoothing, factor
    ("AP on the validation images, %", "metrics/mAP50-95(B)", 0.0, 100.0),
    ("AP50 on the validation images, %", "metrics/mAP50(B)", 0.0, 100.0),
    ("learning rate", "lr/pg0", 0.0, 1.0),
]


@page("Training", icon=":material/trending_down:", order=5)
def training() -> None:
    """Select trainings, split and epochs; see a chart for each loss, for AP and for the learning rate."""
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
    _show_health({name: logs[name] for name in chosen})


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
    widgets.show_legend(colors)
    panels = [(f"{loss} loss", f"{split}/{loss}_loss", smooth, 1.0) for loss in LOSSES]
    for row in (panels, PROGRESS):
        for column, (title, name, window, factor) in zip(st.columns(len(row)), row, strict=True):
            with column:
                st.markdown(f"**{escaping.markdown(title)}**")
                curves = [_curve(group, name, window, factor) for group in groups]
                if all(curve.empty for curve in curves):
                    st.caption("These logs do not contain it.")
                    continue
                charts.show(
                    charts.loss_curves(pd.concat(curves), colors, epochs),
                    key=f"chart-{title}",
                    alt=f"{title} against the epoch, a line for each of {', '.join(names)}",
                )
    pooled = ", ".join(escaping.markdown(group.label) for group in groups if len(group.logs) > 1)
    st.caption(
        "Line: smoothed mean over seeds. Faint line: raw mean. Band: range over seeds. "
        f"Pooled because their records differ only in the seed: {pooled}."
        if pooled
        else "Line: smoothed. Faint line: raw values."
    )
    if absent := logs_without_record(logs):
        st.caption(
            f"{len(absent)} of these runs have no recipe.yaml or args.yaml beside results.csv, so they are not pooled."
        )
    with st.container(key="wheel"):
        st.caption("Zoom with the wheel, drag to move.")


def _show_health(logs: dict[str, TrainingLog]) -> None:
    """What was wrong with trainings, of those that say it."""
    findings = {name: _findings(log.path.parent) for name, log in logs.items()}
    told = {name: lines for name, lines in findings.items() if lines is not None}
    if not told:
        return
    st.subheader("Health", anchor=False)
    ill = [name for name, lines in told.items() if lines]
    for line in dict.fromkeys(line for lines in told.values() for line in lines):
        names = ", ".join(name for name in ill if line in told[name])
        st.warning(
            f"**{escaping.markdown(line)}**\n\n{escaping.markdown(names)}", icon=":material/monitor_heart:"
        )
    if well := len(told) - len(ill):
        st.caption(f"No problem was found in {well:d} of {len(told):d} trainings.")


def _findings(folder: Path) -> tuple[str, ...] | None:
    """What was wrong with a training, a line each; None where nothing says."""
    try:
        return TrainingResult.read(folder / "result.json", SafeDirectory(folder)).health
    except RobustBenchError:
        return None


def _curve(group: LogGroup, name: str, smooth: float, factor: float = 1.0) -> pd.DataFrame:
    """model, epoch, mean, smooth, low, high."""
    table = group.losses(name) * factor
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
