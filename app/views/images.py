"""Images: one image as two or more detectors saw it, side by side, zoomed in step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.dashboard import image_viewer, inference, run_data, run_images, session, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.dashboard.run_images import RunImage
from robustbench_sgdm.store import GroundTruth, Run
from robustbench_sgdm.tables import humanize

MAX_DIFFERENT = "most different"
RIGHT_FINDS_MORE = "right finds more"
LEFT_FINDS_MORE = "left finds more"
AS_IN_THE_DATA = "as in the data"
ORDERS = {
    MAX_DIFFERENT: "only one of the two models",
    RIGHT_FINDS_MORE: "the right model",
    LEFT_FINDS_MORE: "the left model",
    AS_IN_THE_DATA: "",
}
KINDS = ("matched", "missed", "false")
_MOVED = "severity: moved in the viewer"
_OPENED = "severities: opened of"


@page("Images", icon=":material/compare:", order=3)
def images(view: RunView) -> None:
    """Select models, corruption and severity; step through the images where the two models differ."""
    cells = run_data.complete_cells(view)
    if not cells:
        widgets.empty_state(
            "No images yet",
            "Images appear as soon as the first cells are complete.",
            ":material/image:",
        )
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        models, corruption, order = _select_models(view, cells)
        levels = _stored_severities(cells, models, corruption)
        severity, is_live = _select_severity(view, levels, corruption) if levels else (0.0, False)
    if not levels:
        widgets.empty_state(
            "No images yet", "Neither model has a complete cell. Choose other models.", ":material/image:"
        )
        return
    ids, remark = _rank_images(
        view, (models[0], models[-1] if len(models) < 2 else models[1]), corruption, severity, order
    )
    _show_image(view, models, (corruption, severity), is_live, ids, remark)


def _stored_severities(cells: Any, models: Sequence[str], corruption: str) -> list[float]:
    """The severities that any of the models has, with that of clean images."""
    return sorted({s for m, c, s in cells if m in models and c in (CLEAN, corruption)})


def _select_models(view: RunView, cells: Any) -> tuple[list[str], str, str]:
    """Up to six trainings, the baseline's first; a corruption; and the order of images."""
    groups = list(view.run.groups)
    compared = widgets.select_baseline(view, own=False)
    baseline, others = groups[0], [groups[0]]
    if len(groups) > 1:
        baseline, first = compared.run.baseline_pairs[0]
        first = next((m for b, m in view.run.baseline_pairs if b == baseline), first)
        others = widgets.multiselect(
            "Compared models",
            groups,
            "right",
            default=[first],
            max_selections=image_viewer.MAX_PANES - 1,
            width=240,
        ) or [first]
    models = _select_trainings(compared, baseline, others[0])
    for other in others[1:]:
        models += [m for m in _matching_trainings(compared, baseline, other, models[0]) if m not in models]
    names = list(dict.fromkeys(c for m, c, _ in cells if m in models and c != CLEAN))
    corruption = widgets.select_corruption(names or [CLEAN])
    order = AS_IN_THE_DATA
    if len(models) > 1:
        order = widgets.selectbox("Order of images", list(ORDERS), "order", width=170)
    return models, corruption, order


def _matching_trainings(view: RunView, baseline: str, other: str, left: str) -> list[str]:
    """The training of another model that has the seed of the baseline's, else its first."""
    if baseline == other:
        return view.run.groups[other][:1]
    pairs = dict(view.run.match_trainings(baseline, other))
    return [pairs.get(left, view.run.groups[other][0])]


def _select_trainings(view: RunView, baseline: str, other: str) -> list[str]:
    """One training of each model, by default with the same seed; of a single model its first and last."""
    ours, theirs = view.run.groups[baseline], view.run.groups[other]
    defaults = view.run.match_trainings(baseline, other)[0] if baseline != other else (ours[0], ours[-1])
    chosen = []
    for label, trainings, key, default in (
        ("Left training", ours, "left", defaults[0]),
        ("Right training", theirs, "right_training", defaults[1]),
    ):
        if len(trainings) > 1:
            chosen.append(widgets.selectbox(label, trainings, key, default=default, width=200))
        else:
            widgets.warn_invalid_query(key, trainings, label)
            chosen.append(trainings[0])
    return list(dict.fromkeys(chosen))


