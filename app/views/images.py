"""Images: one image as two or more detectors saw it, zoomed in step, or a gallery of them, ranked and filtered."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.dashboard import (
    gallery,
    image_selection,
    image_viewer,
    inference,
    run_controls,
    run_data,
    run_images,
    session,
    widgets,
)
from robustbench_sgdm.dashboard.image_selection import Filters, Selection
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.dashboard.run_images import RunImage
from robustbench_sgdm.store import GroundTruth
from robustbench_sgdm.tables import humanize

VIEWER, GALLERY = "Viewer", "Gallery"
ANY_CLASS = "any class"
FILTERS = ("search", "class", "size", "outcome")
"""Keys of the filters' widgets."""

_MOVED = "images: moved in the viewer"
_OPENED = "severities: opened of"


class Condition(NamedTuple):
    """How the images are corrupted; `is_live` if the detectors may run here at a severity that is not stored."""

    corruption: str
    severity: float
    is_live: bool

    @property
    def text(self) -> str:
        """In words."""
        return f"{humanize(self.corruption)} at severity {self.severity:g}"


@page("Images", icon=":material/compare:", order=3)
def images(view: RunView) -> None:
    """Select models, corruption and severity; step through the images, or look at many in a gallery."""
    cells = run_data.complete_cells(view)
    if not cells:
        widgets.empty_state(
            "No images yet",
            "Images appear as soon as the first cells are complete.",
            ":material/image:",
        )
        return
    with run_controls.control_bar():
        models = _select_models(view)
        names = list(dict.fromkeys(c for m, c, _ in cells if m in models and c != CLEAN))
        corruption = run_controls.select_corruption(names or [CLEAN])
        levels = _stored_severities(view, models, corruption)
        severity = st.container(width="content", key="severity_in_bar")
        mode = widgets.segmented_control("Show", [VIEWER, GALLERY], "show")
        more = st.popover(_filter_label(), icon=":material/filter_list:")
    if not levels:
        widgets.empty_state(
            "No images yet", "Neither model has a complete cell. Choose other models.", ":material/image:"
        )
        return
    with more:
        order, filters = _select_filters(view, len(models))
        wants_live = _offer_any_severity(view)
    condition = _select_severity(view, levels, corruption, wants_live, severity)
    chosen = image_selection.select(view, models, corruption, condition.severity, order, filters)
    _forget_place(chosen.ids)
    if not chosen.ids:
        widgets.offer_to_clear("**No image passes the filters.**", *FILTERS)
        return
    if mode == GALLERY:
        _show_gallery(view, models, condition, chosen)
    else:
        _show_image(view, models, condition, chosen)


def _stored_severities(view: RunView, models: Sequence[str], corruption: str) -> list[float]:
    """The severities that any of the models has, with that of clean images."""
    cells = run_data.complete_cells(view)
    return sorted({s for m, c, s in cells if m in models and c in (CLEAN, corruption)})


def _select_models(view: RunView) -> list[str]:
    """Up to six trainings, the baseline's first."""
    groups = list(view.run.groups)
    compared = run_controls.select_baseline(view, own=False)
    baseline = first = groups[0]
    if len(groups) > 1:
        baseline, first = compared.run.baseline_pairs[0]
        first = next((m for b, m in view.run.baseline_pairs if b == baseline), first)
    chosen = run_controls.select_models(groups, nothing=first) or [first]
    others = [name for name in chosen if name != baseline] or chosen
    if len(others) >= image_viewer.MAX_PANES:
        st.caption(f"The first {image_viewer.MAX_PANES:d} models are shown.")
    models = _select_trainings(compared, baseline, others[0])
    for other in others[1 : image_viewer.MAX_PANES - 1]:
        pairs = dict(compared.run.match_trainings(baseline, other))
        models.append(pairs.get(models[0], view.run.groups[other][0]))
    return models


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
            chosen.append(widgets.selectbox(label, trainings, key, default=default, width=170))
        else:
            widgets.warn_invalid_query(key, trainings, label)
            chosen.append(trainings[0])
    return list(dict.fromkeys(chosen))


