"""The image viewer: panes that zoom in step, their boxes, and the same image at every stored severity."""

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm import robustness
from robustbench_sgdm.core import palette
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import components, widgets
from robustbench_sgdm.store import GroundTruth

MIN_CONFIDENCE = 0.05
"""Boxes of lower confidence are not sent to the viewer."""

PREVIEW_SIDE = 480  # px
"""Of the other severities, while the slider moves."""

MAX_PANES = 6
"""More models in one window are too small to see."""

_MAX_SIDE = 1600  # px; a larger image is shrunk for the screen


@dataclass(frozen=True)
class ViewerImage:
    """What all panes show.

    Attributes:
        id: another one resets the zoom.
        image: data URL.
        width: px.
        height: px.
        name: of the file, for what is saved.
        condition: corruption and severity in words, for what is saved.
    """

    id: str
    image: str
    width: int
    height: int
    name: str = ""
    condition: str = ""


@dataclass(frozen=True)
class Severities:
    """The severities at which boxes of the image are stored, for the slider and the strip below the panes.

    Attributes:
        stored: ascending.
        shown: that of the panes; None if it may be any one, which is selected elsewhere.
        levels: of each stored severity, once the visitor's browser asked for them: see `level`.
        on_select: gets the severity that the visitor selects.
        on_open: called when the browser asks for `levels`.
    """

    stored: Sequence[float]
    shown: float | None
    levels: Sequence[Mapping[str, Any]] | None
    on_select: Callable[[float], None]
    on_open: Callable[[], None]


@dataclass(frozen=True)
class ViewerState:
    """What the address says of the viewer.

    Attributes:
        confidence: least confidence of the boxes that are shown.
        truth: whether the ground truth is shown.
        labels: whether boxes have labels.
        hidden: outcomes whose boxes are not shown.
        classes: names of the classes whose boxes are not shown.
        view: x, y, width and height of the part of the image that is shown, px; None for all of it.
    """

    confidence: float = robustness.CONFIDENCE
    truth: bool = False
    labels: bool = True
    hidden: Sequence[str] = ()
    classes: Sequence[str] = ()
    view: Sequence[float] | None = None


def data_url(pixels: NDArray[np.uint8]) -> str:
    """An image, (H, W, 3) RGB, as PNG in a data URL: every pixel kept unless it is larger than a screen."""
    scale = _MAX_SIDE / max(pixels.shape[:2])
    if scale < 1:
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(f"an image of {pixels.shape[1]} x {pixels.shape[0]} px cannot be encoded as PNG")
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()