def _select_severity(view: RunView, levels: list[float], corruption: str) -> tuple[float, bool]:
    """A stored severity, or any in [0, 5] if the detectors may be loaded; and whether they may."""
    weights = f"weights of {view.run.path}"
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        is_live = widgets.toggle(
            "Any severity",
            "any",
            help="Loads the detectors, which takes a few seconds the first time, and runs them here.",
            on_change=session.confirm,
            args=(weights,),
        )
        if is_live:
            is_live = session.is_confirmed(
                weights,
                "The address asks for any severity, which loads the weights that this run names.",
                "Load the detectors",
            )
        if is_live and "[" not in corruption:
            return float(widgets.slider("Severity", "exact", 0.0, 5.0, 2.5, 0.1)), True
        names = [f"{s:g}" for s in levels]
        if len(names) == 1:
            widgets.warn_invalid_query("severity", names, "Severity")
            st.caption(f"Only severity {names[0]} is stored.")
            return levels[0], False
        chosen = widgets.select_slider("Severity", names, "severity", default=names[len(names) // 2])
    return float(chosen), False


def _rank_images(
    view: RunView, models: Sequence[str], corruption: str, severity: float, order: str
) -> tuple[list[int], str]:
    """Image ids in the selected order, which compares the first two models, and a remark about the first ones."""
    left, right = models[0], models[min(1, len(models) - 1)]
    every = [int(i) for i in run_data.ground_truth(view).images["image_id"]]
    if order == AS_IN_THE_DATA or left == right:
        return every, ""
    cells = run_data.complete_cells(view)
    name = CLEAN if severity == 0 else corruption
    levels = [s for m, c, s in cells if m == right and c == name and (left, c, s) in cells]
    if not levels:
        return every, "No severity is complete for both models, so images are in the order of the data set."
    nearest = min(levels, key=lambda s: abs(s - severity))
    differing = _count_differences(view.run, view.stamp, left, right, name, nearest)
    if order == MAX_DIFFERENT:
        first = differing.sort_values(["either", "net"], ascending=False, kind="stable", key=abs)
    else:
        sign = 1 if order == RIGHT_FINDS_MORE else -1
        first = differing[sign * differing["net"] > 0].sort_values("net", ascending=sign < 0, kind="stable")
    ranked = [int(i) for i in first["image_id"]]
    known = set(ranked)
    finds = f"{'finds' if name == CLEAN else 'still finds'} {'some' if order == MAX_DIFFERENT else 'more'} objects"
    where = f"In {len(ranked)} of {len(every)} images" if ranked else "In no image"
    remark = f"{where} {ORDERS[order]} {finds} at severity {nearest:g}{'; they come first' * bool(ranked)}."
    return ranked + [i for i in every if i not in known], remark


@st.cache_data(max_entries=64, show_spinner="Ranking images by what only one of the models finds")
def _count_differences(
    _run: Run, stamp: str, left: str, right: str, corruption: str, severity: float
) -> pd.DataFrame:
    """Images with objects that only one model finds: image_id, either (their number) and net (right's minus left's).

    Under corruption, only objects that both models find on clean images count.
    """
    if corruption == CLEAN:
        truth, cells = _run.ground_truth(), {c.model: c for c in _run.cells if c.corruption == CLEAN}
        objects = [
            robustness.match_outcomes(truth, _run.store.read_detections(cells[m])).objects
            for m in (left, right)
        ]
        matched = [(frame["outcome"] == "matched").to_numpy(int) for frame in objects]
        each = pd.DataFrame({"image_id": objects[0]["image_id"], "net": matched[1] - matched[0]})
    else:
        flips = robustness.find_flips(_run, left, right, only=(corruption, severity)).objects
        net = np.where(flips["keeper"] == "model", 1, -1)
        each = pd.DataFrame({"image_id": flips["image_id"], "net": net})
    each["either"] = each["net"].abs()
    sums = each.groupby("image_id", as_index=False)[["either", "net"]].sum()
    return sums[sums["either"] > 0]


def _current_image(ids: list[int]) -> int:
    """The image that the address names, else the first."""
    wanted = st.query_params.get("image")
    if wanted is not None and wanted not in map(str, ids):
        widgets.warn_invalid_query("image", ids, "Image")
        del st.query_params["image"]
        wanted = None
    return ids[0] if wanted is None else int(wanted)


@widgets.fragment()  # the next image needs none of the page above it
def _show_image(
    view: RunView,
    models: list[str],
    condition: tuple[str, float],
    is_live: bool,
    ids: list[int],
    remark: str,
) -> None:
    """The current image with each model's boxes under a corruption at a severity."""
    if st.session_state.pop(_MOVED, False):  # the slider of the page is outside
        st.rerun()
    corruption, severity = condition
    image_id, truth = _current_image(ids), run_data.ground_truth(view)
    position = ids.index(image_id)
    (row,) = image_viewer.rows(truth.images[truth.images["image_id"] == image_id])
    own = truth.of_image(image_id)
    image = RunImage.from_manifest(view.run.manifest, row, corruption, severity)
    may_read = _may_read_images(view)
    url, problem = (
        _image_url(image) if may_read else (image_viewer.placeholder_url(image.width, image.height), "")
    )
    panes = []
    for model in models:
        try:
            detections = _detections(view, model, image, is_live)
            panes.append({"title": model, "boxes": image_viewer.viewer_boxes(own, detections)})
        except RobustBenchError as error:
            st.warning(escaping.markdown(f"{model}: {error}"), icon=":material/error:")
            panes.append({"title": f"{model}: nothing stored", "boxes": []})

    def step(index: int) -> None:
        st.query_params["image"] = str(ids[index % len(ids)])

    name, where = str(row.file).rsplit("/", 1)[-1], f"{humanize(corruption)} at severity {severity:g}"
    st.caption(
        f"Image {position + 1} of {len(ids)} · {escaping.markdown(name)} · {escaping.markdown(where)}. {remark}"
    )
    image_viewer.show(
        image_viewer.ViewerImage(f"{view.name}:{image_id}", url, image.width, image.height, name, where),
        panes,
        image_viewer.truth_boxes(own),
        KINDS,
        key="viewer",
        position=(position, len(ids)),
        on_step=step,
        severities=_severities(view, models, row, own, condition) if may_read else None,
    )
    if problem:
        st.warning(escaping.markdown(problem), icon=":material/image_not_supported:")
    _show_provenance(view, is_live)


def _severities(
    view: RunView, models: Sequence[str], row: Any, truth: GroundTruth, condition: tuple[str, float]
) -> image_viewer.Severities:
    """The same image at every stored severity; previews and boxes once the visitor's browser asks for them."""
    corruption, severity = condition
    stored = _stored_severities(run_data.complete_cells(view), models, corruption)
    asked = view.stamp, int(row.image_id), corruption, *models

    def select(chosen: float) -> None:
        if chosen in stored:
            st.session_state["any"] = False
            st.session_state["severity"] = f"{chosen:g}"
            st.session_state[_MOVED] = True

    def open_levels() -> None:
        st.session_state[_OPENED] = asked

    levels = []
    if st.session_state.get(_OPENED) == asked:
        for one in stored:
            image = RunImage.from_manifest(view.run.manifest, row, corruption, one)
            boxes = [_stored_boxes(view, model, image, truth) for model in models]
            levels.append(image_viewer.level(one, _preview_url(image), boxes))
    shown = severity if severity in stored else None
    return image_viewer.Severities(stored, shown, levels, select, open_levels)


def _preview_url(image: RunImage) -> str:
    try:
        return run_images.preview_url(image, image_viewer.PREVIEW_SIDE)
    except RobustBenchError:
        return image_viewer.placeholder_url(image.width, image.height)


def _stored_boxes(view: RunView, model: str, image: RunImage, truth: GroundTruth) -> list[dict[str, Any]]:
    try:
        return image_viewer.viewer_boxes(truth, _detections(view, model, image, False))
    except RobustBenchError:
        return []


def _detections(view: RunView, model: str, image: RunImage, is_live: bool) -> pd.DataFrame:
    """A model's boxes in one image: stored ones if there are any, else detected now."""
    cell = run_data.complete_cells(view).get((model, image.corruption, image.severity))
    if cell is not None:
        return run_data.image_detections(view, cell, image_viewer.MIN_CONFIDENCE, image.image_id)
    if not is_live:
        raise DataError(
            f"this cell is not complete; {model} has nothing stored at severity {image.severity:g}"
        )
    detector = inference.load_run_detector(view.run.manifest, model)
    detections = inference.map_to_categories(
        inference.detect_cached(detector, image), detector.classes, run_data.ground_truth(view).categories
    )
    return detections.assign(image_id=image.image_id)


def _may_read_images(view: RunView) -> bool:
    """Whether image files may be read: the opened address alone does not read any."""
    return session.has_interacted() or session.is_confirmed(
        f"images of {view.run.path}",
        "Only boxes are shown. The images would be read from the files that this run names.",
        "Show the images",
    )


def _image_url(image: RunImage) -> tuple[str, str]:
    """An image as a data URL, and what is wrong with it."""
    try:
        return run_images.image_url(image), ""
    except RobustBenchError as error:
        return _fallback_url(image, error)


def _fallback_url(image: RunImage, error: RobustBenchError) -> tuple[str, str]:
    """The clean image if the corruption cannot be reproduced, a grey one if the file is missing."""
    try:
        clean = dataclasses.replace(image, corruption=CLEAN, severity=0.0)
        return run_images.image_url(clean), f"The image is shown without its corruption: {error}."
    except RobustBenchError:
        placeholder = image_viewer.placeholder_url(image.width, image.height)
        return placeholder, f"The image cannot be shown, only its boxes: {error}."


def _show_provenance(view: RunView, is_live: bool) -> None:
    device = view.run.manifest.settings.device
    text = "Boxes are those of the run. The corruption is reproduced from its seed, pixel by pixel."
    if is_live:
        text = "Boxes at severities of the run are those of the run; others are detected now, by its own detectors."
    if not device.startswith("cpu"):
        text += f" The run computed on {escaping.markdown(device)}: a few values may differ from it by a grey level."
    st.caption(text)
