"""Live: a picture, corrupted here, as two or more detectors see it, and what all of them miss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm import api, robustness
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.dashboard import (
    access,
    image_viewer,
    inference,
    run_controls,
    run_data,
    session,
    sources,
    uploads,
    widgets,
)
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.dashboard.run_images import RunImage
from robustbench_sgdm.store import GroundTruth
from robustbench_sgdm.tables import humanize

if TYPE_CHECKING:
    from robustbench_sgdm.corruption import Corruption

EMBEDDED = ("yolov8n", "yolov8n-sgdm")
SCENES = {f"scene {number}": number for number in range(1, 7)}
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
OF_THE_RUN, SAMPLE, UPLOAD, CAMERA = "the run's images", "a sample", "an upload", "the camera"
MAX_PARTS = 3
"""Corruptions of a composition on this page."""


class Model(NamedTuple):
    """A model on offer: its title, its name, and the run whose model it is; None for one that comes with the package."""

    title: str
    name: str
    view: RunView | None

    @property
    def is_bundled(self) -> bool:
        """Whether its weights come with the package."""
        return self.view is None or self.view.run.manifest.models[self.name].weights == "embedded"

    @property
    def is_loadable(self) -> bool:
        """Whether its weights can be loaded here."""
        return self.view is None or inference.is_loadable(self.view.run.manifest.models[self.name])

    @property
    def label(self) -> str:
        """The title, with the training that stands for it."""
        return self.title if self.name in self.title else f"{self.title} ({self.name})"


@dataclass(frozen=True)
class Picture:
    """What the detectors see.

    Attributes:
        pixels: (H, W, 3) RGB.
        name: identifies it.
        seed, image_id: of the draws, as in the run.
        truth: of a run's image.
        is_photograph: whether it is no rendered scene.
    """

    pixels: NDArray[np.uint8]
    name: str
    seed: int = 0
    image_id: int = 0
    truth: GroundTruth | None = None
    is_photograph: bool = True


@page("Live", icon=":material/photo_camera:", order=4)
def live() -> None:
    """Select models, a picture and corruptions; see the boxes of each model and what all of them miss."""
    runs = sources.available_runs()
    view = None
    with run_controls.frame() as bar:
        if runs:
            with bar:
                name = run_controls.select_run(list(runs))
            try:
                view = run_data.open_run(name, runs[name])
            except RobustBenchError as error:
                st.warning(escaping.markdown(error), icon=":material/error:")
        models = _available_models(view, runs)
        usual = _usual_models(view, models)
        with bar:
            titles = run_controls.select_models(
                list(models), nothing=" and ".join(usual), on_change=_confirm_added, args=(models,)
            )
    if len(titles) > image_viewer.MAX_PANES:
        st.caption(f"The first {image_viewer.MAX_PANES:d} models are shown.")
    chosen = [models[title] for title in titles[: image_viewer.MAX_PANES] or usual]
    if any(model.view is None for model in chosen):
        st.caption(
            "These small detectors come with the package. They know only the 12 classes of rendered scenes. "
            "The models of your runs appear here when their weights can be loaded."
        )
    picture, corruption = _select_picture(view, chosen), _select_corruption(view)
    if picture is not None:
        _show(picture, *corruption, chosen)


def _available_models(view: RunView | None, runs: Any) -> dict[str, Model]:
    """By title: the run's own models, also those that cannot run here, since other pages may have chosen them.

    Then what can run here of other runs, `model @ run`; where nothing can, the models of the package.
    """
    models = [] if view is None else _models_of(view, "")
    for name, path in list(runs.items())[:8]:
        if view is None or name != view.name:
            try:
                others = _models_of(run_data.open_run(name, path), f" @ {name}")
            except RobustBenchError:
                continue
            models += [m for m in others if m.is_loadable and not m.is_bundled]
    if not any(model.is_loadable for model in models):
        models += [Model(name, name, None) for name in EMBEDDED]
    return {model.title: model for model in models}


def _models_of(view: RunView, ending: str) -> list[Model]:
    """The networks of a run, each by its first training, and of several trainings every one."""
    groups = view.run.groups
    models = [Model(f"{name}{ending}", members[0], view) for name, members in groups.items()]
    several = [training for members in groups.values() if len(members) > 1 for training in members]
    return models + [Model(f"{training}{ending}", training, view) for training in several]


def _usual_models(view: RunView | None, models: dict[str, Model]) -> list[str]:
    """The first pair of the run as far as it can run here, else the first two that can."""
    ready = [title for title, model in models.items() if model.is_loadable]
    pairs = [] if view is None else view.run.baseline_pairs[:1]
    pair = [name for names in pairs for name in names if name in ready]
    own = [title for title in ready if models[title].view is view]
    return pair or own[:2] or ready[:2]


def _confirm_added(models: dict[str, Model]) -> None:
    """The visitor's own choice of a model is consent to load it; leaving one out is not."""
    before = widgets.last_choice("models") or ()
    added = [models[t] for t in st.session_state.get("models", ()) if t in models and t not in before]
    session.confirm(*_gates(added))


