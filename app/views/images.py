"""Images: one image as two detectors saw it, side by side, zoomed in step."""

import dataclasses
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
from robustbench_sgdm.store import Run
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
    left, right, corruption, order = _select_models(view, cells)
    levels = sorted({s for m, c, s in cells if m in (left, right) and c in (CLEAN, corruption)})
    if not levels:
        widgets.empty_state(
            "No images yet", "Neither model has a complete cell. Choose other models.", ":material/image:"
        )
        return
    severity, is_live = _select_severity(view, levels, corruption)
    ids, remark = _rank_images(view, (left, right), corruption, severity, order)
    _show_image(view, list(dict.fromkeys((left, right))), (corruption, severity), is_live, ids, remark)


def _select_models(view: RunView, cells: Any) -> tuple[str, str, str, str]:
    """Two trainings, a corruption and the order of images."""
    models = list(view.run.groups)
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        baseline = other = models[0]
        compared = widgets.select_baseline(view, own=False)
        if len(models) > 1:
            baseline, first = compared.run.baseline_pairs[0]
            first = next((m for b, m in view.run.baseline_pairs if b == baseline), first)
            other = widgets.selectbox("Compared model", models, "right", default=first, width=200)
        left, right = _select_trainings(compared, baseline, other)
        corruptions = list(dict.fromkeys(c for m, c, _ in cells if m in (left, right) and c != CLEAN))
        corruption = widgets.select_corruption(corruptions or [CLEAN])
        order = AS_IN_THE_DATA
        if left != right:
            order = widgets.selectbox("Order of images", list(ORDERS), "order", width=170)
    return left, right, corruption, order


def _select_trainings(view: RunView, baseline: str, other: str) -> tuple[str, str]:
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
    return chosen[0], chosen[1]


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
    view: RunView, models: tuple[str, str], corruption: str, severity: float, order: str
) -> tuple[list[int], str]:
    """Image ids in the selected order, and a remark about the first ones."""
    left, right = models
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


def _show_image(
    view: RunView,
    models: list[str],
    condition: tuple[str, float],
    is_live: bool,
    ids: list[int],
    remark: str,
) -> None:
    """The current image with each model's boxes under a corruption at a severity."""
    corruption, severity = condition
    image_id, truth = _current_image(ids), run_data.ground_truth(view)
    position = ids.index(image_id)
    (row,) = image_viewer.rows(truth.images[truth.images["image_id"] == image_id])
    own = truth.of_image(image_id)
    image = RunImage.from_manifest(view.run.manifest, row, corruption, severity)
    url, problem = _image_url(view, image)
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

    st.caption(
        f"Image {position + 1} of {len(ids)} · {escaping.markdown(str(row.file).rsplit('/', 1)[-1])} · "
        f"{escaping.markdown(humanize(corruption))} at severity {severity:g}. {remark}"
    )
    image_viewer.show(
        image_viewer.ViewerImage(f"{view.name}:{image_id}", url, image.width, image.height),
        panes,
        image_viewer.truth_boxes(own),
        KINDS,
        key="viewer",
        position=(position, len(ids)),
        on_step=step,
    )
    if problem:
        st.warning(escaping.markdown(problem), icon=":material/image_not_supported:")
    _show_provenance(view, is_live)


def _detections(view: RunView, model: str, image: RunImage, is_live: bool) -> pd.DataFrame:
    """A model's boxes in one image: stored ones if there are any, else detected now."""
    cell = run_data.complete_cells(view).get((model, image.corruption, image.severity))
    if cell is not None:
        frame = run_data.detections(view, cell)
        return frame[frame["image_id"] == image.image_id]
    if not is_live:
        raise DataError(
            f"this cell is not complete; {model} has nothing stored at severity {image.severity:g}"
        )
    detector = inference.load_run_detector(view.run.manifest, model)
    detections = inference.map_to_categories(
        inference.detect_cached(detector, image), detector.classes, run_data.ground_truth(view).categories
    )
    return detections.assign(image_id=image.image_id)


def _image_url(view: RunView, image: RunImage) -> tuple[str, str]:
    """An image as a data URL, and what is wrong with it. The opened address alone does not read image files."""
    if not session.has_interacted() and not session.is_confirmed(
        f"images of {view.run.path}",
        "Only boxes are shown. The images would be read from the files that this run names.",
        "Show the images",
    ):
        return image_viewer.placeholder_url(image.width, image.height), ""
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
