"""Images: one picture as two detectors saw it, side by side, in step."""

import dataclasses
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from robustbench_sgdm import content, robustness
from robustbench_sgdm.errors import DataError, RobustBenchError
from robustbench_sgdm.types import CLEAN

if TYPE_CHECKING:
    from app import controls, detecting, pictures, stored
    from app.stored import Shown
else:
    controls = content.load_file(content.root() / "app" / "controls.py")
    stored = content.load_file(content.root() / "app" / "stored.py")
    pictures = content.load_file(content.root() / "app" / "pictures.py")
    detecting = content.load_file(content.root() / "app" / "detecting.py")
    Shown = stored.Shown

ORDERS = {
    "right keeps more": "what the right model still finds and the left one loses",
    "left keeps more": "what the left model still finds and the right one loses",
    "as in the data": "the order of the data set",
}
KINDS = ("matched", "missed", "false")


def page(shown: Shown) -> None:
    """Choose models, corruption and severity; look; step through the images where the two differ."""
    cells = stored.cells(shown)
    if not cells:
        controls.nothing(
            "Nothing to look at yet",
            "Images appear as soon as the first cells are complete.",
            ":material/image:",
        )
        return
    left, right, corruption = _choose(shown, cells)
    levels = sorted({s for m, c, s in cells if m in (left, right) and c in (CLEAN, corruption)})
    if not levels:
        controls.nothing(
            "Nothing to look at yet", "Neither model has a complete cell; choose others.", ":material/image:"
        )
        return
    severity, live = _severity(levels, corruption)
    ids, remark = _ranked(shown, left, right, corruption, severity)
    image_id = _current(ids)
    _view(shown, list(dict.fromkeys((left, right))), corruption, severity, live, ids, image_id, remark)


def _choose(shown: Shown, cells: Any) -> tuple[str, str, str]:
    baseline, model = (shown.run.pairs or [(shown.models[0], shown.models[-1])])[0]
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        left = right = shown.models[0]
        if len(shown.models) > 1:
            left = controls.pick("Left", shown.models, "left", default=baseline, width=170)
            right = controls.pick("Right", shown.models, "right", default=model, width=170)
        corruptions = list(dict.fromkeys(c for m, c, _ in cells if m in (left, right) and c != CLEAN))
        corruption = controls.pick("Corruption", corruptions or [CLEAN], "corruption", width=170)
        if left != right:
            controls.pick("Order of images", list(ORDERS), "order", width=170)
    return left, right, corruption