def preview_url(pixels: NDArray[np.uint8], side: int) -> str:
    """An image, (H, W, 3) RGB, as a small JPEG in a data URL, its longer side at most `side` px."""
    scale = min(1.0, side / max(pixels.shape[:2]))
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def level(severity: float, preview: str, panes: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """One severity of the strip: its preview as a data URL, and the boxes of each pane."""
    return {"severity": severity, "image": preview, "panes": [list(boxes) for boxes in panes]}


def placeholder_url(width: int, height: int) -> str:
    """A grey image as a data URL, equally short whatever size a run claims."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><rect width="100%" height="100%" '
    return "data:image/svg+xml;base64," + base64.b64encode(f'{svg}fill="#5a5a5a"/></svg>'.encode()).decode()


def viewer_boxes(truth: GroundTruth, detections: pd.DataFrame) -> list[dict[str, Any]]:
    """The boxes of one image for the viewer: matched, false and missed ones.

    Boxes of lower scores do not change whether a box is matched, so the viewer may move the confidence by itself: a
    missed object is one whose matching box scores less than that. `object` is the number of the object that a box
    matches or misses, so that the viewer can mark where two models differ.
    """
    names = _category_names(truth)
    result = robustness.match_outcomes(truth, detections, MIN_CONFIDENCE)
    boxes = []
    for row in rows(result.detections):
        if row.outcome != "ignored":
            matched = {"object": int(row.object)} if row.outcome == "matched" else {}
            boxes.append(detection_box(names, row, str(row.outcome)) | matched)
    for number, row in enumerate(rows(result.objects)):
        if row.outcome != "ignored":
            score = None if pd.isna(row.score) else float(row.score)
            boxes.append(_truth_box(names, row) | {"kind": "missed", "object": number, "score": score})
    return boxes


def truth_boxes(truth: GroundTruth) -> list[dict[str, Any]]:
    """One image's ground truth for the viewer."""
    names = _category_names(truth)
    return [_truth_box(names, row) for row in rows(truth.annotations)]


def rows(frame: pd.DataFrame) -> list[Any]:
    """A frame's rows by attribute."""
    return list(frame.itertuples())


def detection_box(names: Mapping[int, str], row: Any, kind: str) -> dict[str, Any]:
    """A detection for the viewer: x, y, w, h px, kind, label, score."""
    corner = {"x": float(row.x1), "y": float(row.y1)}
    size = {"w": float(row.x2) - float(row.x1), "h": float(row.y2) - float(row.y1)}
    # Live detections have names already.
    label = escape_control_chars(str(names.get(row.category_id, row.category_id)))
    return {**corner, **size, "kind": kind, "label": label, "score": float(row.score)}


def _truth_box(names: Mapping[int, str], row: Any) -> dict[str, Any]:
    box = {side: float(getattr(row, side)) for side in ("x", "y", "w", "h")}
    return {**box, "label": escape_control_chars(str(names.get(row.category_id, row.category_id)))}


def _category_names(truth: GroundTruth) -> dict[int, str]:
    return dict(zip(truth.categories["category_id"], truth.categories["name"], strict=True))


_COMPONENT = components.register("viewer")


def show(
    image: ViewerImage,
    panes: Sequence[Mapping[str, Any]],
    truth: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    *,
    key: str,
    position: tuple[int, int] = (0, 1),
    on_step: Callable[[int], None] | None = None,
    severities: Severities | None = None,
) -> ViewerState:
    """Show panes that zoom in step, as the address says; what the visitor does there goes into the address.

    Args:
        image: of all panes; a pane's own `image` replaces it.
        panes: each a title and boxes; at most `MAX_PANES`.
        truth: boxes of the ground truth.
        kinds: what is counted above each pane even if there is none.
        key: of the widget.
        position: index of the image, and among how many.
        on_step: gets the index that the visitor steps to, which may lie outside and wraps around.
        severities: at which the image is stored.
    """
    state = _read_state(kinds)
    data = {
        **asdict(image),
        "panes": [{**p, "title": escape_control_chars(str(p["title"]))} for p in panes],
        "truth": [dict(t) for t in truth],
        "kinds": list(kinds),
        "state": asdict(state),
        "place": position[0],
        "of": position[1],
        "colors": palette.OUTCOME_COLORS,
        "severities": list(severities.stored) if severities else [],
        "severity": severities.shown if severities else None,
        "levels": list(severities.levels) if severities and severities.levels else None,
    }

    def called(name: str, act: Callable[[Any], None]) -> None:
        value = st.session_state.get(key, {}).get(name)  # nothing if the visitor left the page meanwhile
        if value is not None:
            act(value)

    def step(index: Any) -> None:
        if on_step is not None:
            on_step(int(index))

    def select(severity: Any) -> None:
        if severities is not None:
            severities.on_select(float(severity))

    def open_levels(_: Any) -> None:
        if severities is not None:
            severities.on_open()

    _COMPONENT(
        key=key,
        data=data,
        on_view_change=lambda: _write_state(key),
        on_step_change=lambda: called("step", step),
        on_severity_change=lambda: called("severity", select),
        on_strip_change=lambda: called("strip", open_levels),
    )
    return state


def _read_state(kinds: Sequence[str]) -> ViewerState:
    """What the address says; invalid values there count as absent and are reported."""
    try:
        confidence = float(st.query_params.get("confidence", robustness.CONFIDENCE))
    except ValueError:
        confidence = math.nan
    if not MIN_CONFIDENCE <= confidence <= 0.95:
        confidence = robustness.CONFIDENCE
        st.warning("The confidence in the address is not a number from 0.05 to 0.95; showing 0.25.")
    try:
        view = [float(n) for n in st.query_params.get("zoom", "").split(",") if n]
    except ValueError:
        view = [math.nan]
    if view and not (len(view) == 4 and all(map(math.isfinite, view)) and min(view[2:]) > 0):
        st.warning("The zoom in the address is not four numbers x,y,width,height; showing the whole image.")
        view = []
    for key, label in (("truth", "Ground truth"), ("labels", "Labels")):
        widgets.warn_invalid_query(key, ("true", "false"), label)
    widgets.warn_invalid_query("hidden", kinds, "Layers")
    return ViewerState(
        confidence,
        truth=st.query_params.get("truth") == "true",
        labels=st.query_params.get("labels", "true") == "true",
        hidden=[kind for kind in st.query_params.get_all("hidden") if kind in kinds],
        classes=st.query_params.get_all("without"),
        view=view or None,
    )


def _write_state(key: str) -> None:
    """Put what the visitor did in the viewer into the address; defaults are left out."""
    state = st.session_state.get(key, {}).get("view") or {}
    values: dict[str, Any] = {
        "confidence": f"{state.get('confidence', robustness.CONFIDENCE):g}",
        "truth": json.dumps(bool(state.get("truth"))),
        "labels": json.dumps(bool(state.get("labels"))),
        "zoom": ",".join(f"{n:g}" for n in state.get("view") or []),
        "hidden": list(map(str, state.get("hidden") or [])),
        "without": list(map(str, state.get("classes") or [])),
    }
    defaults = {"confidence": f"{robustness.CONFIDENCE:g}", "truth": "false", "labels": "true", "zoom": ""}
    for name, value in values.items():
        if value != defaults.get(name, []):
            st.query_params[name] = value
        elif name in st.query_params:
            del st.query_params[name]
