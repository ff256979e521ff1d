"""Live: a photograph of one's own or a rendered scene, corrupted here and shown to two detectors."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import DataError, RobustBenchError

if TYPE_CHECKING:
    from app import controls, detecting, pictures, stored
else:
    controls = resources.import_file(resources.root() / "app" / "controls.py")
    stored = resources.import_file(resources.root() / "app" / "stored.py")
    pictures = resources.import_file(resources.root() / "app" / "pictures.py")
    detecting = resources.import_file(resources.root() / "app" / "detecting.py")

EMBEDDED = ("yolov8n", "yolov8n-sgdm")
SCENES = {f"scene {number}": number for number in range(1, 7)}
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
KINDS = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff")
MAX_MEGABYTES = 10
MAX_PIXELS = 25_000_000
LARGEST = 1600  # px; a larger picture is shrunk before anything else
SMALLEST = 8  # px
OVERLAP = 0.5  # IoU from which two boxes of one class are the same find


def page() -> None:
    """Upload or take a picture, choose corruption, strength and two models, see both and the difference."""
    st.caption(
        "This page loads two detectors, which takes a few seconds the first time. "
        "Pictures stay in this machine's memory during your visit and are kept nowhere."
    )
    offered = _offered()
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        sources = [*SCENES, *_photographs()]
        bundled = controls.pick("Picture", sources, "picture", width=170)
        left, right = (
            controls.pick(
                name, list(offered), key, default=usual, width=260, on_change=_agree_to_chosen, args=(key,)
            )
            for name, key, usual in (("Left", "left", EMBEDDED[0]), ("Right", "right", EMBEDDED[1]))
        )
        corruption = controls.pick_corruption(_corruptions(), default="gaussian_noise")
    severity = float(controls.slide("Strength", "strength", 0.0, 5.0, 1.5, 0.1))
    uploaded = st.file_uploader(
        f"Or a photograph of your own, up to {MAX_MEGABYTES} MB",
        type=list(KINDS),
        max_upload_size=MAX_MEGABYTES,
        key="upload",
    )
    agreed = [_may_load(name) for name in dict.fromkeys((left, right)) if name not in EMBEDDED]
    if not all(agreed):
        return
    try:
        pixels, name = (
            _scene_or_photograph(bundled) if uploaded is None else _upload(uploaded.getvalue(), uploaded.name)
        )
    except RobustBenchError as error:
        controls.nothing("This upload cannot be shown", controls.plain(error), ":material/broken_image:")
        return
    _look(pixels, name, corruption, severity, [(title, *offered[title]) for title in (left, right)])


def _agree_to_chosen(key: str) -> None:
    controls.agree(f"weights of {st.session_state[key]}")


def _may_load(name: str) -> bool:
    text = f"The address asks for {controls.plain(name)}, which loads the weights that its run names."
    return bool(controls.is_agreed(f"weights of {name}", text, f"Load {controls.plain(name)}"))


def _offered() -> dict[str, Any]:
    """Detectors by name: the embedded ones, then those of the runs that are shown, `model @ run`."""
    found: dict[str, Any] = {name: (name, None) for name in EMBEDDED}
    for run_name, path in list(stored.listed().items())[:8]:
        try:
            shown = stored.show(run_name, path)
        except RobustBenchError:
            continue
        for model, about in shown.run.plan["models"].items():
            if about.get("weights") != "embedded" and detecting.can_load(about):
                found[f"{model} @ {run_name}"] = (model, shown.run.plan)
    return found


@st.cache_data
def _photographs() -> list[str]:
    """scikit-image's, where it is installed."""
    from importlib.util import find_spec

    return list(PHOTOGRAPHS) if find_spec("skimage") else []


@st.cache_data(show_spinner="Reading the corruptions")
def _corruptions() -> list[str]:
    from robustbench_sgdm import corruption

    return corruption.load_corruptions().names


@st.cache_data(max_entries=16, show_spinner="Rendering the scene")
def _scene_or_photograph(name: str) -> tuple[NDArray[np.uint8], str]:
    if name in SCENES:
        from robustbench_sgdm.datasets import scenes

        return np.ascontiguousarray(scenes.render_scene(SCENES[name]).image), name
    from skimage import data

    return np.ascontiguousarray(getattr(data, name)()[..., :3]), name


def _upload(content: bytes, name: str) -> tuple[NDArray[np.uint8], str]:
    """Decode an upload: what it holds counts, not what it is called.

    Raises:
        DataError: no picture, damaged, or of too many or too few pixels.
        RobustBenchError: other visits are before this one for a minute.
    """
    import cv2

    from robustbench_sgdm.datasets import image_decoding

    if len(content) > MAX_MEGABYTES * 2**20:
        raise DataError(f"{len(content) / 2**20:.1f} MB is more than {MAX_MEGABYTES}; give a smaller picture")
    with detecting.turn():
        pixels = image_decoding.decode_image(content, MAX_PIXELS)
        scale = LARGEST / max(pixels.shape[:2])
        if min(pixels.shape[:2]) < SMALLEST:
            raise DataError(f"the picture is under {SMALLEST} pixels high or wide; give a larger one")
        if scale < 1:
            size = [max(SMALLEST, round(side * scale)) for side in pixels.shape[1::-1]]
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels, f"{name[:80]}:{hashlib.sha256(content).hexdigest()}"


