"""Pictures and boxes for the viewer: pixels made again as the run saw them, outcomes of each box."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm import robustness
from robustbench_sgdm.core import palette, resources
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.store import GroundTruth

if TYPE_CHECKING:
    from app import controls, detecting
else:
    detecting = resources.import_file(resources.root() / "app" / "detecting.py")
    controls = resources.import_file(resources.root() / "app" / "controls.py")

Pixels = NDArray[np.uint8]

LEAST = 0.05
"""Confidence below which no box is sent to the viewer."""

_WIDEST = 1600  # px; a larger picture is shrunk for the screen
_KEPT = 16  # pictures of at most 10 MB each as an address; pixels themselves are not kept


@dataclass(frozen=True)
class Picture:
    """An image as a run saw it: what its pixels are is decided by the fields, which caches go by.

    Attributes:
        file: where the image is.
        width: px.
        height: px.
        upright: whether the EXIF orientation is applied.
        image_id: in the run's ground truth.
        data: fingerprint of the run's images.
        corruption: its name, or `clean`.
        severity: 0 to 5.
        seed: of the run.
        engine: of the run.
        fingerprint: of the corruption when the run was made.
    """

    file: str
    width: int
    height: int
    upright: bool
    image_id: int
    data: str
    corruption: str
    severity: float
    seed: int
    engine: str
    fingerprint: str | None

    @classmethod
    def of(cls, plan: Mapping[str, Any], row: Any, corruption: str, severity: float) -> "Picture":
        """Of a run's plan and a row of its ground truth's images."""
        name = CLEAN if severity == 0 else corruption
        settings, about = plan["settings"], plan["corruptions"].get(name, {})
        return cls(
            str(row.file),
            int(row.width),
            int(row.height),
            bool(getattr(row, "upright", True)),
            int(row.image_id),
            str(plan["data"].get("fingerprint")),
            name,
            severity,
            int(settings["seed"]),
            str(settings["engine"]),
            about.get("fingerprint"),
        )

    @cached_property
    def clean(self) -> Pixels:
        """(H, W, 3) RGB.

        Raises:
            DataError: the file is gone, or no such picture.
        """
        return decoding.read_image(
            Image(self.image_id, Path(self.file), self.width, self.height, self.upright)
        )

    @cached_property
    def pixels(self) -> Pixels:
        """What the run's detectors saw, (H, W, 3) RGB; made when first asked for.

        Raises:
            DataError: as `clean`; or the corruption is not known here, or is another one by now.
        """
        if self.corruption == CLEAN:
            return self.clean
        from robustbench_sgdm import corruption as corrupting

        try:
            one = corrupting.load_corruptions().get(self.corruption)
        except UsageError as error:
            raise DataError(f"{self.corruption} is not among this version's corruptions: {error}") from error
        return corrupting.reproduce(
            one,
            self.clean,
            self.severity,
            seed=self.seed,
            image_id=self.image_id,
            engine=self.engine,
            fingerprint=self.fingerprint,
        )


@st.cache_data(max_entries=_KEPT, show_spinner="Making the picture")
def url(picture: Picture) -> str:
    """A run's picture as a data address."""
    with detecting.turn():
        return encoded(picture.pixels)


def encoded(pixels: Pixels) -> str:
    """A picture as a data address: PNG, every pixel kept unless it is larger than a screen."""
    scale = _WIDEST / max(pixels.shape[:2])
    if scale < 1:
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(f"a picture of {pixels.shape[1]} x {pixels.shape[0]} px cannot be encoded as PNG")
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()


def grey(width: int, height: int) -> str:
    """A grey picture as a data address, as short whatever size a run claims."""
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><rect width="100%" height="100%" '
    return "data:image/svg+xml;base64," + base64.b64encode(f'{svg}fill="#5a5a5a"/></svg>'.encode()).decode()


def of_image(truth: GroundTruth, image_id: int) -> GroundTruth:
    """One image's ground truth."""
    images, objects = truth.images, truth.annotations
    return GroundTruth(
        images[images["image_id"] == image_id],
        objects[objects["image_id"] == image_id].reset_index(drop=True),
        truth.categories,
    )


def judged(truth: GroundTruth, found: pd.DataFrame) -> list[dict[str, Any]]:
    """The boxes of one image for the viewer: matched and false ones, and what is missed.

    A box is matched or not whatever boxes of lower scores there are, so the viewer may move the confidence by
    itself: a missed object is one whose matching box scores less than that. `object` is the number of the object
    that a box matches or misses, so that the viewer can mark where two models differ.
    """
    names = dict(zip(truth.categories["category_id"], truth.categories["name"], strict=True))
    result = robustness.outcomes(truth, found, LEAST)
    boxes = []
    for row in rows(result.detections):
        if row.outcome != "ignored":
            matched = {"object": int(row.object)} if row.outcome == "matched" else {}
            boxes.append(box(names, row, str(row.outcome)) | matched)
    for number, row in enumerate(rows(result.objects)):
        if row.outcome != "ignored":
            score = None if pd.isna(row.score) else float(row.score)
            boxes.append(_object(names, row) | {"kind": "missed", "object": number, "score": score})
    return boxes