def _gates(models: Sequence[Model]) -> list[str]:
    """What is confirmed before files that runs name are read."""
    return [
        session.weights_of(model.view.run.path)
        for model in models
        if model.view is not None and not model.is_bundled
    ]


def _may_load(models: Sequence[Model]) -> bool:
    """The address alone loads no weights that a run names."""
    if not (gates := _gates(models)):
        return True
    names = escaping.markdown(", ".join(model.title for model in models))
    text = f"Loading {names} reads the weights that {'the run names' if len(set(gates)) == 1 else 'the runs name'}."
    return session.is_confirmed(gates, text, "Load the detectors")


def _select_picture(view: RunView | None, models: Sequence[Model]) -> Picture | None:
    """The picture; None where there is none yet, which the page then says."""
    kinds = [*([OF_THE_RUN] if view is not None else []), SAMPLE, UPLOAD, CAMERA]
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        kind = widgets.segmented_control("Picture from", kinds, "source")
        if kind == OF_THE_RUN and view is not None:
            return _run_picture(view)
        if kind == SAMPLE:
            return _sample(widgets.selectbox("Sample", [*SCENES, *_photographs()], "picture", width=170))
    if kind == UPLOAD:
        uploaded = st.file_uploader(
            f"A photograph, up to {access.MAX_UPLOAD_MEGABYTES:d} MB; it stays in the server's memory during your visit",
            type=list(uploads.FORMATS),
            max_upload_size=access.MAX_UPLOAD_MEGABYTES,
            key="upload",
        )
    else:
        uploaded = st.camera_input(
            "A picture from your camera, if the browser allows it; it stays in the server's memory during your visit",
            key="camera",
            width=480,
        )
    if uploaded is None:
        return None
    try:
        return Picture(*uploads.decode_upload(uploaded.getvalue(), uploaded.name))
    except RobustBenchError as error:
        widgets.empty_state(
            "This picture cannot be shown", escaping.markdown(error), ":material/broken_image:"
        )
        return None


def _run_picture(view: RunView) -> Picture | None:
    truth = run_data.ground_truth(view)
    count = len(truth.images)
    number = widgets.number_input(
        "Image", "image_number", 1, count, 1, 1, help="Its position in the data.", width=140
    )
    (row,) = image_viewer.rows(truth.images.iloc[int(number) - 1 : int(number)])
    if not session.may_read_images(view.run.path):
        return None
    image = RunImage.from_manifest(view.run.manifest, row, CLEAN, 0.0)
    try:
        with inference.exclusive_use():
            pixels = image.clean
    except RobustBenchError as error:
        widgets.empty_state("This image cannot be shown", escaping.markdown(error), ":material/broken_image:")
        return None
    seed = view.run.manifest.settings.seed
    return Picture(pixels, f"{view.name}:{row.file}", seed, image.image_id, truth.of_image(image.image_id))


@st.cache_data
def _photographs() -> list[str]:
    """Those of scikit-image, if it is installed."""
    from importlib.util import find_spec

    return list(PHOTOGRAPHS) if find_spec("skimage") else []


@st.cache_resource(max_entries=16, show_spinner="Rendering the scene")
def _sample(name: str) -> Picture:
    if name in SCENES:
        from robustbench_sgdm.datasets import scenes

        return Picture(
            np.ascontiguousarray(scenes.render_scene(SCENES[name]).image), name, is_photograph=False
        )
    from skimage import data

    return Picture(np.ascontiguousarray(getattr(data, name)()[..., :3]), name)


