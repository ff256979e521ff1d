"""Backgrounds with the statistics of photographs: 1/f spectra, correlated channels, soft light, materials."""

import cv2
import numpy as np

from robustbench_sgdm.datasets.scenes.canvas import F32, blend_colours, fractal_field, multiply_colours
from robustbench_sgdm.datasets.scenes.textures import earth_colour


def render_background(rng: np.random.Generator, height: int, width: int) -> F32:
    """Linear light (height, width, 3), mostly in 0..1."""
    scene = _surface(rng, height, width)
    if rng.random() < 0.55:
        scene = _split(rng, scene, _surface(rng, height, width))
    scene = multiply_colours(scene, _soft_light(rng, height, width))
    return np.asarray(scene * _tint(rng, height, width), dtype=np.float32)


def _surface(rng: np.random.Generator, height: int, width: int) -> F32:
    """One material (height, width, 3), at times seen in perspective."""
    kind = _MATERIALS[rng.choice(len(_MATERIALS), p=_ODDS)]
    texture = kind(rng, height, width)
    if rng.random() < 0.5:
        texture = _tilt(rng, texture)
    blur = rng.choice([0.0, 0.7, 1.5, 3.0], p=[0.65, 0.2, 0.1, 0.05])
    return texture if blur == 0 else np.asarray(cv2.GaussianBlur(texture, (0, 0), blur), np.float32)


def _split(rng: np.random.Generator, near: F32, far: F32) -> F32:
    """Join two surfaces along a slightly wavy, slanted and soft border, darker where they meet."""
    height, width = near.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    wave = cv2.GaussianBlur(rng.standard_normal((1, width)).astype(np.float32), (0, 0), width / 10)
    border = rng.uniform(0.2, 0.75) + rng.normal(0, 0.08) * x + rng.choice([0.0, 0.3]) * wave
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    below = (y - border) * height / rng.choice([1.0, 3.0, 12.0])
    share = np.clip(below + 0.5, 0, 1).astype(np.float32)
    contact = 1 - rng.uniform(0, 0.5) * np.exp(-np.maximum(y - border, 0) * rng.uniform(8, 30))
    shaded = multiply_colours(near, contact.astype(np.float32))
    return np.asarray(cv2.blendLinear(shaded, far, share, 1 - share), np.float32)


