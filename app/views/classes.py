"""Classes: AP by class and corruption with intervals; of a chosen cell its curves, confusions and images."""

import math
from typing import NamedTuple

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.dashboard import charts, differences, run_controls, run_data, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.figures.confusion import most_confused
from robustbench_sgdm.tables import format_number, format_p_value, humanize, starred
from robustbench_sgdm.tables.table import STARRED

LOST, OBJECTS, NAME = "most lost first", "most objects first", "by name"
MOST_ROWS = 20
"""Classes that are shown at first."""
MOST_CONFUSED = 10
"""Classes of a confusion matrix on the page, beside the chosen one."""


class Shown(NamedTuple):
    """What the map shows: a model, or what it has more than a baseline."""

    baseline: str
    model: str

    @property
    def title(self) -> str:
        """In menus."""
        return f"{self.model} − {self.baseline}" if self.baseline else self.model


@page("Classes", icon=":material/category:", order=3)
def classes(view: RunView) -> None:
    """A map of classes and corruptions; a click on a cell shows what is behind it."""
    if run_data.results(view).empty:
        widgets.empty_state("No scores yet", "Classes appear as soon as the first cells are complete.")
        return
    compared, chosen = _select(view)
    shown, severity = chosen.shown, chosen.severity
    frame = run_data.class_scores(view, shown.model, shown.baseline)
    frame = frame[frame["corruption"].isin([CLEAN, *chosen.corruptions])]
    at = frame["severity"].isna() if math.isnan(severity) else frame["severity"] == severity
    at |= frame["corruption"] == CLEAN
    if frame[at].empty:
        widgets.empty_state(
            "No scores of classes here",
            "No complete cell has them. Choose another severity or other corruptions.",
        )
        return
    found = [name for name in _rank(frame, at, chosen.order) if chosen.text in name.lower()]
    if not found:
        widgets.offer_to_clear("**No class has this in its name.**", "find")
        return
    few = sorted({str(name) for name in frame.loc[frame["few"], "class"]})
    rows = found if len(found) <= MOST_ROWS or _shows_all(len(found)) else found[:MOST_ROWS]
    _show_map(frame[at], rows, shown, has_few=bool(set(few) & set(rows)))
    if not run_data.has_class_intervals(view):
        widgets.offer_report(view.run.path, "The intervals of classes are not computed yet.")
    _show_cell(compared, frame, shown, severity, found)


class Chosen(NamedTuple):
    """What the visitor chose.

    Attributes:
        shown: in the map.
        corruptions: its columns.
        severity: NaN for the mean over all of them.
        order: of the classes.
        text: that is part of their names, in lower case.
    """

    shown: Shown
    corruptions: list[str]
    severity: float
    order: str
    text: str


def _select(view: RunView) -> tuple[RunView, Chosen]:
    """The run with the chosen baseline, and what else is chosen."""
    families = run_data.families(view)
    levels = sorted({s for _, c, s in run_data.complete_cells(view) if c != CLEAN})
    with run_controls.control_bar():
        compared = run_controls.select_baseline(view)
        shown = Shown(*(run_controls.select_pair(compared, with_models=True) or ("", "")))
        family = run_controls.select_family(list(families) if len(families) > 1 else [])
        severity = run_controls.select_severity(levels, has_mean=True)
        order = widgets.selectbox("Order", [LOST, OBJECTS, NAME], "order_classes", width=160)
        text = st.text_input("Find a class", key="find", bind=widgets.QUERY, width=130, max_chars=80)
    members = [c for name, own in families.items() if family in (run_controls.ALL, name) for c in own]
    return compared, Chosen(shown, members, severity, order, str(text or "").strip().lower())


def _rank(frame: pd.DataFrame, at: "pd.Series[bool]", order: str) -> list[str]:
    """The classes in the chosen order; the loss is that of the mean over the corruptions, few objects come last."""
    if order == OBJECTS:
        counts = frame.drop_duplicates("class").set_index("class")["objects"]
        return [str(name) for name in counts.sort_values(ascending=False, kind="stable").index]
    if order == NAME:
        return sorted({str(name) for name in frame["class"]}, key=str.lower)
    clean = frame[frame["corruption"] == CLEAN].set_index("class")["estimate"]
    noisy = frame[at & (frame["corruption"] != CLEAN)].groupby("class", sort=False)["estimate"].mean()
    lost = clean.reindex(frame["class"].unique()) - noisy if len(clean) else -noisy
    ranked = lost.sort_values(ascending=False, kind="stable", na_position="last").index
    few = set(frame.loc[frame["few"], "class"])
    return [str(name) for name in sorted(ranked, key=few.__contains__)]


