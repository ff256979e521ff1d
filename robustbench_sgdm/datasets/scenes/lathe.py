"""Objects turned on a lathe, in the main: bolt, bottle, mug and mushroom."""

import numpy as np

from robustbench_sgdm.datasets.scenes.canvas import Canvas
from robustbench_sgdm.datasets.scenes.textures import coat_texture, metal_texture, random_colour


def bolt(canvas: Canvas, rng: np.random.Generator) -> None:
    """Hexagonal head with three visible facets above a threaded shaft."""
    head, shaft, neck = rng.uniform(0.42, 0.6), rng.uniform(0.18, 0.28), rng.uniform(-0.55, -0.4)
    plain = rng.uniform(-0.3, 0.1)
    mask, slope, _ = canvas.lathe([(neck, shaft), (0.88, shaft), (0.95, shaft * 0.7)])
    turns = rng.uniform(28, 42)
    wave = np.sin(turns * (canvas.y + 0.18 * canvas.x)) * (canvas.y > plain)
    thread = slope + np.dstack([0 * wave, 1.3 * wave])
    albedo = metal_texture(rng, canvas, thread)
    canvas.paint(mask, albedo * (1 - 0.45 * np.maximum(wave, 0))[..., None], thread, 0.5)
    top = canvas.polygons([(-head, -0.87), (-head * 0.8, -0.95), (head * 0.8, -0.95), (head, -0.87),
                           (head, neck), (-head, neck)])  # fmt: skip
    facet = np.clip(np.round(canvas.x / head * 1.1), -1, 1) * 0.9
    flat = np.dstack([-facet, 0 * facet]) + canvas.bevel_normals(top, 0.1, 0.8)
    canvas.paint(top, metal_texture(rng, canvas, flat) if rng.random() < 0.3 else albedo, flat, 0.5)
    canvas.decal(canvas.edge(0.02 - np.abs(np.abs(canvas.x) - head * 0.45)) * top, albedo * 0.45)


def bottle(canvas: Canvas, rng: np.random.Generator) -> None:
    """Glass or plastic body with shoulders, neck, cap and label."""
    body, neck = rng.uniform(0.26, 0.42), rng.uniform(0.09, 0.14)
    shoulder, collar = rng.uniform(-0.35, 0.0), rng.uniform(-0.72, -0.6)
    mask, slope, across = canvas.lathe(
        [
            (-0.85, neck),
            (collar, neck),
            (shoulder - 0.12, body * 0.85),
            (shoulder, body),
            (0.9, body),
            (0.95, body * 0.9),
        ]
    )
    glass = (
        coat_texture(rng, canvas)
        if rng.random() < 0.4
        else np.ones((canvas.size, canvas.size, 3)) * random_colour(rng)
    )
    glass = glass * (1.1 - 0.6 * across**4)[..., None]
    canvas.paint(mask, glass, slope, rng.uniform(0.4, 1.0))
    canvas.decal(canvas.edge(0.03 - np.abs(across - 0.6)) * mask * rng.uniform(0, 0.6), (0.95, 0.95, 0.95))
    low, high = rng.uniform(0.1, 0.25), rng.uniform(0.6, 0.8)
    label = mask * canvas.edge(canvas.y - low) * canvas.edge(high - canvas.y)
    paper = coat_texture(rng, canvas)
    canvas.paint(label, paper, slope, 0.1)
    lines = canvas.edge(0.035 - np.abs(canvas.y - (low + high) / 2 + 0.08)) + canvas.edge(
        0.015 - np.abs(canvas.y - (low + high) / 2 - 0.07)
    )
    canvas.decal(np.clip(lines, 0, 1) * label * (np.abs(across) < rng.uniform(0.5, 0.9)), random_colour(rng))
    cap, cap_slope, _ = canvas.lathe([(-0.95, neck * 1.25), (-0.76, neck * 1.3)])
    canvas.paint(cap, random_colour(rng), cap_slope, 0.4)


