"""Compose a scene: a background, lit objects and distractors with shadows, and the response of a camera."""

from dataclasses import dataclass, field
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.datasets.scenes.background import render_background
from robustbench_sgdm.datasets.scenes.canvas import F32, Canvas, Window, blur_field, multiply_colours
from robustbench_sgdm.datasets.scenes.distractors import paint_distractor
from robustbench_sgdm.datasets.scenes.objects import CLASS_SPECS, Painter

VERSION = 1
CLASSES: tuple[str, ...] = tuple(CLASS_SPECS)

_FRAMES = ((320, 320), (240, 320), (320, 240), (256, 320), (320, 256))
_VISIBLE = 0.35  # least share of an object that is left in view
_MIN_VISIBLE_PIXELS = 6  # least long side of the part in view, px


@dataclass(frozen=True)
class Scene:
    """A rendered image and what it shows."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (n, 4) x1, y1, x2, y2 in px, of the visible part
    labels: NDArray[np.int64]  # (n,) index into CLASSES
    areas: NDArray[np.float32]  # (n,) px of the visible mask


@dataclass(frozen=True)
class _Light:
    """One sun and one sky for all of a scene."""

    towards: F32  # (3,) unit vector to the sun: right, down, to the viewer
    sun: F32  # (3,) linear RGB
    sky: F32  # (3,) linear RGB
    softness: float  # blur of shadows as a share of the object's size


@dataclass
class _Stage:
    """The picture in progress, and who is seen at each pixel."""

    rng: np.random.Generator
    canvas: F32  # (H, W, 3) linear
    owner: NDArray[np.int16]  # (H, W) 0 for background, -1 for distractors, k for the k-th object
    light: _Light
    labels: list[int] = field(default_factory=list)
    full: list[int] = field(default_factory=lambda: [0])  # whole mask of the k-th object, px


def render_scene(index: int, *, split: str = "val", seed: int = 0) -> Scene:
    """Image `index` of a split; depends on these three values only."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, crc32(split.encode()), index])))
    height, width = _FRAMES[rng.choice(len(_FRAMES), p=(0.4, 0.25, 0.1, 0.15, 0.1))]
    light = _light(rng)
    ground = render_background(rng, height, width)
    stage = _Stage(rng, ground, np.zeros((height, width), np.int16), light)
    _populate(stage)
    image = _apply_camera(rng, stage.canvas)
    return Scene(image, *_annotate(stage))


def _light(rng: np.random.Generator) -> _Light:
    azimuth, height = rng.uniform(np.pi, 2 * np.pi), rng.uniform(0.5, 1.2)
    towards = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    warmth, strength = rng.normal(0, 0.1), rng.uniform(0.6, 1.1)
    sun = strength * np.array([1 + warmth, 1, 1 - warmth])
    sky = rng.uniform(0.25, 0.5) * np.array([1 - warmth, 1, 1 + warmth])
    return _Light(
        towards.astype(np.float32), sun.astype(np.float32), sky.astype(np.float32), rng.uniform(0.02, 0.1)
    )


def _populate(stage: _Stage) -> None:
    """2 to 12 objects among distractors; crowded scenes hold smaller ones."""
    rng = stage.rng
    count = int(rng.integers(2, 13 - len(stage.labels)))
    cast: list[str | None] = [CLASSES[i] for i in rng.integers(len(CLASSES), size=count)]
    cast += [None] * int(rng.integers(1, 6))
    longest = max(stage.owner.shape) / 2
    # Near log-uniform; the exponent below 1 thins out the very smallest.
    sizes = 8 * (longest / 8) ** (rng.random(len(cast)) ** 0.75)
    grown = rng.random(len(cast)) < 0.9 / np.sqrt(count)
    sizes = np.where(grown, rng.uniform(0.75, 1.25, len(cast)) * longest, sizes)
    # Mostly large first, so that small ones are seen in front of them.
    for i in np.argsort(-sizes * np.exp(rng.normal(0, 0.6, len(cast)))):
        _add(stage, cast[i], float(sizes[i]))
    if len(stage.labels) < 2:
        _populate(stage)


def _add(stage: _Stage, name: str | None, size: float) -> None:
    """Paint one object or distractor (`name` None) about `size` px long, where it hides none too much."""
    painter, least, upright = CLASS_SPECS[name] if name else (paint_distractor, 8, False)
    layer = _sprite(stage, painter, max(size, least), upright)
    solid = layer[..., 3] > 0.5
    whole = int(solid.sum())
    for _ in range(8):
        at = _random_position(stage, layer.shape[0], layer.shape[1])
        if _fits(stage, solid, at, whole if name else 0):
            break
    else:
        return
    _composite(stage, layer, at, size)
    window, part = _overlap(stage, solid.shape, at)
    if name:
        stage.labels.append(CLASSES.index(name))
        stage.full.append(whole)
    stage.owner[window][solid[part]] = len(stage.labels) if name else -1


def _sprite(stage: _Stage, painter: Painter, size: float, upright: bool) -> F32:
    """Lit premultiplied RGBA of an object, turned and foreshortened, cropped to its own extent."""
    rng, light = stage.rng, stage.light
    detail = int(np.clip(12 * np.ceil(size / 8), 56, 192))
    canvas = Canvas(detail)
    painter(canvas, rng)
    turn = rng.normal(0, 0.3) if upright and rng.random() < 0.85 else rng.uniform(0, 2 * np.pi)
    frame = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if rng.random() < 0.5:
        frame = frame @ np.diag([-1, 1])
    towards = np.append(light.towards[:2] @ frame, light.towards[2]).astype(np.float32)
    picture = canvas.shade(towards, light.sky, light.sun)
    if detail > 1.5 * size:
        # Averaged down first, as the warp alone would skip over pixels.
        picture = np.asarray(
            cv2.resize(picture, (round(1.2 * size),) * 2, interpolation=cv2.INTER_AREA), np.float32
        )
    return _crop(_warp(rng, picture, frame, size))


