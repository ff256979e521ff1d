"""Colours and patterns shared by labelled objects and distractors, so that neither gives a class away."""

import colorsys

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.datasets.scenes.canvas import F32, Canvas, blend_colours, multiply_colours


def random_colour(rng: np.random.Generator, low: float = 0.12, high: float = 0.95) -> F32:
    """Linear RGB (3,) of a random hue whose display brightness lies in low..high."""
    return _linear(rng.random(), rng.beta(1.2, 2.0), rng.uniform(low, high))


def earth_colour(rng: np.random.Generator) -> F32:
    """Linear RGB (3,) for large surfaces: muted, mostly of soil, wood, leaves or sky."""
    hue = (rng.normal(0.09, 0.03), rng.normal(0.25, 0.06), rng.normal(0.58, 0.04), rng.random())
    return _linear(
        hue[rng.choice(4, p=(0.4, 0.22, 0.2, 0.18))] % 1, 0.65 * rng.beta(1.4, 2.0), rng.uniform(0.3, 0.85)
    )


def _linear(hue: float, saturation: float, value: float) -> F32:
    return np.square(np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32))


def metal_texture(rng: np.random.Generator, canvas: Canvas, slope: NDArray[np.floating]) -> F32:
    """Albedo (s, s, 3) of worn metal that mirrors a bright sky and a dark ground."""
    tint = np.array(
        [(0.62, 0.62, 0.64), (0.75, 0.55, 0.22), (0.7, 0.38, 0.24), (0.3, 0.3, 0.32)][rng.integers(4)]
    )
    angle = rng.uniform(0, 2 * np.pi)
    tilt = slope[..., 0] * float(np.cos(angle)) + slope[..., 1] * float(np.sin(angle))
    mirror = 0.65 + 0.45 * np.tanh(2.5 * tilt + 0.5 * canvas.noise(rng))
    tint = tint * rng.uniform(0.7, 1.1) + 0.15 * (random_colour(rng) - 0.3)
    tint = np.clip(tint, 0.04, 1).astype(np.float32)
    return blend_colours(np.zeros_like(tint), tint, np.asarray(mirror, np.float32))


def coat_texture(rng: np.random.Generator, canvas: Canvas) -> F32:
    """Albedo (s, s, 3): one or two colours in a random pattern, mottled."""
    first, second = random_colour(rng), random_colour(rng)
    mix = _PATTERNS[rng.choice(len(_PATTERNS), p=_ODDS)](rng, canvas)
    grime = np.exp(np.float32(rng.uniform(0.05, 0.3)) * canvas.noise(rng))
    return multiply_colours(blend_colours(first, second, mix), grime)


def _direction(rng: np.random.Generator, canvas: Canvas) -> F32:
    angle = rng.uniform(0, np.pi)
    return np.float32(np.cos(angle)) * canvas.x + np.float32(np.sin(angle)) * canvas.y


def _plain(_: np.random.Generator, canvas: Canvas) -> F32:
    return np.zeros_like(canvas.x)


def _fade(rng: np.random.Generator, canvas: Canvas) -> F32:
    return np.clip(0.5 + 0.5 * _direction(rng, canvas) + 0.2 * canvas.noise(rng), 0, 1)


def _stripes(rng: np.random.Generator, canvas: Canvas) -> F32:
    wave = np.sin(rng.uniform(6, 22) * _direction(rng, canvas) + rng.uniform(0, 6))
    return np.asarray(np.clip(0.5 + 3 * (wave + rng.uniform(-0.6, 0.6)), 0, 1), np.float32)


def _checks(rng: np.random.Generator, canvas: Canvas) -> F32:
    pitch, angle = rng.uniform(5, 14), rng.uniform(0, np.pi)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    u, v = cos * canvas.x + sin * canvas.y, cos * canvas.y - sin * canvas.x
    return np.asarray(np.clip(0.5 + 2 * np.sin(pitch * u) * np.sin(pitch * v), 0, 1), np.float32)


def _patches(rng: np.random.Generator, canvas: Canvas) -> F32:
    return np.clip(0.5 + 4 * (canvas.noise(rng) + rng.uniform(-0.5, 0.5)), 0, 1)


def _grain(rng: np.random.Generator, canvas: Canvas) -> F32:
    wave = np.sin(rng.uniform(8, 20) * (_direction(rng, canvas) + 0.12 * canvas.noise(rng)))
    return np.asarray(0.5 + 0.4 * wave, dtype=np.float32)


_PATTERNS = (_plain, _fade, _stripes, _checks, _patches, _grain)
_ODDS = (0.4, 0.15, 0.12, 0.08, 0.1, 0.15)
