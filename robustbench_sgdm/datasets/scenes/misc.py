"""Objects of other makes: ball, clock, key and umbrella."""

import numpy as np

from robustbench_sgdm.datasets.scenes.canvas import Canvas
from robustbench_sgdm.datasets.scenes.textures import coat_texture, metal_texture, random_colour


def ball(canvas: Canvas, rng: np.random.Generator) -> None:
    """Sphere with seams, segments, patches or a band, in any orientation."""
    x, y = canvas.x / 0.95, canvas.y / 0.95
    radius = np.sqrt(x * x + y * y)
    depth = np.sqrt(np.maximum(1 - radius * radius, 0.04))
    frame = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    p, q, r = np.moveaxis(np.dstack([x, y, depth]) @ frame, -1, 0)
    kind = rng.integers(4)
    if kind == 0:
        sectors = int(rng.integers(2, 5)) * 2
        mix = np.sin(np.arctan2(p, q) * (sectors / 2)) * np.hypot(p, q) * 6
    elif kind == 1:
        mix = (0.06 - np.min(np.abs([p, q, 0.75 - r * r - q * q]), axis=0)) * 25
    elif kind == 2:
        mix = (np.max(np.abs(np.dstack([p, q, r]) @ _DODECAHEDRON), axis=-1) - 0.91) * 40
    else:
        mix = (rng.uniform(0.15, 0.35) - np.abs(p)) * 15
    slope = np.dstack([-x / depth, -y / depth])
    canvas.paint(canvas.edge(1 - radius), coat_texture(rng, canvas), slope, rng.uniform(0.05, 0.6))
    canvas.decal(np.clip(0.5 + mix, 0, 1), random_colour(rng))


_GOLDEN = (1 + 5**0.5) / 2
_DODECAHEDRON = (
    np.array(
        [
            (0, 1, _GOLDEN),
            (0, 1, -_GOLDEN),
            (1, _GOLDEN, 0),
            (1, -_GOLDEN, 0),
            (_GOLDEN, 0, 1),
            (-_GOLDEN, 0, 1),
        ]
    )
    / np.hypot(1, _GOLDEN)
).T.astype(np.float32)


def clock(canvas: Canvas, rng: np.random.Generator) -> None:
    """Round case with rim, face, hour marks, two hands; some with feet and bells."""
    rim, metallic = rng.uniform(0.08, 0.2), rng.random() < 0.4
    radius = 0.95
    if rng.random() < 0.35:
        radius = 0.78
        bells = np.maximum(canvas.ellipse(-0.5, -0.7, 0.3, 0.25), canvas.ellipse(0.5, -0.7, 0.3, 0.25))
        bells = np.maximum(bells, canvas.strokes(0.14, [(0.3, 0.5), (0.6, 0.9)], [(-0.3, 0.5), (-0.6, 0.9)]))
        slope = canvas.bevel_normals(bells, 0.22)
        canvas.paint(bells, metal_texture(rng, canvas, slope), slope, 0.6)
    case = canvas.ellipse(0, 0, radius, radius)
    slope = canvas.bevel_normals(case, rim, 1.2)
    canvas.paint(
        case, metal_texture(rng, canvas, slope) if metallic else coat_texture(rng, canvas), slope, 0.6
    )
    inner = radius - rim
    face = canvas.ellipse(0, 0, inner, inner)
    dark = rng.random() < 0.25
    dial, ink = (
        random_colour(rng, 0.05, 0.25) if dark else random_colour(rng, 0.8, 1) ** 0.5,
        random_colour(rng, 0.8, 1) if dark else random_colour(rng, 0, 0.3),
    )
    canvas.paint(
        face, dial * np.exp(0.06 * canvas.noise(rng))[..., None], 0.25 * canvas.bevel_normals(face, 0.3), 0.3
    )
    angles = np.arange(12) * np.pi / 6
    rays = np.stack([np.sin(angles), -np.cos(angles)], -1)
    start = rng.uniform(0.7, 0.82)
    canvas.decal(
        canvas.strokes(rng.uniform(0.05, 0.09), *np.stack([rays * start, rays * 0.92], 1) * inner), ink
    )
    for length, width in ((0.5, 0.11), (0.75, 0.08)):
        angle = rng.uniform(0, 2 * np.pi)
        tip = np.array([np.sin(angle), -np.cos(angle)]) * inner
        canvas.decal(canvas.strokes(width, [-0.12 * tip, length * tip]), ink)
    canvas.decal(canvas.ellipse(0, 0, 0.08, 0.08), ink)


