"""A small square canvas on which one object is painted as colour, surface slope and gloss, and then lit."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]


def fractal_field(
    rng: np.random.Generator, height: int, width: int, beta: float = 2.0, stretch: float = 1.0
) -> F32:
    """Gaussian field (height, width), unit deviation and power ~ 1/f^beta; stretch > 1 elongates along x."""
    gain = _gain(height, width, beta, stretch)
    white = rng.standard_normal((2, *gain.shape), dtype=np.float32)
    field = np.fft.irfft2(gain * (white[0] + 1j * white[1]), s=(height, width)).astype(np.float32)
    return np.asarray(field / field.std(), dtype=np.float32)


@lru_cache(maxsize=64)
def _gain(height: int, width: int, beta: float, stretch: float) -> F32:
    """Amplitude ~ 1/f^(beta/2) over the half spectrum of a real field (height, width); 0 for its mean."""
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None, :] * stretch
    power = fx * fx + fy * fy
    power[0, 0] = np.inf
    return np.asarray(power ** (-beta / 4), np.float32)


@lru_cache(maxsize=1)
def _bank() -> F32:
    """Fixed fields (6, 512, 512) to crop object textures from, as one transform per object is slow."""
    rng = np.random.Generator(np.random.PCG64(20240))
    return np.stack(
        [fractal_field(rng, 512, 512, beta, 1.0 + i % 2 * 2) for i, beta in enumerate((1.4, 1.8, 2.2) * 2)]
    )


@lru_cache(maxsize=32)
def _grid(size: int) -> tuple[F32, F32]:
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


Window = tuple[slice, slice]


def _extent(mask: NDArray[np.floating]) -> Window:
    """Rows and columns outside which the mask is zero."""
    left, top, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def _fill(fresh: F32, value: ArrayLike, window: Window) -> None:
    """Copy a constant, or a map cropped to the window, by channel: pixel by pixel takes several times as long."""
    array = np.asarray(value, np.float32)
    source = np.broadcast_to(array[window] if array.ndim == 3 else array, fresh.shape)
    for channel in range(fresh.shape[2]):
        fresh[..., channel] = source[..., channel]


def _blend(under: F32, over: F32, mask: ArrayLike) -> None:
    """In place: share 1 gives `over`, 0 keeps `under`."""
    share = np.asarray(mask, np.float32)
    if share.size:
        under[:] = cv2.blendLinear(over, under, share, 1 - share)


def blur_field(field: F32, sigma: float) -> F32:
    """About a Gaussian blur; two box passes from 2 px up, whose cost does not grow with sigma."""
    if sigma < 2:
        return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)
    box = (2 * round(np.sqrt(6 * sigma**2 + 1) / 2) + 1,) * 2
    return np.asarray(cv2.blur(cv2.blur(field, box), box), np.float32)


def blend_colours(first: F32, second: F32, share: F32) -> F32:
    """Colour map (h, w, 3): `first` (3,) where `share` (h, w) is 0, `second` where it is 1."""
    planes = [share * (b - a) + a for a, b in zip(first, second, strict=True)]
    return np.asarray(cv2.merge(planes), np.float32)


def multiply_colours(colours: F32, gain: F32) -> F32:
    """Colour map (h, w, 3) times a map (h, w)."""
    return np.asarray(cv2.multiply(colours, cv2.merge([gain, gain, gain])), np.float32)


class Canvas:
    """Square of `size` px over [-1, 1] x [-1, 1], x to the right and y down; masks are float32 in 0..1."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.x, self.y = _grid(size)
        self.albedo = np.zeros((size, size, 3), np.float32)
        self.relief = np.zeros((size, size, 4), np.float32)  # slope x, slope y, gloss, alpha

    def polygons(self, *outlines: ArrayLike) -> F32:
        """Even-odd fill of outlines, each (k, 2) in canvas units."""
        mask = np.zeros((self.size, self.size), np.uint8)
        cv2.fillPoly(mask, [self._fixed(o) for o in outlines], 255, cv2.LINE_AA, 4)
        return np.asarray(mask * np.float32(1 / 255), np.float32)

    def strokes(self, width: float, *paths: ArrayLike) -> F32:
        """Open paths, each (k, 2) in canvas units, drawn `width` canvas units wide."""
        mask = np.zeros((self.size, self.size), np.uint8)
        pixels = max(1, round(width * self.size / 2))
        cv2.polylines(mask, [self._fixed(p) for p in paths], False, 255, pixels, cv2.LINE_AA, 4)
        return np.asarray(mask * np.float32(1 / 255), np.float32)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> F32:
        """Antialiased ellipse."""
        radius = np.sqrt(((self.x - cx) / rx) ** 2 + ((self.y - cy) / ry) ** 2)
        return self.edge((1 - radius) * min(rx, ry))

    def edge(self, inside: ArrayLike) -> F32:
        """Mask of a signed distance (canvas units, positive inside), one pixel soft."""
        return np.clip(np.asarray(inside, np.float32) * (self.size / 2) + 0.5, 0, 1)

    def lathe(self, knots: Sequence[tuple[float, float]], cx: float = 0.0) -> tuple[F32, F32, F32]:
        """Body of revolution about x = cx with (y, radius) knots: mask, slope, offset from cx in -1..1."""
        ys, radii = np.array(knots, np.float32).T
        radius = np.interp(self.y[:, 0], ys, radii, left=0, right=0).astype(np.float32)[:, None]
        radius = np.maximum(radius, 1e-3)
        across = np.clip((self.x - cx) / radius, -0.97, 0.97)
        taper = np.gradient(cv2.blur(radius, (1, max(3, self.size // 16))), axis=0) * (self.size / 2)
        depth = np.sqrt(1 - across * across)
        slope = np.dstack([-across / depth, np.clip(taper, -1.5, 1.5) / depth])
        inside = (
            self.edge(radius - np.abs(self.x - cx)) * self.edge(self.y - ys[0]) * self.edge(ys[-1] - self.y)
        )
        return inside, slope.astype(np.float32), across

    def bevel_normals(self, mask: F32, radius: float, depth: float = 1.0) -> F32:
        """Slope (s, s, 2) of a rim rounded over `radius` canvas units from the edge of the mask inwards."""
        solid = cv2.copyMakeBorder(
            (mask > 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0.0,)
        )
        inside = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1] * (2 / self.size)
        rest = np.clip(1 - inside / radius, 0, 1)
        height = (depth * radius * np.sqrt(1 - rest * rest)).astype(np.float32)
        return self.gradient(blur_field(height, max(0.6, 0.02 * self.size)))

    def gradient(self, height: ArrayLike) -> F32:
        """Slope (s, s, 2) of a height field in canvas units."""
        field = np.asarray(height, np.float32)
        dx = cv2.Sobel(field, cv2.CV_32F, 1, 0, scale=self.size / 16)
        dy = cv2.Sobel(field, cv2.CV_32F, 0, 1, scale=self.size / 16)
        return np.dstack([dx, dy])

    def noise(self, rng: np.random.Generator) -> F32:
        """Fractal texture (s, s), about unit deviation."""
        field = _bank()[rng.integers(6)]
        top, left = rng.integers(0, 513 - self.size, 2)
        crop = field[top : top + self.size, left : left + self.size]
        return np.ascontiguousarray(crop.T) if rng.random() < 0.5 else crop

    def paint(self, mask: F32, colour: ArrayLike, slope: ArrayLike = 0.0, gloss: float = 0.2) -> None:
        """Lay an opaque part over what is there."""
        self.decal(mask, colour)
        window = _extent(mask)
        fresh = np.empty_like(self.relief[window])
        _fill(fresh[..., :2], slope, window)
        fresh[..., 2], fresh[..., 3] = gloss, 1
        _blend(self.relief[window], fresh, mask[window])

    def decal(self, mask: NDArray[np.floating], colour: ArrayLike) -> None:
        """Change the colour only; it shows only where something is painted."""
        window = _extent(mask)
        fresh = np.empty_like(self.albedo[window])
        _fill(fresh, colour, window)
        _blend(self.albedo[window], fresh, mask[window])

    def shade(self, light: F32, sky: F32, sun: F32) -> F32:
        """Premultiplied linear RGBA (s, s, 4) under a sun towards unit vector `light` and an ambient sky."""
        gx, gy, gloss, alpha = np.moveaxis(self.relief, -1, 0).copy()
        norm = 1 / np.sqrt(1 + gx * gx + gy * gy)
        lambert = np.maximum((light[2] - gx * light[0] - gy * light[1]) * norm, 0) * alpha
        half = light + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        facing = np.maximum((half[2] - gx * half[0] - gy * half[1]) * norm, 0)
        # Repeated squares, as a float power is many times slower.
        broad = np.square(np.square(np.square(facing)))
        shine = gloss * alpha * broad * (0.25 + 0.9 * np.square(np.square(broad)))
        ambient = (0.35 + 0.65 * norm) * alpha
        planes = [
            albedo * (ambient * sky[i] + lambert * sun[i]) + shine * sun[i]
            for i, albedo in enumerate(np.moveaxis(self.albedo, -1, 0).copy())
        ]
        return np.asarray(cv2.merge([*planes, alpha]), np.float32)

    def _fixed(self, outline: ArrayLike) -> NDArray[np.int32]:
        """Canvas units to the 1/16 px integers that OpenCV draws with."""
        points = (np.asarray(outline, np.float64) + 1) * (self.size / 2) - 0.5
        return np.round(points * 16).astype(np.int32).reshape(-1, 1, 2)