def _severity(levels: list[float], corruption: str) -> tuple[float, bool]:
    """A stored severity, or with the detectors loaded any in [0, 5]."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        live = controls.switch(
            "Any severity",
            "any",
            help="Loads the detectors, which takes a few seconds the first time, and runs them here.",
        )
        if live and "[" not in corruption:
            return float(controls.slide("Severity", "exact", 0.0, 5.0, 2.5, 0.1)), True
        names = [f"{s:g}" for s in levels]
        controls.asked("severity", names, "Severity")
        middle = names[len(names) // 2]
        if len(names) == 1:
            st.caption(f"Severity {names[0]} is the only one stored.")
            return levels[0], False
        chosen = st.select_slider("Severity", names, value=middle, key="severity", bind=controls.QUERY)
    return float(chosen), False


def _ranked(shown: Shown, left: str, right: str, corruption: str, severity: float) -> tuple[list[int], str]:
    """Image ids in the order asked for, and what is known of each rank."""
    every = [int(i) for i in stored.truth(shown).images["image_id"]]
    order = st.session_state.get("order", "right keeps more")
    if order == "as in the data" or left == right or severity == 0:
        return every, ""
    cells = stored.cells(shown)
    levels = [s for m, c, s in cells if m == right and c == corruption and (left, c, s) in cells]
    if not levels:
        return every, ""
    nearest = min(levels, key=lambda s: abs(s - severity))
    at = _flips(shown.run, shown.stamp, left, right, corruption, nearest)
    first = at["net"] > 0 if order == "right keeps more" else at["net"] < 0
    best = at[first].sort_values("net", ascending=order != "right keeps more", kind="stable")
    ranked = [int(i) for i in best["image_id"]]
    known = set(ranked)
    shows = f"{len(ranked)} of {len(every)} images show" if ranked else "No image shows"
    remark = f"{shows} {ORDERS[order]} at severity {nearest:g}{'; they come first' * bool(ranked)}."
    return ranked + [i for i in every if i not in known], remark


@st.cache_data(max_entries=64, show_spinner="Ranking images by what noise takes from one model only")
def _flips(_run: Any, stamp: str, left: str, right: str, corruption: str, severity: float) -> pd.DataFrame:
    return robustness.flips(_run, left, right, only=(corruption, severity)).images


def _current(ids: list[int]) -> int:
    asked = st.query_params.get("image")
    if asked is not None and asked not in map(str, ids):
        controls.asked("image", ids, "Image")
        del st.query_params["image"]
        asked = None
    return ids[0] if asked is None else int(asked)


def _view(
    shown: Shown,
    models: list[str],
    corruption: str,
    severity: float,
    live: bool,
    ids: list[int],
    image_id: int,
    remark: str,
) -> None:
    truth = stored.truth(shown)
    (row,) = pictures.rows(truth.images[truth.images["image_id"] == image_id])
    own = pictures.of_image(truth, image_id)
    picture = pictures.Picture.of(shown.run.plan, row, corruption, severity)
    try:
        image, note = pictures.url(picture), ""
    except RobustBenchError as error:
        image, note = _without(picture, error)
    where = ids.index(image_id)
    panes = []
    for model in models:
        try:
            found = _found(shown, model, corruption, severity, live, picture)
            panes.append({"title": model, "boxes": pictures.judged(own, found)})
        except RobustBenchError as error:
            st.warning(controls.plain(f"{model}: {error}"), icon=":material/error:")
            panes.append({"title": f"{model}: nothing stored", "boxes": []})

    def step() -> None:
        to = st.session_state["viewer"].get("step")
        if to is not None:
            st.query_params["image"] = str(ids[int(to) % len(ids)])

    st.caption(
        f"Image {where + 1} of {len(ids)} · {controls.plain(str(row.file).rsplit('/', 1)[-1])} · "
        f"{controls.plain(controls.words(corruption))} at severity {severity:g}. {remark}"
    )
    pictures.viewer(
        f"{shown.name}:{image_id}",
        image,
        (picture.width, picture.height),
        panes,
        pictures.objects(own),
        KINDS,
        state=pictures.state(),
        key="viewer",
        place=(where, len(ids)),
        on_view_change=lambda: pictures.remember("viewer"),
        on_step_change=step,
    )
    if note:
        st.warning(controls.plain(note), icon=":material/image_not_supported:")
    _provenance(shown, live)


def _found(
    shown: Shown,
    model: str,
    corruption: str,
    severity: float,
    live: bool,
    picture: "pictures.Picture",
) -> pd.DataFrame:
    """A model's boxes in one image: stored ones where they are, else found now."""
    key = (model, CLEAN, 0.0) if severity == 0 else (model, corruption, severity)
    cell = stored.cells(shown).get(key)
    if cell is not None:
        frame = stored.detections(shown, cell)
        return frame[frame["image_id"] == picture.image_id]
    if not live:
        raise DataError(f"this cell is not complete; {model} has nothing stored at severity {severity:g}")
    detector = detecting.of_run(shown.run.plan, model)
    found = detecting.named(
        detecting.detect(detector, picture), detector.classes, stored.truth(shown).categories
    )
    return found.assign(image_id=picture.image_id)


def _without(picture: "pictures.Picture", error: RobustBenchError) -> tuple[str, str]:
    """The clean picture where the noise cannot be made again, a grey one where the file is gone."""
    import numpy as np

    try:
        clean = dataclasses.replace(picture, corruption=CLEAN, severity=0.0)
        return pictures.url(clean), f"The picture is shown without its noise: {error}."
    except RobustBenchError:
        grey = np.full((picture.height, picture.width, 3), 90, np.uint8)
        return pictures.encoded(grey), f"The picture cannot be shown, only its boxes: {error}."


def _provenance(shown: Shown, live: bool) -> None:
    device = str(shown.run.plan["settings"].get("device", "cpu"))
    text = "Boxes are the run's own; the noise is made again from its seed, to the pixel."
    if live:
        text = "Boxes of severities that the run has are its own; others are found now, by its own detectors."
    if not device.startswith("cpu"):
        text += (
            f" The run drew its noise on {controls.plain(device)}, so noise made here differs in its grain."
        )
    st.caption(text)