def _shows_all(count: int) -> bool:
    return widgets.toggle(f"All {count:d} classes", "every_class")


def _show_map(frame: pd.DataFrame, rows: list[str], shown: Shown, *, has_few: bool) -> None:
    signed = bool(shown.baseline)
    position = {name: number for number, name in enumerate(rows)}
    cells = frame[frame["class"].isin(rows)].sort_values(
        "class", key=lambda names: names.map(position), kind="stable"
    )
    is_tested = signed & cells["significant"].fillna(value=False).astype(bool)
    drawn = cells.assign(
        value=cells["estimate"],
        label=[
            f"{row['class']} · {row['objects']:,}{' †' if row['few'] else ''}" for _, row in cells.iterrows()
        ],
        text=[
            starred(format_number(value, signed=signed) if signed else f"{value:.1f}", star)
            for value, star in zip(cells["estimate"], is_tested, strict=True)
        ],
        strong=is_tested,
        interval=[
            widgets.format_interval(*ends, signed=signed)
            for ends in zip(cells["low"], cells["high"], strict=True)
        ],
        p=cells["p_holm"].map(format_p_value),
        objects=[
            f"{n:,}{', too few to say much' if few else ''}"
            for n, few in zip(cells["objects"], cells["few"], strict=True)
        ],
    ).drop(columns=["estimate", "low", "high", "p_holm", "significant", "few", "severity"])
    remarks = "The number after a class counts its objects. "
    if has_few:
        remarks += f"† Fewer than {robustness.FEW_OBJECTS:d} objects: the score says little. "
    if signed:
        remarks += escaping.markdown(STARRED.format(alpha=0.05, what="the classes of a column")) + " "
    st.caption(remarks + "Click a cell to see what is behind it.")
    event = charts.show(
        charts.class_map(drawn, "AP", signed=signed, dark=st.context.theme.type == "dark"),
        on_select="rerun",
        selection_mode="cell",
        key="class-map",
        width=min(1400, 260 + 90 * cells["corruption"].nunique()),
        alt=f"Heat map of AP of {shown.title}, by class and corruption",
    )
    if picked := event["selection"].get("cell"):
        st.query_params.update({"class": str(picked[0]["class"]), "in": str(picked[0]["corruption"])})


