"""Surfaces of the generated data set: class patterns, smooth noise and the kinds of background.

Colours are RGB in 0..255, as float32 while drawing. `unit` is the length, in pixels, that is 1/128 of an image's long
side, so that a scene looks alike at every size.
"""

from collections.abc import Callable

import cv2
import numpy as np

Colour = tuple[int, int, int]


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> np.ndarray:
    """Noise of low frequency, float32 (height, width), about zero mean and unit spread.

    cells: rows and columns of independent values that are interpolated; unequal numbers give streaks.
    """
    coarse = rng.standard_normal(cells, dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


# Patterns: from coordinates (x, y) measured in periods around the pattern's centre, where the second colour shows.
PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "rows": lambda x, y: np.sin(2 * np.pi * y) > 0,
    "columns": lambda x, y: np.sin(2 * np.pi * x) > 0,
    "diagonals": lambda x, y: np.sin(2 * np.pi * (x + y) * np.sqrt(0.5)) > 0,
    # Coarser than the stripes: a cell narrows in two directions.
    "checks": lambda x, y: np.sin(1.4 * np.pi * x) * np.sin(1.4 * np.pi * y) > 0,
    "dots": lambda x, y: np.sin(2 * np.pi * x) + np.sin(2 * np.pi * y) > 0.7,
    "rings": lambda x, y: np.sin(2 * np.pi * np.hypot(x, y)) > 0,
}


def two_coloured(pattern: str, x: np.ndarray, y: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A pattern of `PATTERNS` in two colours, float32 (H, W, 3), for coordinates (H, W) in periods."""
    return np.where(PATTERNS[pattern](x, y)[..., None], second, first).astype(np.float32)


def _clouds(rng: np.random.Generator, canvas: np.ndarray, unit: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    cover = np.clip(smooth_noise(rng, height, width, (6, 4)), 0, 1)[..., None]
    return canvas + 0.6 * cover * (245 - canvas)


def _waves(rng: np.random.Generator, canvas: np.ndarray, unit: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    row = np.arange(height, dtype=np.float32)[:, None] / (rng.uniform(7, 10) * unit)
    return canvas + 12 * np.sin(2 * np.pi * row + 1.5 * smooth_noise(rng, height, width, (4, 6)))[..., None]


def _blades(rng: np.random.Generator, canvas: np.ndarray, unit: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    cells = (max(2, int(height / (9 * unit))), max(2, int(width / (2 * unit))))
    return canvas + 13 * smooth_noise(rng, height, width, cells)[..., None]


def _trunks(rng: np.random.Generator, canvas: np.ndarray, unit: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    for left in rng.uniform(0, width, size=rng.integers(3, 7)):
        right = left + rng.uniform(4, 10) * unit
        canvas[:, int(left) : int(right)] = np.array([88, 74, 60]) + rng.uniform(-10, 10)
    cells = (max(2, int(height / (6 * unit))), max(2, int(width / (6 * unit))))
    return canvas + 10 * smooth_noise(rng, height, width, cells)[..., None]


def _floor(rng: np.random.Generator, canvas: np.ndarray, unit: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    horizon = int(height * rng.uniform(0.55, 0.8))
    canvas[horizon:] = np.array([160, 132, 108]) + rng.uniform(-10, 10)
    cv2.line(canvas, (0, horizon), (width, horizon), (238, 232, 224), max(1, round(2 * unit)))
    for row in np.arange(horizon, height, 8 * unit)[1:]:
        cv2.line(canvas, (0, int(row)), (width, int(row)), (138, 112, 90), 1)
    return canvas


def _tiles(rng: np.random.Generator, canvas: np.ndarray, unit: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    side = rng.uniform(14, 22) * unit
    for row in np.arange(rng.uniform(0, side), height, side):
        cv2.line(canvas, (0, int(row)), (width, int(row)), (232, 236, 238), 1)
    for column in np.arange(rng.uniform(0, side), width, side):
        cv2.line(canvas, (int(column), 0), (int(column), height), (232, 236, 238), 1)
    return canvas


def _lanes(rng: np.random.Generator, canvas: np.ndarray, unit: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    horizon = int(height * rng.uniform(0.25, 0.5))
    canvas[horizon:] = np.array([128, 128, 132]) + rng.uniform(-12, 12)
    vanishing = rng.uniform(0.3, 0.7) * width
    for foot in rng.uniform(-0.2, 1.2, size=2) * width:
        # Dashes between the horizon and the lower edge, as fractions of that way.
        for start in np.arange(0.1, 1, 0.25):
            ends = [
                (int(vanishing + way * (foot - vanishing)), int(horizon + way * (height - horizon)))
                for way in (start, start + 0.12)
            ]
            cv2.line(canvas, *ends, (225, 225, 220), max(1, round(2 * unit)))
    return canvas


def _rails(rng: np.random.Generator, canvas: np.ndarray, unit: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    centre, gauge = rng.uniform(0.3, 0.7) * width, rng.uniform(0.25, 0.4) * width
    for row in np.arange(rng.uniform(0, 10), height, 10 * unit):
        half = gauge * (0.4 + 0.8 * row / height)
        cv2.line(canvas, (int(centre - half), int(row)), (int(centre + half), int(row)), (96, 82, 72), round(3 * unit))
    for side in (-1, 1):
        top, foot = centre + side * 0.3 * gauge, centre + side * 0.9 * gauge
        cv2.line(canvas, (int(top), 0), (int(foot), height), (188, 188, 196), max(1, round(2 * unit)))
    return canvas + 9 * rng.standard_normal((height, width, 1), dtype=np.float32)


# Each kind: the colour at the top, the colour at the bottom, and what is drawn over the gradient.
BACKGROUNDS: dict[str, tuple[Colour, Colour, Callable[[np.random.Generator, np.ndarray, float], np.ndarray]]] = {
    "sky": ((138, 180, 222), (196, 216, 234), _clouds),
    "water": ((116, 160, 184), (84, 128, 160), _waves),
    "grass": ((142, 172, 104), (112, 148, 78), _blades),
    "forest": ((104, 130, 88), (84, 102, 72), _trunks),
    "room": ((214, 200, 178), (204, 188, 166), _floor),
    "kitchen": ((192, 202, 204), (178, 190, 194), _tiles),
    "road": ((192, 194, 196), (176, 178, 180), _lanes),
    "railway": ((158, 146, 132), (142, 130, 118), _rails),
}


def draw_background(rng: np.random.Generator, kind: str, height: int, width: int, unit: float) -> np.ndarray:
    """A background of one of the `BACKGROUNDS`, float32 (height, width, 3), not yet clipped to 0..255."""
    top, bottom, structure = BACKGROUNDS[kind]
    shift = rng.uniform(-14, 14) + rng.uniform(-6, 6, size=3)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    canvas = (1 - ramp) * np.array(top) + ramp * np.array(bottom) + shift
    canvas = np.ascontiguousarray(np.broadcast_to(canvas, (height, width, 3)), dtype=np.float32)
    canvas = structure(rng, canvas, unit)
    canvas += 7 * smooth_noise(rng, height, width, (5, 5))[..., None]
    return canvas + 3 * rng.standard_normal((height, width, 3), dtype=np.float32)
