"""Live: the visitor's photograph or a rendered scene, corrupted here and shown to two detectors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm import api
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.dashboard import (
    access,
    image_viewer,
    inference,
    run_data,
    session,
    sources,
    uploads,
    widgets,
)
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.store import Manifest

EMBEDDED = ("yolov8n", "yolov8n-sgdm")
SCENES = {f"scene {number}": number for number in range(1, 7)}
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")


class Model(NamedTuple):
    """A model on offer: its title, its name, and the manifest of its run; None for an embedded one."""

    title: str
    name: str
    manifest: Manifest | None


@page("Live", icon=":material/photo_camera:", order=4)
def live() -> None:
    """Select a picture, corruption, strength and two models; see the boxes of both and where they differ."""
    st.caption(
        "This page loads two detectors, which takes a few seconds the first time. "
        "Uploads stay in the server's memory during your visit and are not stored."
    )
    models = _available_models()
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        bundled = widgets.selectbox("Picture", [*SCENES, *_photographs()], "picture", width=170)
        titles = [
            widgets.selectbox(
                name, list(models), key, default=usual, width=260, on_change=_confirm_selected, args=(key,)
            )
            for name, key, usual in (("Left", "left", EMBEDDED[0]), ("Right", "right", EMBEDDED[1]))
        ]
        corruption = widgets.select_corruption(_corruptions(), default="gaussian_noise")
    severity = float(widgets.slider("Strength", "strength", 0.0, 5.0, 1.5, 0.1))
    uploaded = st.file_uploader(
        f"Or a photograph of your own, up to {access.MAX_UPLOAD_MEGABYTES} MB",
        type=list(uploads.FORMATS),
        max_upload_size=access.MAX_UPLOAD_MEGABYTES,
        key="upload",
    )
    confirmed = [_may_load(title) for title in dict.fromkeys(titles) if title not in EMBEDDED]
    if not all(confirmed):
        return
    try:
        pixels, name = (
            _load_bundled(bundled)
            if uploaded is None
            else uploads.decode_upload(uploaded.getvalue(), uploaded.name)
        )
    except RobustBenchError as error:
        widgets.empty_state(
            "This upload cannot be shown", escaping.markdown(error), ":material/broken_image:"
        )
        return
    _show(pixels, name, corruption, severity, [models[title] for title in titles])


def _confirm_selected(key: str) -> None:
    session.confirm(f"weights of {st.session_state[key]}")


def _may_load(title: str) -> bool:
    text = f"The address asks for {escaping.markdown(title)}, which loads the weights that its run names."
    return session.is_confirmed(f"weights of {title}", text, f"Load {escaping.markdown(title)}")


def _available_models() -> dict[str, Model]:
    """The embedded models, then those of the runs that are shown, `model @ run`, by title."""
    models = [Model(name, name, None) for name in EMBEDDED]
    for run_name, path in list(sources.available_runs().items())[:8]:
        try:
            manifest = run_data.open_run(run_name, path).run.manifest
        except RobustBenchError:
            continue
        models += [
            Model(f"{name} @ {run_name}", name, manifest)
            for name, model in manifest.models.items()
            if model.weights != "embedded" and inference.is_loadable(model)
        ]
    return {model.title: model for model in models}


@st.cache_data
def _photographs() -> list[str]:
    """Those of scikit-image, if it is installed."""
    from importlib.util import find_spec

    return list(PHOTOGRAPHS) if find_spec("skimage") else []


@st.cache_data(show_spinner="Reading the corruptions")
def _corruptions() -> list[str]:
    from robustbench_sgdm import corruption

    return corruption.load_corruptions().names


@st.cache_data(max_entries=16, show_spinner="Rendering the scene")
def _load_bundled(name: str) -> tuple[NDArray[np.uint8], str]:
    if name in SCENES:
        from robustbench_sgdm.datasets import scenes

        return np.ascontiguousarray(scenes.render_scene(SCENES[name]).image), name
    from skimage import data

    return np.ascontiguousarray(getattr(data, name)()[..., :3]), name


def _show(
    pixels: NDArray[np.uint8], name: str, corruption: str, severity: float, models: Sequence[Model]
) -> None:
    """The corrupted picture with the boxes of two models."""
    try:
        detectors = [
            inference.load_bundled_detector(model.name)
            if model.manifest is None
            else inference.load_run_detector(model.manifest, model.name)
            for model in models
        ]
        image, boxes = _detect(pixels, name, corruption, severity, detectors)
    except RobustBenchError as error:
        widgets.empty_state("This cannot be shown", escaping.markdown(error), ":material/error:")
        return
    titles = [model.title for model in models]
    panes = [
        {
            "title": title,
            "boxes": [
                image_viewer.detection_box({}, row, "both") | {"partner": float(row.partner)}
                for row in image_viewer.rows(frame)
            ],
        }
        for title, frame in zip(titles, boxes, strict=True)
    ]
    if name not in SCENES:
        _warn_about_photograph(titles, detectors)
    state = image_viewer.show(
        image_viewer.ViewerImage(name, image, pixels.shape[1], pixels.shape[0]),
        panes,
        [],
        ("both", "only"),
        key="live_viewer",
    )
    _show_differences(titles, boxes, state.confidence)


def _warn_about_photograph(titles: Sequence[str], detectors: Sequence[Any]) -> None:
    """Name the detectors that were trained on scenes, of which a photograph is none."""
    from robustbench_sgdm.datasets import scenes

    trained_on_scenes = {
        title: None
        for title, one in zip(titles, detectors, strict=True)
        if set(one.classes) <= set(scenes.CLASSES)
    }
    if trained_on_scenes:
        st.caption(
            f"{escaping.markdown(' and '.join(trained_on_scenes))} learned the rendered scenes alone: in a photograph "
            f"they can only find {', '.join(scenes.CLASSES[:-1])} or {scenes.CLASSES[-1]}, and are often wrong."
        )


def _detect(
    pixels: NDArray[np.uint8], name: str, corruption: str, severity: float, detectors: Sequence[Any]
) -> tuple[str, list[pd.DataFrame]]:
    """The corrupted picture as a data URL, and what each detector finds in it.

    The last result is kept in the visitor's session. A cache would be shared with other visitors.
    """
    key = name, corruption, severity, *(detector.fingerprint for detector in detectors)
    if st.session_state.get("seen", ("",))[0] != key:
        with st.spinner("Corrupting the picture and detecting"), inference.exclusive_use():
            noisy = api.corrupt(pixels, corruption, severity)
            left, right = (_detect_named(detector, noisy) for detector in detectors)
        boxes = inference.pair_boxes(left, right)
        st.session_state["seen"] = key, (image_viewer.data_url(noisy), boxes)
    seen: tuple[str, list[pd.DataFrame]] = st.session_state["seen"][1]
    return seen


def _detect_named(detector: Any, pixels: NDArray[np.uint8]) -> pd.DataFrame:
    """Detections with class names as categories."""
    frame = inference.detect(detector, pixels)
    frame = frame.assign(category_id=[detector.classes[i] for i in frame["label"]])
    return frame[frame["score"] >= image_viewer.MIN_CONFIDENCE].reset_index(drop=True)


def _show_differences(titles: Sequence[str], boxes: Sequence[pd.DataFrame], confidence: float) -> None:
    """The boxes that only one of the two models has at the viewer's confidence."""
    rows = [
        {"only": title, "object": row.category_id, "here": row.score, "there": row.partner}
        for title, frame in zip(titles, boxes, strict=True)
        for row in image_viewer.rows(frame)
        if row.score >= confidence > row.partner
    ]
    st.subheader("Found by one model only", anchor=False)
    if not rows:
        st.caption(f"Nothing at a confidence of {confidence:.2f} or more: the two models agree.")
        return
    bar = st.column_config.ProgressColumn
    widgets.show_table(
        pd.DataFrame(rows),
        width=640,
        column_config={
            "only": st.column_config.TextColumn("Only by"),
            "object": st.column_config.TextColumn("Object"),
            "here": bar("Confidence", min_value=0.0, max_value=1.0, format="%.2f"),
            "there": bar("The other's", min_value=0.0, max_value=1.0, format="%.2f"),
        },
        alt="Objects that only one of the two models finds",
    )
