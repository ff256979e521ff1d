"""Training: loss curves of training runs, epochs zoomable."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

import robustbench_sgdm
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.figures.losses import smooth_values
from robustbench_sgdm.store import LOSSES, Log, LogGroup, group_logs, read_logs, unrecorded

if TYPE_CHECKING:
    from app import charts, controls, stored
else:
    controls = resources.import_file(resources.root() / "app" / "controls.py")
    stored = resources.import_file(resources.root() / "app" / "stored.py")
    charts = resources.import_file(resources.root() / "app" / "charts.py")

EMBEDDED = "embedded weights"


def page() -> None:
    """Choose trainings, whose losses, the epochs; three charts."""
    logs, faults = _logs()
    for fault in faults:
        st.warning(controls.plain(fault), icon=":material/error:")
    if not logs:
        controls.nothing("No training here", "`robustbench train` makes one.", ":material/trending_down:")
        return
    names = list(logs)
    newest = names[0].partition(" / ")[0]
    chosen = controls.picks(
        "Trainings", names, "trainings", default=[n for n in names if n.partition(" / ")[0] == newest]
    )
    if not chosen:
        controls.nothing("No training chosen", "Choose one above.", ":material/check_box:")
        return
    longest = int(max(logs[n].frame["epoch"].max() for n in chosen))
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        split = controls.choose("Losses of", ["train", "val"], "split")
        smooth = float(controls.slide("Smoothing, share of the epochs", "smooth", 0.0, 0.2, 0.02, 0.01))
        epochs = controls.slide("Epochs", "epochs", 1, longest, (1, longest), 1) if longest > 1 else (1, 1)
    _charts([logs[n] for n in chosen], split, smooth, (int(epochs[0]), int(epochs[1])))


def _logs() -> tuple[dict[str, Log], list[str]]:
    """Training runs by `folder / run`, the newest first, the package's own last; and what cannot be read."""
    found: dict[str, Log] = {}
    faults, labels = [], {EMBEDDED}
    for folder in dict.fromkeys(stored.sources().training):
        for path in sorted(folder.glob("*"), key=_age, reverse=True) if folder.is_dir() else []:
            if not path.is_dir() or not ((path / "results.csv").is_file() or [*path.glob("*/results.csv")]):
                continue
            label = stored.unique(escape_control_chars(path.name), labels)
            labels.add(label)
            try:
                for log in _baseline_first(read_logs([path])):
                    inner = log.path.parent.name if log.path.parent != path else log.model
                    found[f"{label} / {escape_control_chars(inner)}"] = log
            except RobustBenchError as error:
                faults.append(str(error))
    own = [*(Path(robustbench_sgdm.__file__).parent / "weights").glob("*.csv")]
    found |= {f"{EMBEDDED} / {log.path.stem}": log for log in _baseline_first(read_logs(own))} if own else {}
    return found, faults


def _baseline_first(logs: list[Log]) -> list[Log]:
    return sorted(logs, key=lambda log: (log.model, str(log.path)))


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _charts(logs: list[Log], split: str, smooth: float, epochs: tuple[int, int]) -> None:
    groups = group_logs(logs)
    names = [group.name for group in groups]
    palette = controls.colors(names)
    controls.legend(names)
    for column, loss in zip(st.columns(len(LOSSES)), LOSSES, strict=True):
        name = f"{split}/{loss}_loss"
        with column:
            st.markdown(f"**{loss} loss**")
            curves = [_curve(group, name, smooth) for group in groups]
            if all(curve.empty for curve in curves):
                st.caption(f"These logs have no {split} losses.")
                continue
            charts.draw(
                charts.losses(pd.concat(curves), palette, epochs),
                key=f"loss-{loss}",
                alt=f"{loss} loss against the epoch, a line for each of {', '.join(names)}",
            )
    pooled = ", ".join(controls.plain(group.label) for group in groups if len(group.logs) > 1)
    st.caption(
        "The smoothed mean over a training's seeds, the raw mean behind it, their range as a band. "
        + (
            f"Pooled, as their records differ in the seed alone: {pooled}."
            if pooled
            else "No run is another's seed."
        )
    )
    if absent := unrecorded(logs):
        st.caption(
            f"{len(absent)} of these runs have no recipe.yaml or args.yaml beside their results.csv, so each has a line."
        )
    with st.container(key="wheel"):
        st.caption("Wheel and drag zoom.")


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
