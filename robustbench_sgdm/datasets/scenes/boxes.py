"""Box-shaped objects, projected from three dimensions: the book and the die."""

import cv2
import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.datasets.scenes.canvas import F32, Canvas
from robustbench_sgdm.datasets.scenes.textures import coat_texture, random_colour

Faces = dict[int, F32]

# Corner order of the face whose outward normal is +axis, as signs along the two other axes.
_CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def die(canvas: Canvas, rng: np.random.Generator) -> None:
    """Cube with pips on the three faces that show; opposite faces add up to seven."""
    body, ink = random_colour(rng), random_colour(rng)
    while abs(float(body.mean() - ink.mean())) < 0.25:
        body, ink = random_colour(rng, 0.05, 1), random_colour(rng, 0.05, 1)
    side = max(32, canvas.size // 2)
    shade = np.exp(0.08 * canvas.noise(rng)[:side, :side, None])
    pairs = [pair[rng.integers(2)] for pair in ((1, 6), (2, 5), (3, 4))]
    faces = {axis: _pips(pips, side, body, ink) * shade for axis, pips in enumerate(rng.permutation(pairs))}
    _box(canvas, np.ones(3), _corner_view(rng), faces, rng.uniform(0.1, 0.6))


def book(canvas: Canvas, rng: np.random.Generator) -> None:
    """Closed book lying or standing: printed cover, spine and the edges of its pages."""
    size = np.array([rng.uniform(0.62, 0.85), 1, rng.uniform(0.12, 0.35)])
    side = max(32, canvas.size // 2)
    cover = coat_texture(rng, Canvas(side))
    spine = cover * rng.uniform(0.6, 1.1)
    ink, sheet = random_colour(rng), np.array([0.8, 0.75, 0.62]) * rng.uniform(0.7, 1.1)
    pages = np.ones((side, side, 3)) * sheet
    pages *= 1 - 0.35 * (rng.random((side, 1, 1)) > 0.6)
    _print(rng, cover, ink, side)
    pages[:2], pages[-2:] = cover[0, 0], cover[0, 0]
    spine[:, side // 6 : side // 4] = ink
    faces = {2: cover, 0: spine if rng.random() < 0.5 else pages, 1: pages}
    _box(
        canvas,
        size,
        _corner_view(rng, lying=True),
        {k: np.asarray(v, np.float32) for k, v in faces.items()},
        0.25,
    )


def _print(rng: np.random.Generator, cover: F32, ink: F32, side: int) -> None:
    """Title block and lines, along the long axis of the cover."""
    left, right = int(side * rng.uniform(0.12, 0.25)), int(side * rng.uniform(0.75, 0.88))
    top = int(side * rng.uniform(0.12, 0.3))
    cover[top : top + side // 7, left:right] = ink
    for row in range(int(rng.integers(1, 4))):
        y = int(side * (0.5 + 0.11 * row))
        cover[y : y + max(1, side // 24), left : right - int(side * rng.uniform(0, 0.3))] = ink
    cover[:, : max(1, side // 14)] *= 0.55


def _pips(count: int, side: int, body: F32, ink: F32) -> F32:
    """Face texture (side, side, 3) with `count` pips."""
    step = 0.27
    corners = [(-step, -step), (step, step), (-step, step), (step, -step), (-step, 0), (step, 0)]
    spots = corners[: count - count % 2] + [(0.0, 0.0)] * (count % 2)
    mask = np.zeros((side, side), np.uint8)
    for u, v in spots:
        centre = (int((0.5 + u) * side * 16), int((0.5 + v) * side * 16))
        cv2.circle(mask, centre, int(side * 0.105 * 16), 255, -1, cv2.LINE_AA, 4)
    return np.asarray(body + (mask[..., None] / np.float32(255)) * (ink - body), dtype=np.float32)


def _corner_view(rng: np.random.Generator, *, lying: bool = False) -> NDArray[np.float64]:
    """Rotation whose rows show the +x, +y and +z faces to the viewer; `lying` turns +z most towards them."""
    facing = rng.uniform(
        [0.15, 0.15, 0.75] if lying else [0.3, 0.3, 0.3], [0.5, 0.5, 1] if lying else [1, 1, 1]
    )
    facing /= np.linalg.norm(facing)
    first = np.cross(facing, [0, 0, 1] if not lying else [1, 0, 0])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(facing, first), facing])


def _box(
    canvas: Canvas, size: NDArray[np.float64], view: NDArray[np.float64], faces: Faces, gloss: float
) -> None:
    """Project a box of half-extents `size`, painting `faces` (axis to texture) that point to the viewer."""
    signs = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
    seen = (signs * size) @ view.T
    scale = 0.95 / np.abs(seen[:, :2]).max()
    for axis, texture in faces.items():
        corners = np.zeros((4, 3))
        others = [a for a in range(3) if a != axis]
        corners[:, axis], corners[:, others] = size[axis], np.array(_CORNERS) * size[others]
        projected = (corners @ view.T) * scale
        # A mild perspective: what is nearer is larger.
        outline = projected[:, :2] * (0.92 + 0.08 * projected[:, 2:])
        side = texture.shape[0]
        square = np.array([(0, 0), (side, 0), (side, side), (0, side)], np.float32)
        target = ((outline + 1) * (canvas.size / 2)).astype(np.float32)
        warp = cv2.getPerspectiveTransform(square, target)
        shape = (canvas.size, canvas.size)
        skin = cv2.warpPerspective(texture, warp, shape, borderMode=cv2.BORDER_REPLICATE)
        normal = view[:, axis]
        canvas.paint(canvas.polygons(outline), skin, -normal[:2] / max(normal[2], 0.25), gloss)
    # Worn edges: slopes blend where faces meet.
    canvas.relief[..., :2] = cv2.blur(canvas.relief[..., :2], (max(1, canvas.size // 24),) * 2)