def _warp(rng: np.random.Generator, picture: F32, frame: NDArray[np.float64], size: float) -> F32:
    """Map the canvas square onto a turned quadrilateral about `size` px wide."""
    detail = picture.shape[0]
    squeeze = np.array([1, rng.uniform(0.78, 1)])[:: rng.choice([-1, 1])]
    quad = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * squeeze
    quad *= 1 + rng.uniform(-0.08, 0.08, (4, 1))
    corners = quad @ frame.T * (size / 2)
    corners -= corners.min(axis=0) - 1
    extent = np.ceil(corners.max(axis=0) + 2).astype(int)
    square = np.array([(0, 0), (detail, 0), (detail, detail), (0, detail)], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(square, corners.astype(np.float32))
    return np.asarray(cv2.warpPerspective(picture, matrix, extent.tolist()), np.float32)


def _crop(layer: F32) -> F32:
    seen = layer[..., 3] > 0.02
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return layer[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _overlap(stage: _Stage, shape: tuple[int, ...], at: tuple[int, int]) -> tuple[Window, Window]:
    """The part of the picture that a layer at (top, left) covers, and the same part within the layer."""
    window = tuple(
        slice(max(a, 0), max(min(a + s, n), 0)) for a, s, n in zip(at, shape, stage.owner.shape, strict=False)
    )
    part = tuple(slice(w.start - a, w.stop - a) for w, a in zip(window, at, strict=True))
    return (window[0], window[1]), (part[0], part[1])


def _random_position(stage: _Stage, height: int, width: int) -> tuple[int, int]:
    """Top left corner that leaves most of a layer inside the picture."""
    rows, columns = stage.owner.shape
    top = stage.rng.uniform(-0.25 * height, rows - 0.75 * height)
    left = stage.rng.uniform(-0.25 * width, columns - 0.75 * width)
    return int(top), int(left)


def _fits(stage: _Stage, solid: NDArray[np.bool_], at: tuple[int, int], whole: int) -> bool:
    """Whether enough of this object (`whole` px, 0 for a distractor) and of all it covers would be seen."""
    window, part = _overlap(stage, solid.shape, at)
    seen = solid[part]
    if whole and not _is_recognisable(seen, whole):
        return False
    for k in np.unique(stage.owner[window][seen]):
        if k > 0:
            left = stage.owner == k
            left[window] &= ~seen
            if not _is_recognisable(left, stage.full[k]):
                return False
    return True


def _is_recognisable(seen: NDArray[np.bool_], whole: int) -> bool:
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not rows.size or seen.sum() < _VISIBLE * whole:
        return False
    return bool(max(np.ptp(rows), np.ptp(columns)) + 1 >= _MIN_VISIBLE_PIXELS)


def _composite(stage: _Stage, layer: F32, at: tuple[int, int], size: float) -> None:
    """Lay the object over the picture, its contact and cast shadows first."""
    light, rng = stage.light, stage.rng
    for reach, share in ((0.02, 0.45), (rng.uniform(0.06, 0.18), rng.uniform(0.35, 0.65))):
        blur = max(0.7, light.softness * size * (0.4 + 6 * reach))
        pad = int(np.ceil(2.5 * blur))
        alpha = cv2.copyMakeBorder(layer[..., 3], pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0.0,))
        shade = 1 - share * blur_field(np.asarray(alpha, np.float32), blur)
        drift = -reach * size * light.towards[:2] / max(float(light.towards[2]), 0.3)
        window, part = _overlap(
            stage, shade.shape[:2], (at[0] - pad + round(drift[1]), at[1] - pad + round(drift[0]))
        )
        stage.canvas[window] = multiply_colours(stage.canvas[window], shade[part])
    window, part = _overlap(stage, layer.shape[:2], at)
    stage.canvas[window] = (
        multiply_colours(stage.canvas[window], 1 - layer[part][..., 3]) + layer[part][..., :3]
    )


def _apply_camera(rng: np.random.Generator, linear: F32) -> NDArray[np.uint8]:
    """Exposure, lens blur, tone curve and sensor noise: (H, W, 3) uint8 sRGB-like."""
    exposure = rng.uniform(0.22, 0.4) / max(float(linear.mean()), 0.02)
    exposed = linear * np.float32(np.clip(exposure, 0.5, 2.5))
    sharp = cv2.GaussianBlur(exposed, (0, 0), rng.uniform(0.3, 0.55))
    # x / (1 + x/4) rolls highlights off as film does; the root is close to the sRGB curve.
    tone = np.sqrt(1.25 * sharp / (1 + 0.25 * sharp * sharp))
    grain = rng.standard_normal(tone.shape, dtype=np.float32) * np.float32(rng.uniform(0.003, 0.012))
    return np.asarray(np.clip((tone + grain) * 255 + 0.5, 0, 255), dtype=np.uint8)


def _annotate(stage: _Stage) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Boxes, labels and areas of all objects, from the pixels in which each is seen."""
    boxes, areas = [], []
    for k in range(1, len(stage.labels) + 1):
        seen = stage.owner == k
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        areas.append(seen.sum())
    return np.array(boxes, np.float32), np.array(stage.labels, np.int64), np.array(areas, np.float32)