def objects(truth: GroundTruth) -> list[dict[str, Any]]:
    """One image's ground truth for the viewer."""
    names = dict(zip(truth.categories["category_id"], truth.categories["name"], strict=True))
    return [_object(names, row) for row in rows(truth.annotations)]


def rows(frame: pd.DataFrame) -> list[Any]:
    """A frame's rows by attribute."""
    return list(frame.itertuples())


def box(names: Mapping[int, str], row: Any, kind: str) -> dict[str, Any]:
    """A detection for the viewer: x, y, w, h px, kind, label, score."""
    corner = {"x": float(row.x1), "y": float(row.y1)}
    size = {"w": float(row.x2) - float(row.x1), "h": float(row.y2) - float(row.y1)}
    label = escape_control_chars(
        str(names.get(row.category_id, row.category_id))
    )  # live detections have names already
    return {**corner, **size, "kind": kind, "label": label, "score": float(row.score)}


def _object(names: Mapping[int, str], row: Any) -> dict[str, Any]:
    place = {side: float(getattr(row, side)) for side in ("x", "y", "w", "h")}
    return {**place, "label": escape_control_chars(str(names.get(row.category_id, row.category_id)))}


_HERE = resources.root() / "app" / "viewer"
_VIEWER = st.components.v2.component(
    "robustbench_viewer",
    js=(_HERE / "viewer.js").read_text("utf-8"),
    css=(_HERE / "viewer.css").read_text("utf-8"),
)


def viewer(
    identity: str,
    picture: str,
    size: tuple[int, int],
    panes: Sequence[Mapping[str, Any]],
    truth: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    *,
    state: Mapping[str, Any],
    key: str,
    place: tuple[int, int] = (0, 1),
    words: Mapping[str, str] | None = None,
    **callbacks: Any,
) -> Any:
    """Show panes side by side, zoomed in step.

    Args:
        identity: of the picture; another one resets the zoom.
        picture: its data address; a pane's own `image` replaces it.
        size: width and height in px.
        panes: each a title and boxes.
        truth: boxes of the ground truth.
        kinds: what is counted above each pane even where there is none.
        state: confidence, truth, labels, view, as the address has them.
        place: the picture's among how many; `on_step_change` hears of the one that is wanted, which may lie
            outside and is meant in a circle.
        words: other words for kinds.
        callbacks: `on_view_change`, `on_step_change`.
    """
    data = {
        "id": identity,
        "image": picture,
        "width": size[0],
        "height": size[1],
        "panes": [{**p, "title": escape_control_chars(str(p["title"]))} for p in panes],
        "truth": [dict(t) for t in truth],
        "kinds": list(kinds),
        "state": dict(state),
        "place": place[0],
        "of": place[1],
        "words": dict(words or {}),
        "colors": palette.OUTCOME_COLORS,
    }
    return _VIEWER(key=key, data=data, **callbacks)


def state() -> dict[str, Any]:
    """What the address says of the viewer; nonsense there counts as nothing."""
    try:
        confidence = float(st.query_params.get("confidence", robustness.CONFIDENCE))
    except ValueError:
        confidence = math.nan
    if not LEAST <= confidence <= 0.95:
        confidence = robustness.CONFIDENCE
        st.warning("The confidence in the address is no number from 0.05 to 0.95; shown at 0.25.")
    try:
        view = [float(n) for n in st.query_params.get("zoom", "").split(",") if n]
    except ValueError:
        view = [math.nan]
    if view and not (len(view) == 4 and all(map(math.isfinite, view)) and min(view[2:]) > 0):
        st.warning(
            "The zoom in the address is not four numbers x,y,width,height; the whole picture is shown."
        )
        view = []
    for key, label in (("truth", "Ground truth"), ("labels", "Labels")):
        controls.asked(key, ("true", "false"), label)
    return {
        "confidence": confidence,
        "truth": st.query_params.get("truth") == "true",
        "labels": st.query_params.get("labels", "true") == "true",
        "view": view or None,
    }


def remember(key: str) -> None:
    """Put what the visitor did in the viewer into the address."""
    seen = st.session_state[key].get("view") or {}
    given = {
        "confidence": f"{seen.get('confidence', robustness.CONFIDENCE):g}",
        "truth": json.dumps(bool(seen.get("truth"))),
        "labels": json.dumps(bool(seen.get("labels"))),
        "zoom": ",".join(f"{n:g}" for n in seen.get("view") or []),
    }
    usual = {"confidence": f"{robustness.CONFIDENCE:g}", "truth": "false", "labels": "true", "zoom": ""}
    for key, value in given.items():
        if value != usual[key]:
            st.query_params[key] = value
        elif key in st.query_params:
            del st.query_params[key]