def mug(canvas: Canvas, rng: np.random.Generator) -> None:
    """Cylinder seen from a little above: open rim with drink, patterned side, handle."""
    wide, taper, tilt = rng.uniform(0.56, 0.68), rng.uniform(0.75, 1.05), rng.uniform(0.16, 0.34)
    top, cx = -0.9 + wide * tilt, -0.95 + wide
    bottom = rng.uniform(0.55, 0.9) - wide * tilt
    glaze = coat_texture(rng, canvas)
    t = np.linspace(-1.75, 1.75, 30)
    height = (bottom - top) * rng.uniform(0.28, 0.36)
    loop = np.stack(
        [cx + wide * 0.85 + (0.9 - cx - wide * 0.85) * np.cos(t), (top + bottom) / 2 + height * np.sin(t)], -1
    )
    handle = canvas.strokes(rng.uniform(0.13, 0.2), loop)
    canvas.paint(handle, glaze, canvas.bevel_normals(handle, 0.09, 1.2), 0.5)
    mask, slope, across = canvas.lathe([(top, wide), (bottom, wide * taper), (0.95, wide * taper)], cx)
    mask *= np.maximum(canvas.edge(bottom - canvas.y), canvas.ellipse(cx, bottom, wide * taper, wide * tilt))
    canvas.paint(mask, glaze, slope, rng.uniform(0.2, 0.8))
    if rng.random() < 0.6:
        band = canvas.y - top - wide * tilt * np.sqrt(1 - across * across)
        mark = np.abs(band - (bottom - top) * rng.uniform(0.3, 0.6)) < rng.uniform(0.04, 0.2)
        canvas.decal(mark * mask, random_colour(rng))
    rim = canvas.ellipse(cx, top, wide, wide * tilt)
    canvas.paint(rim, glaze * 1.1, canvas.bevel_normals(rim, 0.06), 0.6)
    inside = canvas.ellipse(cx, top, wide * 0.88, wide * tilt * 0.85)
    canvas.paint(
        inside, random_colour(rng) * 0.5, np.dstack([canvas.x - cx, canvas.y - top]) * 1.5 / wide, 0.2
    )
    drink = inside * canvas.ellipse(
        cx, top + wide * tilt * rng.uniform(0.2, 0.5), wide * 0.84, wide * tilt * 0.8
    )
    canvas.paint(drink, random_colour(rng, 0.08, 0.5), 0.0, 0.6)


def mushroom(canvas: Canvas, rng: np.random.Generator) -> None:
    """Domed cap with spots or mottling over pale gills and a swelling stem."""
    foot, waist, brim = rng.uniform(0.18, 0.32), rng.uniform(0.12, 0.22), rng.uniform(-0.25, 0.1)
    stem, slope, _ = canvas.lathe([(brim, waist), (0.4, waist * 1.1), (0.85, foot), (0.95, foot * 0.7)])
    pale = random_colour(rng, 0.55, 0.95) ** 0.7
    fibre = np.exp(0.15 * np.sin(60 * canvas.x + 3 * canvas.noise(rng)) + 0.15 * canvas.noise(rng))
    canvas.paint(stem, pale * fibre[..., None], slope, 0.1)
    wide, lip = rng.uniform(0.7, 0.95), rng.uniform(0.1, 0.2)
    gills = canvas.ellipse(0, brim, wide * 0.97, lip)
    lines = 0.6 + 0.3 * np.sin(np.arctan2(canvas.y - brim, canvas.x * lip / wide) * 40)
    canvas.paint(gills, pale * lines[..., None], 0.0, 0.0)
    t = np.linspace(0, np.pi, 40)
    peak = rng.uniform(0.8, 1.0)
    sag = np.stack([wide * np.cos(t[::-1]), brim - lip * rng.uniform(-0.4, 0.7) * np.sin(t)], -1)
    dome = np.stack([-wide * np.cos(t[::-1]), brim - (brim + 0.95) * np.sin(t) ** peak], -1)
    cap = canvas.polygons(np.concatenate([sag, dome]))
    canvas.paint(cap, coat_texture(rng, canvas), canvas.bevel_normals(cap, 0.45), rng.uniform(0.1, 0.7))
    if rng.random() < 0.6:
        spots = np.zeros_like(cap)
        for _ in range(rng.integers(5, 11)):
            u, v, r = rng.uniform(-0.8, 0.8) * wide, rng.uniform(-0.85, brim), rng.uniform(0.05, 0.13)
            spots = np.maximum(spots, canvas.ellipse(u, v, r, r * 0.8))
        canvas.decal(spots * cap, random_colour(rng, 0.7, 1) ** 0.6)
