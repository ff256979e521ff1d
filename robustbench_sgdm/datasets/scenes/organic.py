"""Objects grown rather than made: fish and leaf."""

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.datasets.scenes.canvas import Canvas
from robustbench_sgdm.datasets.scenes.textures import coat_texture, random_colour


def fish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Side view: lens body, forked tail, fins, scales, gill and eye; back darker than belly."""
    t = np.linspace(0, 1, 30)
    tall, tail = rng.uniform(0.28, 0.5), rng.uniform(0.3, 0.5)
    body_x = -0.95 + 1.5 * t
    half = tall * np.sin(np.pi * t ** rng.uniform(0.6, 0.8)) ** 0.8 + 0.07 * t
    body = canvas.polygons(
        np.concatenate([np.stack([body_x, -half], -1), np.stack([body_x, half], -1)[::-1]])
    )
    peak = rng.uniform(0.15, 0.3)
    fins = canvas.polygons(
        [(0.42, -0.08), (0.95, -tail), (rng.uniform(0.7, 0.85), 0), (0.95, tail), (0.42, 0.08)],
        [(-0.45, -tall * 0.8), (-0.1, -tall - peak), (0.25, -tall * 0.9 - peak * 0.5), (0.3, -tall * 0.35)],
        [(-0.2, tall * 0.8), (0.1, tall + peak * 0.7), (0.25, tall * 0.4)],
    )
    skin, fin = coat_texture(rng, canvas), random_colour(rng)
    rays = (
        np.sin(50 * (canvas.y + 0.2 * canvas.x))
        if rng.random() < 0.5
        else np.sin(40 * (canvas.x - 0.4 * canvas.y))
    )
    canvas.paint(fins, fin * (1 + 0.3 * rays)[..., None], 0.5 * canvas.bevel_normals(fins, 0.1), 0.3)
    shade = np.clip(0.75 + 0.9 * canvas.y / tall, 0.4, 1.5)[..., None]
    pitch = rng.uniform(24, 36)
    scales = np.sin(pitch * (canvas.x + canvas.y)) * np.sin(pitch * (canvas.x - canvas.y)) * (canvas.x > -0.5)
    canvas.paint(
        body,
        skin * shade * (1 + 0.25 * scales)[..., None],
        canvas.bevel_normals(body, tall),
        rng.uniform(0.3, 0.8),
    )
    gill = np.stack([-0.5 + 0.1 * np.cos(t * 2 - 1), tall * 0.7 * np.sin(2.2 * t - 1.1)], -1)
    canvas.decal(canvas.strokes(0.05, gill) * 0.7, fin * 0.3)
    pectoral = canvas.polygons([(-0.32, 0.05), (-0.02, 0.02), (-0.06, 0.22)])
    canvas.paint(pectoral, fin * 0.8, canvas.bevel_normals(pectoral, 0.1), 0.3)
    eye_y = -tall * 0.25
    canvas.paint(canvas.ellipse(-0.68, eye_y, 0.1, 0.1), (0.85, 0.8, 0.6), 0.0, 0.6)
    canvas.paint(canvas.ellipse(-0.69, eye_y, 0.055, 0.055), (0.01, 0.01, 0.01), 0.0, 1.0)


def leaf(canvas: Canvas, rng: np.random.Generator) -> None:
    """Blade folded along a midrib, with side veins, a stalk and at times a toothed margin."""
    t = np.linspace(0, 1, 80)
    wide, bend = rng.uniform(0.28, 0.52), rng.uniform(-0.15, 0.15)
    teeth = 1 + rng.choice([0.0, 0.12]) * (2 * ((t * rng.integers(8, 14)) % 1) - 1)
    half = wide * np.sin(np.pi * t ** rng.uniform(0.6, 1.0)) ** rng.uniform(0.8, 1.2) * teeth
    axis_x, axis_y = -0.6 + 1.55 * t, bend * np.sin(np.pi * t)
    upper, lower = np.stack([axis_x, axis_y - half], -1), np.stack([axis_x, axis_y + half], -1)
    blade = canvas.polygons(np.concatenate([upper, lower[::-1]]))
    green = (
        coat_texture(rng, canvas)
        if rng.random() < 0.4
        else random_colour(rng) * np.exp(0.25 * canvas.noise(rng))[..., None]
    )
    stalk = canvas.strokes(0.07, [(-0.95, rng.uniform(-0.2, 0.2)), (-0.75, 0.02), (-0.55, 0)])
    canvas.paint(stalk, green * 0.7, canvas.bevel_normals(stalk, 0.04), 0.1)
    spine = canvas.y - bend * np.sin(np.pi * np.clip((canvas.x + 0.6) / 1.55, 0, 1))
    fold = np.tanh(spine * 12) * rng.uniform(0.2, 0.6)
    slope = (
        np.dstack([0 * fold, fold])
        + 0.4 * canvas.bevel_normals(blade, 0.2)
        + 0.08 * canvas.gradient(canvas.noise(rng) / 6)
    )
    canvas.paint(blade, green, slope, rng.uniform(0.05, 0.5))
    veins = _veins(wide, bend, int(rng.integers(5, 8)))
    pale = np.clip(green * rng.choice([0.35, 2.2]) + 0.02, 0, 1)
    canvas.decal(canvas.strokes(0.03, *veins) * blade * 0.7, pale)
    canvas.decal(canvas.strokes(0.06, np.stack([axis_x, axis_y], -1)) * blade, pale)


def _veins(wide: float, bend: float, pairs: int) -> list[NDArray[np.float64]]:
    """Side veins (2, 2) of a leaf, from the midrib forwards and outwards on both sides."""
    veins: list[NDArray[np.float64]] = []
    for root in np.linspace(0.08, 0.8, pairs):
        tip = root + 0.25 - 0.1 * root
        rise = wide * 0.75 * np.sin(np.pi * min(tip, 0.99)) ** 0.8
        middle = bend * np.sin(np.pi * root)
        start = (root * 1.55 - 0.6, middle)
        veins += [np.array([start, (tip * 1.55 - 0.6, middle + side * rise)]) for side in (-1, 1)]
    return veins[: 2 * pairs - 2]