def key(canvas: Canvas, rng: np.random.Generator) -> None:
    """Metal bow with a hole, shaft with a collar, and teeth on one side."""
    bow, shaft = rng.uniform(0.28, 0.38), rng.uniform(0.09, 0.13)
    centre = -0.95 + bow
    t = np.linspace(0, 2 * np.pi, 40)
    lobes = 1 + rng.choice([0.0, 0.12]) * np.cos(3 * t)
    ring = np.stack(
        [centre + bow * lobes * np.cos(t) / lobes.max(), bow * rng.uniform(0.8, 1.1) * lobes * np.sin(t)], -1
    )
    hole = np.stack([centre + bow * 0.55 * np.cos(t), bow * 0.55 * np.sin(t)], -1)
    mask = canvas.polygons(ring, hole)
    start = centre + bow * 0.8
    rod = canvas.polygons([(start, -shaft), (0.95, -shaft), (0.95, shaft), (start, shaft)])
    collar = canvas.polygons([(start + 0.18, -shaft * 1.7), (start + 0.28, -shaft * 1.7),
                              (start + 0.28, shaft * 1.7), (start + 0.18, shaft * 1.7)])  # fmt: skip
    mask = np.maximum(np.maximum(mask, rod), collar)
    edges = np.linspace(0.93, rng.uniform(0.3, 0.5), 2 * rng.integers(2, 4))
    for right, left in edges.reshape(-1, 2):
        drop = rng.uniform(0.22, 0.4)
        mask = np.maximum(mask, canvas.polygons([(left, 0), (right, 0), (right, drop), (left, drop)]))
    slope = canvas.bevel_normals(mask, rng.uniform(0.06, 0.12), 1.2)
    canvas.paint(mask, metal_texture(rng, canvas, slope), slope, 0.7)


def umbrella(canvas: Canvas, rng: np.random.Generator) -> None:
    """Open canopy of panels with a scalloped hem, ferrule, shaft and hooked handle."""
    hem, panels = rng.uniform(-0.15, 0.1), int(rng.integers(4, 7))
    t = np.linspace(0, np.pi, 20)
    hook = np.stack([0.13 - 0.13 * np.cos(t), 0.8 + 0.13 * np.sin(t)], -1)
    pole = canvas.strokes(0.06, [(0, -0.95), (0, 0.8)])
    canvas.paint(
        pole,
        metal_texture(rng, canvas, canvas.bevel_normals(pole, 0.03)),
        canvas.bevel_normals(pole, 0.03),
        0.5,
    )
    grip = canvas.strokes(0.11, np.concatenate([[(0, 0.55)], hook]))
    canvas.paint(grip, random_colour(rng), canvas.bevel_normals(grip, 0.05), 0.5)
    dome = np.sqrt(np.clip((canvas.y + 0.85) / (hem + 0.85), 1e-3, 1)) * 0.95
    angle = np.arcsin(np.clip(canvas.x / dome, -1, 1)) / np.pi + 0.5
    scallop = 0.11 * np.abs(np.sin(np.pi * panels * angle))
    canopy = (
        canvas.edge(dome - np.abs(canvas.x))
        * canvas.edge(hem - scallop - canvas.y)
        * canvas.edge(canvas.y + 0.85)
    )
    cloth = coat_texture(rng, canvas)
    if rng.random() < 0.6:
        cloth = np.where((np.floor(panels * angle) % 2)[..., None] > 0, cloth, random_colour(rng))
    ridge = np.cos(np.pi * (panels * angle % 1))
    slope = canvas.bevel_normals(canopy, 0.6) + np.dstack([-0.5 * ridge, 0 * ridge])
    canvas.paint(canopy, cloth, slope, rng.uniform(0.05, 0.3))
    ribs = canvas.edge(0.015 - np.abs((panels * angle + 0.5) % 1 - 0.5) / panels)
    canvas.decal(ribs * canopy * 0.7, cloth * 0.4)
