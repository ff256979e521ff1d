"""The image viewer: panes side by side that zoom in step, and the boxes they show."""

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
from robustbench_sgdm.core import palette, resources
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import widgets
from robustbench_sgdm.store import GroundTruth

MIN_CONFIDENCE = 0.05
"""Boxes of lower confidence are not sent to the viewer."""

_MAX_SIDE = 1600  # px; a larger image is shrunk for the screen


@dataclass(frozen=True)
class ViewerImage:
    """What all panes show.

    Attributes:
        id: another one resets the zoom.
        image: data URL.
        width: px.
        height: px.
    """

    id: str
    image: str
    width: int
    height: int


@dataclass(frozen=True)
class ViewerState:
    """What the address says of the viewer.

    Attributes:
        confidence: least confidence of the boxes that are shown.
        truth: whether the ground truth is shown.
        labels: whether boxes have labels.
        view: x, y, width and height of the part of the image that is shown, px; None for all of it.
    """

    confidence: float = robustness.CONFIDENCE
    truth: bool = False
    labels: bool = True
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


_FILES = resources.root() / "app" / "viewer"
_COMPONENT = st.components.v2.component(
    "robustbench_viewer",
    js=(_FILES / "viewer.js").read_text("utf-8"),
    css=(_FILES / "viewer.css").read_text("utf-8"),
)


def show(
    image: ViewerImage,
    panes: Sequence[Mapping[str, Any]],
    truth: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    *,
    key: str,
    position: tuple[int, int] = (0, 1),
    on_step: Callable[[int], None] | None = None,
) -> ViewerState:
    """Show panes side by side, zoomed in step, as the address says; what the visitor does there goes into the address.

    Args:
        image: of all panes; a pane's own `image` replaces it.
        panes: each a title and boxes.
        truth: boxes of the ground truth.
        kinds: what is counted above each pane even if there is none.
        key: of the widget.
        position: index of the image, and among how many.
        on_step: gets the index that the visitor steps to, which may lie outside and wraps around.
    """
    state = _read_state()
    data = {
        **asdict(image),
        "panes": [{**p, "title": escape_control_chars(str(p["title"]))} for p in panes],
        "truth": [dict(t) for t in truth],
        "kinds": list(kinds),
        "state": asdict(state),
        "place": position[0],
        "of": position[1],
        "colors": palette.OUTCOME_COLORS,
    }

    def step() -> None:
        index = st.session_state[key].get("step")
        if on_step is not None and index is not None:
            on_step(int(index))

    _COMPONENT(key=key, data=data, on_view_change=lambda: _write_state(key), on_step_change=step)
    return state


def _read_state() -> ViewerState:
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
    return ViewerState(
        confidence,
        truth=st.query_params.get("truth") == "true",
        labels=st.query_params.get("labels", "true") == "true",
        view=view or None,
    )


def _write_state(key: str) -> None:
    """Put what the visitor did in the viewer into the address; defaults are left out."""
    state = st.session_state[key].get("view") or {}
    values = {
        "confidence": f"{state.get('confidence', robustness.CONFIDENCE):g}",
        "truth": json.dumps(bool(state.get("truth"))),
        "labels": json.dumps(bool(state.get("labels"))),
        "zoom": ",".join(f"{n:g}" for n in state.get("view") or []),
    }
    defaults = {"confidence": f"{robustness.CONFIDENCE:g}", "truth": "false", "labels": "true", "zoom": ""}
    for name, value in values.items():
        if value != defaults[name]:
            st.query_params[name] = value
        elif name in st.query_params:
            del st.query_params[name]