def _filter_label() -> str:
    """How many filters are set, as far as the session and the address say."""
    usual = {"search": "", "class": ANY_CLASS, "size": "all", "outcome": image_selection.ANY}
    said = {key: st.session_state.get(key, st.query_params.get(key, value)) for key, value in usual.items()}
    number = sum(said[key] != value for key, value in usual.items())
    return f"Filter ({number})" if number else "Filter"


def _select_filters(view: RunView, models: int) -> tuple[str, Filters]:
    """The order of images, and which of them are shown."""
    truth = run_data.ground_truth(view)
    order = widgets.selectbox("Order of images", image_selection.orders(models), "order")
    text = st.text_input(
        "File name or id",
        key="search",
        bind=widgets.QUERY,
        max_chars=80,
        placeholder="part of a name, or an id",
    )
    present = set(truth.annotations["category_id"])
    categories = zip(truth.categories["name"], truth.categories["category_id"], strict=True)
    ids = {str(name): int(number) for name, number in categories if number in present}
    name = widgets.selectbox("Class", [ANY_CLASS, *sorted(ids)], "class")
    size = run_controls.select_size()
    options = [o for o in image_selection.OUTCOMES if models > 1 or o != image_selection.FLIP]
    outcome = widgets.segmented_control("With at least one that is", options, "outcome")
    return order, Filters(text.strip(), ids.get(name), size, outcome)


def _offer_any_severity(view: RunView) -> bool:
    """Whether the visitor wants any severity, for which detectors run here."""

    def confirm() -> None:
        if st.session_state.get("any"):  # switching it off is consent to nothing
            session.confirm(session.weights_of(view.run.path))

    return widgets.toggle(
        "Any severity",
        "any",
        help="Loads the detectors and runs them here. Loading takes a few seconds the first time.",
        on_change=confirm,
    )


def _select_severity(
    view: RunView, levels: Sequence[float], corruption: str, wants_live: bool, place: Any
) -> Condition:
    """A stored severity, or any in [0, 5] if the detectors may be loaded."""
    is_live = wants_live and session.is_confirmed(
        [session.weights_of(view.run.path)],
        "The address shows any severity. This loads the weights that this run names.",
        "Load the detectors",
    )
    with place:
        if is_live and "[" not in corruption:
            return Condition(corruption, float(widgets.slider("Severity", "exact", 0.0, 5.0, 2.5, 0.1)), True)
        names = [f"{s:g}" for s in levels]
        if len(names) == 1:
            st.session_state.pop(session.WANTED.format("severity"), None)  # no widget is drawn that takes it
            widgets.warn_invalid_query("severity", names, "Severity")
            st.caption(f"Only severity {names[0]} is stored.")
            return Condition(corruption, levels[0], False)
        return Condition(corruption, run_controls.select_severity(levels), False)


def _forget_place(ids: Sequence[int]) -> None:
    """Go back to the first page of the gallery once other images are listed, and drop an image that is not among them.

    Only an address that was opened may ask for what is not available: that is told.
    """
    before = st.session_state.get(image_selection.LISTED)
    st.session_state[image_selection.LISTED] = ids
    if before is None or before == ids:
        return
    st.query_params.pop("page", None)
    if st.query_params.get("image", "") not in {str(i) for i in ids}:
        st.query_params.pop("image", None)


def _clear_filters() -> None:
    widgets.clear_choices(*FILTERS)
    st.session_state[_MOVED] = True  # the filters are outside of the part that the button runs