def _soft_light(rng: np.random.Generator, height: int, width: int) -> F32:
    """Illumination (height, width): a gradient, large soft shadows and vignetting, made at half the size."""
    y, x = np.mgrid[-1 : 1 : height // 2 * 1j, -1 : 1 : width // 2 * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    log = rng.uniform(0, 0.5) * (x * np.cos(angle) + y * np.sin(angle))
    log += rng.uniform(0.05, 0.35) * fractal_field(rng, height // 2, width // 2, 3.2)
    if rng.random() < 0.25:
        cast = x * np.cos(angle + 2) + y * np.sin(angle + 2) + rng.uniform(-0.5, 0.5)
        log -= rng.uniform(0.3, 0.8) / (1 + np.exp(-cast * rng.uniform(6, 40)))
    log -= rng.uniform(0, 0.25) * (x * x + y * y)
    return np.asarray(cv2.resize(np.exp(log).astype(np.float32), (width, height)), np.float32)


def _tint(rng: np.random.Generator, height: int, width: int) -> F32:
    """Slow colour drift (height, width, 3), made at a quarter of the size as chroma holds little detail."""
    drift = np.dstack([fractal_field(rng, height // 4, width // 4, 2.4) for _ in range(2)])
    axes = np.array([[1, 0, -1], [-0.4, 0.8, -0.4]], np.float32) * np.float32(rng.uniform(0.02, 0.1))
    return np.asarray(cv2.resize(np.exp(drift @ axes), (width, height)), np.float32)


def _tilt(rng: np.random.Generator, texture: F32) -> F32:
    """A surface that recedes: finer towards the top."""
    height, width = texture.shape[:2]
    inset, drop = rng.uniform(0.1, 0.35) * width, rng.uniform(0.2, 0.6) * height
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    target = np.array(
        [[0, 0], [width, 0], [width + 2 * inset, height + drop], [-2 * inset, height + drop]], np.float32
    )
    warp = cv2.getPerspectiveTransform(source, target)
    return np.asarray(
        cv2.warpPerspective(texture, warp, (width, height), borderMode=cv2.BORDER_REFLECT), np.float32
    )


def _stain(rng: np.random.Generator, log: F32) -> F32:
    """Colour a log-luminance field (h, w) from shadow to light along two related hues."""
    base = earth_colour(rng)
    other = np.clip(base + rng.normal(0, 0.06, 3), 0.02, 1).astype(np.float32)
    light = np.exp(log)
    return multiply_colours(blend_colours(base, other, light / (light + 1)), light)


def _plain(rng: np.random.Generator, height: int, width: int) -> F32:
    return _stain(
        rng, np.float32(rng.uniform(0.1, 0.4)) * fractal_field(rng, height, width, rng.uniform(1.7, 2.4))
    )


def _stone(rng: np.random.Generator, height: int, width: int) -> F32:
    veins = np.abs(fractal_field(rng, height, width, 2.6))
    log = rng.uniform(0.2, 0.5) * fractal_field(rng, height, width, 1.9) - rng.uniform(0, 0.9) * np.exp(
        -12 * veins
    )
    return _stain(rng, np.asarray(log, dtype=np.float32))


def _wood(rng: np.random.Generator, height: int, width: int) -> F32:
    """Grain along x, cut into boards."""
    warp = fractal_field(rng, height, width, 2.6, 6.0)
    y = np.arange(height, dtype=np.float32)[:, None] / 320
    board = np.floor(y * rng.choice([0.0, 2, 4, 6]) + rng.random())
    seam = np.diff(board, axis=0, prepend=board[:1])
    rings = np.sin(rng.uniform(15, 45) * y + rng.uniform(1, 4) * warp + 7 * board)
    log = (
        0.18 * rings
        + 0.15 * fractal_field(rng, height, width, 1.7, 8.0)
        + 0.3 * np.sin(board * 5)
        - 0.9 * seam
    )
    wood = _stain(rng, np.asarray(log, dtype=np.float32))
    return wood * np.array([1.2, 0.9, 0.6], np.float32) if rng.random() < 0.7 else wood


def _cloth(rng: np.random.Generator, height: int, width: int) -> F32:
    """Weave with broad folds, at times printed with bands."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    folds = fractal_field(rng, height, width, 3.2)
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(0.8, 2.2)
    u = x * np.cos(angle) + y * np.sin(angle) + 6 * folds
    v = y * np.cos(angle) - x * np.sin(angle)
    log = (
        0.3 * folds
        + 0.12 * np.sin(pitch * u) * np.sin(pitch * v)
        + 0.12 * fractal_field(rng, height, width, 1.8)
    )
    if rng.random() < 0.4:
        log += rng.uniform(0.1, 0.5) * np.clip(4 * np.sin(rng.uniform(0.08, 0.3) * u), -1, 1)
    return _stain(rng, np.asarray(log, dtype=np.float32))


def _clutter(rng: np.random.Generator, height: int, width: int) -> F32:
    """Rubble or litter: opaque flakes of power-law size over each other, the dead-leaves image model."""
    flakes = np.zeros((height, width, 3), np.uint8)
    flakes[:] = 90
    base, spread = 255 * np.sqrt(earth_colour(rng)) * 0.8, rng.uniform(15, 45)
    count = 220
    sizes = 5 / np.sqrt(rng.uniform(0.006, 1, count))
    centres = rng.uniform(-10, [width + 10, height + 10], (count, 2)).astype(int)
    tones = np.clip(base + rng.normal(0, spread, (count, 1)) + rng.normal(0, 10, (count, 3)), 5, 250)
    for size, centre, tone, turn in zip(sizes, centres, tones, rng.uniform(0, 360, count), strict=True):
        corners = cv2.ellipse2Poly(centre.tolist(), (int(size), int(size * 0.7)), int(turn), 0, 360, 77)
        cv2.fillConvexPoly(flakes, np.asarray(corners), tone.tolist(), cv2.LINE_AA)
    return multiply_colours(
        np.square(flakes / np.float32(255)), np.exp(0.35 * fractal_field(rng, height, width, 2.0))
    )


_MATERIALS = (_plain, _stone, _wood, _cloth, _clutter)
_ODDS = (0.3, 0.2, 0.2, 0.15, 0.15)