def _look(pixels: NDArray[np.uint8], name: str, corruption: str, severity: float, models: list[Any]) -> None:
    try:
        detectors = [
            detecting.embedded(m) if plan is None else detecting.of_run(plan, m) for _, m, plan in models
        ]
        image, found = _seen(pixels, name, corruption, severity, detectors)
    except RobustBenchError as error:
        controls.nothing("This cannot be shown", controls.plain(error), ":material/error:")
        return
    titles = [title for title, *_ in models]  # two runs may both have a `best`
    panes = [
        {
            "title": title,
            "boxes": [
                pictures.box({}, row, "both") | {"partner": float(row.partner)}
                for row in pictures.rows(frame)
            ],
        }
        for title, frame in zip(titles, found, strict=True)
    ]
    if name not in SCENES:
        _caveat(dict(zip(titles, detectors, strict=True)))
    state = pictures.state()
    pictures.viewer(
        name,
        image,
        (pixels.shape[1], pixels.shape[0]),
        panes,
        [],
        ("both", "only"),
        state=state,
        key="live_viewer",
        on_view_change=lambda: pictures.remember("live_viewer"),
    )
    _difference(titles, found, state["confidence"])


def _caveat(detectors: Mapping[str, Any]) -> None:
    """What a detector of the scenes cannot know, on a photograph."""
    from robustbench_sgdm.datasets import scenes

    if names := [title for title, one in detectors.items() if set(one.classes) <= set(scenes.CLASSES)]:
        st.caption(
            f"{controls.plain(' and '.join(names))} learned the rendered scenes alone: in a photograph "
            f"they can only find {', '.join(scenes.CLASSES[:-1])} or {scenes.CLASSES[-1]}, and err often."
        )


def _seen(
    pixels: NDArray[np.uint8], name: str, corruption: str, severity: float, detectors: list[Any]
) -> tuple[str, list[pd.DataFrame]]:
    """The picture's address under a corruption, and what each detector finds in it.

    The visit keeps its last one; no cache may, since other visits share those.
    """
    which = name, corruption, severity, *(detector.fingerprint for detector in detectors)
    if st.session_state.get("seen", ("",))[0] != which:
        from robustbench_sgdm import corruption as corrupting

        with st.spinner("Making the noise and detecting"), detecting.turn():
            one = corrupting.load_corruptions().get(corruption)
            noisy = corrupting.corrupt_image(one, pixels, severity, seed=0, image_id=0)
            found = [_named(detector, detecting.find(detector, noisy)) for detector in detectors]
        st.session_state["seen"] = which, (pictures.encoded(noisy), _paired(*found))
    seen: tuple[str, list[pd.DataFrame]] = st.session_state["seen"][1]
    return seen


def _named(detector: Any, frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(category_id=[detector.classes[i] for i in frame["label"]])
    return frame[frame["score"] >= pictures.LEAST].reset_index(drop=True)


def _paired(left: pd.DataFrame, right: pd.DataFrame) -> list[pd.DataFrame]:
    """Each model's boxes with `partner`, the score of the other's box for the same object, 0 where it has none.

    Of one class, overlapping by at least `OVERLAP`, best scores first.
    """
    partners = np.zeros(len(left)), np.zeros(len(right))
    free = list(range(len(right)))  # in order: of equal boxes the one of the best score is taken first
    for i, a in enumerate(pictures.rows(left)):
        rest = {j: _iou(a, right.iloc[j]) for j in free if right["category_id"][j] == a.category_id}
        j = max(rest, key=rest.__getitem__, default=-1)
        if j >= 0 and rest[j] >= OVERLAP:
            free.remove(j)
            partners[0][i], partners[1][j] = right["score"][j], a.score
    return [left.assign(partner=partners[0]), right.assign(partner=partners[1])]


def _iou(a: Any, b: Any) -> float:
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    shared_area = width * height
    areas = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1)
    return float(shared_area / (areas - shared_area))


def _difference(titles: list[str], found: list[pd.DataFrame], confidence: float) -> None:
    """The boxes that only one of the two has at the viewer's confidence."""
    rows = [
        {"only": title, "object": row.category_id, "here": row.score, "there": row.partner}
        for title, frame in zip(titles, found, strict=True)
        for row in pictures.rows(frame)
        if row.score >= confidence > row.partner
    ]
    st.subheader("What only one of them finds", anchor=False)
    if not rows:
        st.caption(f"Nothing at a confidence of {confidence:.2f} or more: the two agree.")
        return
    bar = st.column_config.ProgressColumn
    controls.table(
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