def _show_remark(text: str, *, has_filters: bool) -> None:
    """A line about the images, with a button that clears the filters."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(text)
        if has_filters:
            st.button(
                "Clear the filters",
                icon=":material/filter_alt_off:",
                on_click=_clear_filters,
                type="tertiary",
            )


@widgets.fragment()
def _show_gallery(view: RunView, models: Sequence[str], condition: Condition, chosen: Selection) -> None:
    """A page of thumbnails with what the models find in each."""
    if st.session_state.pop(_MOVED, False):
        st.rerun()
    pages = math.ceil(len(chosen.ids) / gallery.PAGE)
    number = _current_page(pages)
    first = number * gallery.PAGE
    ids = chosen.ids[first : first + gallery.PAGE]
    _show_remark(f"{escaping.markdown(condition.text)}. {chosen.remark}", has_filters=chosen.is_filtered)
    may_read = session.may_read_images(view.run.path)

    def open_image(image_id: int) -> None:
        if image_id in chosen.ids:
            st.query_params["image"] = str(image_id)
            st.session_state["show"] = VIEWER
            st.session_state[_MOVED] = True

    def turn(to: int) -> None:
        st.query_params["page"] = str(min(max(to, 0), pages - 1) + 1)

    items = _gallery_items(view, models, ids, chosen)
    rows = {item.id: item for item in items}

    def thumbnail(image_id: int) -> str:
        image = _run_image(view, image_id, Condition(CLEAN, 0.0, False))
        try:
            return run_images.preview_url(image, gallery.THUMBNAIL_SIDE)
        except RobustBenchError:
            return image_viewer.placeholder_url(rows[image_id].width, rows[image_id].height)

    gallery.show(
        items,
        (first, len(chosen.ids)),
        thumbnail if may_read else None,
        key="gallery",
        on_open=open_image,
        on_page=turn,
    )
    differences = ""
    if len(models) > 1:
        differences = (
            " Boxes show objects on which the models differ: blue ones are found only by "
            f"{escaping.markdown(models[1])}, yellow ones only by {escaping.markdown(models[0])}."
        )
    st.caption(f"Thumbnails are of the clean images.{differences}")


def _current_page(pages: int) -> int:
    """The page of the gallery that the address names, from 0."""
    options = [str(number + 1) for number in range(pages)]
    widgets.warn_invalid_query("page", options, "Page")
    wanted = st.query_params.get("page")
    return options.index(wanted) if wanted in options else 0


def _gallery_items(
    view: RunView, models: Sequence[str], ids: Sequence[int], chosen: Selection
) -> list[gallery.GalleryItem]:
    """The images of a page: what each model finds, and the objects on which the first two differ."""
    truth = run_data.ground_truth(view)
    own = truth.images[truth.images["image_id"].isin(ids)]
    rows = {int(row.image_id): row for row in image_viewer.rows(own)}
    counts = {
        model: _count_kinds(image_selection.outcomes(view, cell), ids) for model, cell in chosen.cells.items()
    }
    boxes = _difference_boxes(view, models, ids, chosen)
    items = []
    for image_id in ids:
        found = " · ".join(str(counts[m].loc[image_id, "matched"]) for m in counts)
        objects = max((counts[m].loc[image_id, ["matched", "missed"]].sum() for m in counts), default=0)
        text = f"{found} of {objects} found" if counts else ""
        row = rows[image_id]
        name = str(row.file).rsplit("/", 1)[-1]
        items.append(
            gallery.GalleryItem(
                image_id, name, int(row.width), int(row.height), text, boxes.get(image_id, [])
            )
        )
    return items


def _count_kinds(outcomes: pd.DataFrame, ids: Sequence[int]) -> pd.DataFrame:
    """A row per image: how many objects and boxes of each outcome."""
    own = outcomes[outcomes["image_id"].isin(ids)]
    counts = pd.crosstab(own["image_id"], own["outcome"])
    counts = counts.reindex(index=list(ids), columns=range(len(image_selection.KINDS)), fill_value=0)
    return counts.set_axis(list(image_selection.KINDS), axis=1)


def _difference_boxes(
    view: RunView, models: Sequence[str], ids: Sequence[int], chosen: Selection
) -> dict[int, list[dict[str, Any]]]:
    """By image, the objects that only one of the first two models finds."""
    pair = [m for m in models[:2] if m in chosen.cells]
    if len(pair) < 2:
        return {}
    cell = chosen.cells[pair[1]]
    rows = image_selection.differences(view, pair[0], pair[1], cell.corruption, cell.severity)
    rows = rows[rows["image_id"].isin(ids)]
    places = run_data.ground_truth(view).annotations.iloc[rows["annotation"]]
    boxes: dict[int, list[dict[str, Any]]] = {}
    for net, place in zip(rows["net"], image_viewer.rows(places), strict=True):
        box = {side: float(getattr(place, side)) for side in ("x", "y", "w", "h")}
        kind = "matched" if net > 0 else "missed"
        boxes.setdefault(int(place.image_id), []).append({**box, "kind": kind})
    return boxes


def _current_image(ids: Sequence[int]) -> int:
    """The image that the address names, else the first."""
    wanted = st.query_params.get("image")
    if wanted is not None and wanted not in map(str, ids):
        widgets.warn_invalid_query("image", ids, "Image")
        del st.query_params["image"]
        wanted = None
    return ids[0] if wanted is None else int(wanted)


def _run_image(view: RunView, image_id: int, condition: Condition) -> RunImage:
    images = run_data.ground_truth(view).images
    (row,) = image_viewer.rows(images[images["image_id"] == image_id])
    return RunImage.from_manifest(view.run.manifest, row, condition.corruption, condition.severity)


@widgets.fragment()  # the next image needs nothing of the page above it
def _show_image(view: RunView, models: Sequence[str], condition: Condition, chosen: Selection) -> None:
    """The current image with each model's boxes."""
    if st.session_state.pop(_MOVED, False):  # the slider of the page is outside
        st.rerun()
    image_id = _current_image(chosen.ids)
    position = chosen.ids.index(image_id)
    own = run_data.ground_truth(view).of_image(image_id)
    image = _run_image(view, image_id, condition)
    may_read = session.may_read_images(view.run.path)
    url, problem = image_viewer.placeholder_url(image.width, image.height), ""
    if may_read:
        url, problem = _image_url(image)
    panes = []
    for model in models:
        try:
            detections = _detections(view, model, image, condition.is_live)
            panes.append({"title": model, "boxes": image_viewer.viewer_boxes(own, detections)})
        except RobustBenchError as error:
            st.warning(escaping.markdown(f"{model}: {error}"), icon=":material/error:")
            panes.append({"title": f"{model}: nothing stored", "boxes": []})

    def step(index: int) -> None:
        st.query_params["image"] = str(chosen.ids[index % len(chosen.ids)])

    name = image.file.rsplit("/", 1)[-1]
    _show_remark(
        f"Image {position + 1} of {len(chosen.ids)} · {escaping.markdown(name)} · "
        f"{escaping.markdown(condition.text)}. {chosen.remark}",
        has_filters=chosen.is_filtered,
    )
    severities = _severities(view, models, image_id, own, condition) if may_read else None
    has_slider = severities is not None and severities.shown is not None and len(severities.stored) > 1
    with st.container(key="viewer_with_slider" if has_slider else "viewer_alone"):  # see page.css
        image_viewer.show(
            image_viewer.ViewerImage(
                f"{view.name}:{image_id}", url, image.width, image.height, name, condition.text
            ),
            panes,
            image_viewer.truth_boxes(own),
            image_selection.KINDS,
            key="viewer",
            position=(position, len(chosen.ids)),
            on_step=step,
            severities=severities,
        )
    if problem:
        st.warning(escaping.markdown(problem), icon=":material/image_not_supported:")
    _show_provenance(view, condition.is_live)