def _show_cell(view: RunView, frame: pd.DataFrame, shown: Shown, severity: float, found: list[str]) -> None:
    """What is behind a cell of the map: by default, that of the class that loses most where it loses most.

    A cell of the mean over severities keeps its number; what is of single images is of the middle severity then.
    """
    noisy = frame[frame["corruption"] != CLEAN]
    widgets.warn_invalid_query("class", dict.fromkeys(frame["class"]), "Class")
    name = str(st.query_params.get("class", ""))
    name = name if name in found else found[0]
    own = noisy[noisy["class"] == name].dropna(subset="estimate")
    own = own[own["severity"].isna() if math.isnan(severity) else own["severity"] == severity]
    known = [CLEAN, *(c for members in run_data.families(view).values() for c in members)]
    worst = str(own.sort_values("estimate", kind="stable")["corruption"].iloc[0]) if len(own) else CLEAN
    widgets.warn_invalid_query("in", known, "Corruption")
    corruption = str(st.query_params.get("in", ""))
    corruption = corruption if corruption in set(frame["corruption"]) else worst
    levels = sorted({s for m, c, s in run_data.complete_cells(view) if c == corruption})
    level = severity if severity in levels else levels[len(levels) // 2]
    is_mean = math.isnan(severity) and corruption != CLEAN
    rows = frame[(frame["class"] == name) & (frame["corruption"] == corruption)]
    rows = rows[rows["severity"].isna() if is_mean else rows["severity"] == level]
    where = "on clean images" if corruption == CLEAN else f"under {humanize(corruption)}"
    if is_mean:
        where += f", mean over severities {', '.join(f'{s:g}' for s in levels)}"
    elif corruption != CLEAN:
        where += f" at severity {level:g}"
    st.subheader(f"{escaping.markdown(name)} {escaping.markdown(where)}", anchor=False)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        if len(rows):
            _show_number(rows.iloc[0], shown)
        images = f"Open its images at severity {level:g}" if is_mean else "Open its images"
        if st.button(images, icon=":material/compare:", type="primary"):
            _open_images(view, shown, name, corruption, level)
    models = [shown.model, *filter(None, [shown.baseline])]
    if is_mean:
        st.caption(f"Below, severity {level:g}.")
    if not shown.baseline:
        models += [m for b, m in view.run.baseline_pairs if b == shown.model][:1]
        models += [b for b, m in view.run.baseline_pairs if m == shown.model][:1]
    _show_details(view, list(dict.fromkeys(models)), name, corruption, level)


def _show_number(row: "pd.Series[float]", shown: Shown) -> None:
    signed = bool(shown.baseline)
    text = f"**{'Difference in AP' if signed else 'AP'} {format_number(row['estimate'], signed=signed)}**"
    if not math.isnan(row["low"]):
        text += f" ({widgets.format_interval(row['low'], row['high'], signed=signed)}, 95 % interval)"
    if signed and not math.isnan(row["p_holm"]):
        text += f", p {escaping.markdown(format_p_value(row['p_holm']))} after Holm over the classes"
    st.markdown(
        f"{text} · {int(row['objects']):,d} {'object' if row['objects'] == 1 else 'objects'}{' †' if row['few'] else ''}",
        width="content",
    )


@widgets.fragment()
def _show_details(view: RunView, models: list[str], name: str, corruption: str, severity: float) -> None:
    """Precision against recall of the class, and what its objects are taken for, by the first training of each model."""
    trainings = {view.run.groups[model][0]: model for model in models}
    left, right = st.columns(2)
    clean = "clean"
    noisy = clean if corruption == CLEAN else f"{humanize(corruption)} {severity:g}"
    with left:
        st.markdown("**Precision and recall at IoU 0.5**")
        curves = run_data.class_curves(view, tuple(trainings), corruption, severity, name)
        curves = curves.assign(
            condition=[clean if s == 0 else noisy for s in curves["severity"]],
            model=curves["model"].map(trainings),
        ).drop(columns=["severity", "f1"])
        if curves.empty:
            st.caption("No boxes of this class are stored here.")
        else:
            colors = widgets.model_colors(models)
            widgets.show_legend(colors)
            conditions = list(dict.fromkeys([clean, noisy]))
            charts.show(
                charts.precision_recall_curves(curves, colors, conditions),
                key="class-curves",
                alt=f"Precision against recall of {name}, clean and under {noisy}, for {', '.join(models)}",
            )
            if len(conditions) > 1:
                st.caption(f"Faint: clean images. Full: {escaping.markdown(noisy)}.")
    with right:
        st.markdown("**What objects are taken for**")
        _show_confusion(view, list(trainings), name, corruption, severity)


def _show_confusion(view: RunView, trainings: list[str], name: str, corruption: str, severity: float) -> None:
    """The confusion matrix of one training: the class and those that are confused most."""
    known = run_data.operating_confidences(view)
    cells = run_data.complete_cells(view)
    usable = [m for m in trainings if m in known and (m, corruption, severity) in cells]
    if not usable:
        st.caption("There is no operating confidence, because no clean detection finds an object.")
        return
    model = widgets.selectbox("Model", usable, "confusion_of", width=260) if len(usable) > 1 else usable[0]
    matrix = run_data.confusion(view, cells[model, corruption, severity])
    background = str(matrix.index[-1])
    kept = most_confused({(model, ""): matrix}, MOST_CONFUSED)
    if name in matrix.index and name not in kept:
        kept = [name, *kept]
    kept = [*(c for c in matrix.index if c in kept and c != background), background]
    shares = 100 * matrix.div(matrix.sum(axis=1).clip(lower=1), axis=0)
    counts, values = (one.reindex(index=kept, columns=kept).to_numpy().ravel() for one in (matrix, shares))
    pairs = pd.MultiIndex.from_product([kept, kept], names=["object", "box"])
    frame = pd.DataFrame({"count": counts, "value": values}, index=pairs).reset_index()
    charts.show(
        charts.confusion_map(frame, dark=st.context.theme.type == "dark"),
        key="confusion",
        alt=f"Confusion matrix of {model}: rows are objects, columns are boxes",
    )
    left_out, nothing = len(matrix) - len(kept), escaping.markdown(background)
    st.caption(
        f"Boxes of confidence {known[model]:.2f} or more, the best F1 on clean images. Column {nothing}: objects that "
        f"no box finds; row {nothing}: boxes that find no object."
        + (f" {left_out:d} classes that are confused less are not shown." if left_out else "")
    )


def _open_images(view: RunView, shown: Shown, name: str, corruption: str, severity: float) -> None:
    baseline = shown.baseline or next(
        (b for b, m in view.run.baseline_pairs if m == shown.model), shown.model
    )
    differences.show_images(view, (baseline, shown.model), corruption, severity, {"class": name})
