"""Unlabelled shapes that share colours, patterns, relief and light with the labelled classes."""

import numpy as np

from robustbench_sgdm.datasets.scenes.canvas import F32, Canvas
from robustbench_sgdm.datasets.scenes.textures import coat_texture, metal_texture


def paint_distractor(canvas: Canvas, rng: np.random.Generator) -> None:
    """One random shape: pebble, stick, shard, crescent or slab."""
    mask = _SHAPES[rng.integers(len(_SHAPES))](canvas, rng)
    slope = canvas.bevel_normals(mask, rng.uniform(0.05, 0.5), rng.uniform(0.5, 1.2))
    albedo = metal_texture(rng, canvas, slope) if rng.random() < 0.2 else coat_texture(rng, canvas)
    canvas.paint(mask, albedo, slope, rng.uniform(0.05, 0.7))
    if rng.random() < 0.4:
        canvas.decal(_SHAPES[rng.integers(len(_SHAPES))](canvas, rng) * mask, coat_texture(rng, canvas))


def _pebble(canvas: Canvas, rng: np.random.Generator) -> F32:
    t = np.linspace(0, 2 * np.pi, 60)
    radius = 1 + sum(rng.normal(0, 0.3 / k) * np.cos(k * t + rng.uniform(0, 6)) for k in (2, 3, 4, 5))
    outline = np.stack([radius * np.cos(t), rng.uniform(0.4, 0.8) * radius * np.sin(t)], -1)
    return canvas.polygons(outline * (0.95 / np.abs(outline).max()))


def _stick(canvas: Canvas, rng: np.random.Generator) -> F32:
    t = np.linspace(-0.85, 0.85, 20)
    bend = rng.uniform(-0.4, 0.4) * np.sin(2 * t + rng.uniform(0, 6))
    return canvas.strokes(rng.uniform(0.1, 0.3), np.stack([t, bend], -1))


def _shard(canvas: Canvas, rng: np.random.Generator) -> F32:
    t = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
    radius = rng.uniform(0.6, 0.95, len(t))
    return canvas.polygons(np.stack([radius * np.cos(t), radius * np.sin(t)], -1))


def _crescent(canvas: Canvas, rng: np.random.Generator) -> F32:
    bite = canvas.ellipse(rng.uniform(0.3, 0.7), rng.uniform(-0.2, 0.2), 0.8, rng.uniform(0.6, 0.9))
    return canvas.ellipse(0, 0, 0.95, 0.95) * (1 - bite)


def _slab(canvas: Canvas, rng: np.random.Generator) -> F32:
    wide, tall, notch = rng.uniform(0.5, 0.95), rng.uniform(0.3, 0.95), rng.uniform(-0.4, 0.4)
    return canvas.polygons(
        [(-wide, -tall), (notch, -tall), (notch, 0), (wide, 0), (wide, tall), (-wide, tall)]
    )


_SHAPES = (_pebble, _stick, _shard, _crescent, _slab)