def _severities(
    view: RunView, models: Sequence[str], image_id: int, truth: GroundTruth, condition: Condition
) -> image_viewer.Severities:
    """The same image at every stored severity; previews and boxes once the visitor's browser asks for them."""
    stored = _stored_severities(view, models, condition.corruption)
    asked = view.stamp, image_id, condition.corruption, *models

    def select(severity: float) -> None:
        if severity in stored:
            st.session_state["any"] = False
            st.session_state["severity"] = f"{severity:g}"
            st.session_state[_MOVED] = True

    levels = []
    if st.session_state.get(_OPENED) == asked:
        for severity in stored:
            image = _run_image(view, image_id, condition._replace(severity=severity))
            boxes = [_stored_boxes(view, model, image, truth) for model in models]
            levels.append(image_viewer.level(severity, _preview_url(image), boxes))
    shown = None if condition.is_live else condition.severity
    opened = partial(st.session_state.__setitem__, _OPENED, asked)
    return image_viewer.Severities(stored, shown, levels, select, opened)


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
    text = "Boxes are those of the run. The corruption is reproduced exactly from its seed."
    if is_live:
        text = (
            "Boxes at the run's severities are stored ones; others are detected now with the run's detectors."
        )
    if not device.startswith("cpu"):
        text += f" The run computed on {escaping.markdown(device)}: a few values may differ by one grey level here."
    st.caption(text)