@st.cache_resource(show_spinner="Reading the corruptions")
def _corruptions() -> "dict[str, Corruption]":
    from robustbench_sgdm import corruption

    return {humanize(one.name): one for one in corruption.load_corruptions()}


def _select_corruption(view: RunView | None) -> tuple[str, float | None]:
    """What `api.corrupt` takes: a corruption or a composition with its strengths, and the severity where it has none."""
    known = _corruptions()
    recorded = [] if view is None else [humanize(c) for c in view.run.manifest.corruptions]
    usual = next((name for name in recorded if name in known), "gaussian noise")
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        names = widgets.multiselect(
            "Corruptions, one after the other",
            list(known),
            "corruptions",
            default=[usual],
            max_selections=MAX_PARTS,
            width=420,
        )
        in_units = widgets.toggle("Strength in its own unit", "units")
        parts = [part for name in names if (part := _select_strength(known[name], in_units))]
    if not parts:
        return CLEAN, 0.0
    if len(parts) > 1:
        return "+".join(part for part, _ in parts), None
    name, severity = parts[0]
    return name.partition("@")[0], severity


def _select_strength(one: "Corruption", in_units: bool) -> tuple[str, float | None] | None:
    """A part of a composition and its severity, None where it has a strength of its own; None where nothing happens."""
    words = escaping.markdown(humanize(one.name))
    if in_units:
        values = {}
        for parameter in one.parameters:
            first, *_, last = parameter.strengths
            values[parameter.name] = widgets.number_input(
                escaping.markdown(f"{humanize(one.name)}: {parameter.name}, {parameter.unit}".rstrip(", ")),
                f"{one.name}.{parameter.name}",
                parameter.low,
                min(parameter.high, max(map(abs, parameter.strengths)) * 10),
                float(parameter.strengths[2]),
                (abs(last - first) or abs(first) or 1.0) / 20,
                help=escaping.markdown(parameter.meaning) or None,
                width=260,
            )
        return f"{one.name}[{','.join(f'{name}={value:g}' for name, value in values.items())}]", None
    units = {parameter.name: parameter.unit for parameter in one.parameters}
    with st.container(width=280, gap=None):
        severity = float(widgets.slider(f"Severity of {words}", f"severity.{one.name}", 0.0, 5.0, 1.5, 0.1))
        strengths = (f"{name} {value:.4g} {units[name]}" for name, value in one.strength(severity).items())
        st.caption(escaping.markdown(", ".join(strengths)))
    return (f"{one.name}@{severity:g}", severity) if severity else None


def _show(picture: Picture, corruption: str, severity: float | None, models: Sequence[Model]) -> None:
    """The corrupted picture with the boxes of the models, and which objects they miss."""
    if not _may_load(models):
        return
    skeleton = st.empty()
    skeleton.html(_SKELETON)
    try:
        detectors = [
            inference.load_bundled_detector(model.name)
            if model.view is None
            else inference.load_run_detector(model.view.run.manifest, model.name)
            for model in models
        ]
        url, clean, noisy = _detect(picture, corruption, severity, detectors)
    except RobustBenchError as error:
        skeleton.empty()
        widgets.empty_state("This cannot be shown", escaping.markdown(error), ":material/error:")
        return
    skeleton.empty()
    titles = [model.label for model in models]
    truth = picture.truth
    if truth is None:
        panes = [
            {
                "title": title,
                "boxes": [
                    image_viewer.detection_box({}, row, "both") | {"partner": float(row.partner)}
                    for row in image_viewer.rows(frame)
                ],
            }
            for title, frame in zip(titles, inference.pair_all(noisy), strict=True)
        ]
    else:
        panes = []
        for title, detector, frame in zip(titles, detectors, noisy, strict=True):
            mapped = inference.map_to_categories(frame, detector.classes, truth.categories)
            boxes = image_viewer.viewer_boxes(truth, mapped.assign(image_id=picture.image_id))
            panes.append({"title": title, "boxes": boxes})
    if picture.is_photograph and truth is None:
        _warn_about_photograph(titles, detectors)
    height, width = picture.pixels.shape[:2]
    state = image_viewer.show(
        image_viewer.ViewerImage(picture.name, url, width, height),
        panes,
        [] if truth is None else image_viewer.truth_boxes(truth),
        ("both", "only") if truth is None else ("matched", "missed", "false"),
        key="live_viewer",
    )
    if truth is None:
        objects = inference.find_again(clean, noisy, state.confidence)
        _show_objects(titles, objects, "found on the picture without corruption")
    else:
        _show_objects(titles, _objects_of_truth(panes), "annotated", state.confidence)


_SKELETON = (
    '<div aria-hidden="true" style="height:420px;border-radius:.6rem;opacity:.35;'
    'background:linear-gradient(90deg,#8886,#8883,#8886)"></div>'
)


def _objects_of_truth(panes: Sequence[Any]) -> pd.DataFrame:
    """A row per annotated object: category, and by model the score of the box that finds it, 0 for none."""
    missable = {box["object"]: box["label"] for box in panes[0]["boxes"] if box["kind"] == "missed"}
    frame = pd.DataFrame({"category": list(missable.values())})
    for place, pane in enumerate(panes):
        scores = {b["object"]: b["score"] for b in pane["boxes"] if b["kind"] == "matched"}
        frame[place] = [scores.get(number, 0.0) for number in missable]
    return frame


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
            f"{escaping.markdown(' and '.join(trained_on_scenes))} learned only from rendered scenes: in a photograph "
            f"they find only {', '.join(scenes.CLASSES[:-1])} and {scenes.CLASSES[-1]}, and are often wrong."
        )


def _detect(
    picture: Picture, corruption: str, severity: float | None, detectors: Sequence[Any]
) -> tuple[str, list[pd.DataFrame], list[pd.DataFrame]]:
    """The corrupted picture as a data URL, and what each detector finds in the clean and in the corrupted one.

    The last results are kept in the visitor's session. A cache would be shared with other visitors.
    """
    prints = [detector.fingerprint for detector in detectors]
    clean_key, key = (picture.name, *prints), (picture.name, corruption, severity, *prints)
    seen = st.session_state.setdefault("seen", {})
    if clean_key not in seen or key not in seen:
        with st.spinner("Corrupting the picture and detecting"), inference.exclusive_use():
            noisy = (
                picture.pixels
                if corruption == CLEAN
                else api.corrupt(
                    picture.pixels, corruption, severity, seed=picture.seed, image_id=picture.image_id
                )
            )
            clean = seen.get(clean_key) or [_detect_named(one, picture.pixels) for one in detectors]
            found = clean if corruption == CLEAN else [_detect_named(one, noisy) for one in detectors]
        seen = {clean_key: clean, key: (image_viewer.data_url(noisy), found)}
        st.session_state["seen"] = seen
    url, found = seen[key]
    return url, seen[clean_key], found


def _detect_named(detector: Any, pixels: NDArray[np.uint8]) -> pd.DataFrame:
    """Detections with class names as categories, and the labels that they are of."""
    frame = inference.detect(detector, pixels)
    frame = frame.assign(category_id=[detector.classes[i] for i in frame["label"]])
    return frame[frame["score"] >= image_viewer.MIN_CONFIDENCE].reset_index(drop=True)


def _show_objects(
    titles: Sequence[str], objects: pd.DataFrame, which: str, confidence: float = robustness.CONFIDENCE
) -> None:
    """Which of the objects all models miss, and which only one of them finds."""
    places = list(range(len(titles)))
    found = objects[places] >= confidence
    missed_by_all = int((~found.any(axis=1)).sum())
    st.subheader("Missed objects", anchor=False)
    if objects.empty:
        st.caption(f"No object is {which} at a confidence of {confidence:.2f} or more.")
        return
    all_of_them = "The model misses" if len(titles) == 1 else "All models miss"
    st.markdown(f"{all_of_them} **{missed_by_all:d} of {len(objects):d}** objects that are {which}.")
    bar = st.column_config.ProgressColumn
    shown = objects.assign(found=found.sum(axis=1)).sort_values("found", kind="stable").drop(columns="found")
    shown.columns = pd.Index(["object", *(f"model {place}" for place in places)])
    widgets.show_table(
        shown,
        width=min(1100, 220 + 220 * len(titles)),
        column_config={
            "object": st.column_config.TextColumn("Object"),
            **{
                f"model {place}": bar(title, min_value=0.0, max_value=1.0, format="%.2f")
                for place, title in zip(places, titles, strict=True)
            },
        },
        alt="Objects, those that no model finds first, with each model's confidence",
    )
    st.caption(f"Confidence of the box that finds the object; found means {confidence:.2f} or more.")
