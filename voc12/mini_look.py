"""How the twenty classes of the generated data set look: silhouette, telling part, plain body, usual background."""

from dataclasses import dataclass

import numpy as np

from voc12.mini_texture import Colour

# Hues 60 degrees and more apart: training turns an image's hues by up to 36.
RED, YELLOW, GREEN = (226, 28, 44), (248, 228, 28), (24, 176, 38)
BLUE, MAGENTA = (28, 92, 226), (206, 44, 232)
BLACK, WHITE = (16, 16, 18), (250, 250, 250)

# Bodies share one muted colour within a group of related classes; the silhouette tells the group's members apart.
SLATE, TEAL, BROWN, PLUM, OCHRE = (70, 80, 112), (32, 92, 96), (118, 74, 48), (112, 60, 98), (186, 138, 62)


def _arc(start: float, stop: float, points: int = 24) -> list[tuple[float, float]]:
    """Points on the unit circle, angles in degrees, measured from +x towards +y (downwards)."""
    angles = np.radians(np.linspace(start, stop, points))
    return list(zip(np.cos(angles), np.sin(angles), strict=True))


# Closed polygons in [-1, 1]^2, x to the right and y downwards.
_SILHOUETTES: dict[str, list[tuple[float, float]]] = {
    "arch": [(-1, 1), (-1, -0.3), (-0.6, -1), (0.6, -1), (1, -0.3), (1, 1), (0.45, 1), (0.45, 0.4), (-0.45, 0.4),
             (-0.45, 1)],
    "box": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "cross": [(-0.45, -1), (0.45, -1), (0.45, -0.45), (1, -0.45), (1, 0.45), (0.45, 0.45), (0.45, 1), (-0.45, 1),
              (-0.45, 0.45), (-1, 0.45), (-1, -0.45), (-0.45, -0.45)],
    "diamond": [(0, -1), (1, 0), (0, 1), (-1, 0)],
    "dome": [(x, 1 + 2 * y) for x, y in _arc(180, 360)],
    "ell": [(-1, -1), (0, -1), (0, 0.05), (1, 0.05), (1, 1), (-1, 1)],
    "ellipse": _arc(0, 345),
    "flask": [(-0.5, -1), (0.5, -1), (0.5, -0.35), (1, 0.05), (1, 1), (-1, 1), (-1, 0.05), (-0.5, -0.35)],
    "glasses": [*[(-0.5 + 0.5 * x, y) for x, y in _arc(45, 315)], *[(0.5 + 0.5 * x, y) for x, y in _arc(225, 495)]],
    "house": [(0, -1), (1, -0.2), (1, 1), (-1, 1), (-1, -0.2)],
    "hull": [(-1, -1), (1, -1), (0.5, 1), (-0.5, 1)],
    "stairs": [(-1, -1), (-0.2, -1), (-0.2, -0.3), (0.4, -0.3), (0.4, 0.3), (1, 0.3), (1, 1), (-1, 1)],
    "tee": [(-1, -1), (1, -1), (1, 0), (0.45, 0), (0.45, 1), (-0.45, 1), (-0.45, 0), (-1, 0)],
    "triangle": [(0, -1), (1, 1), (-1, 1)],
    "trough": [(-1, -1), (-0.4, -1), (-0.4, -0.1), (0.4, -0.1), (0.4, -1), (1, -1), (1, 1), (-1, 1)],
}  # fmt: skip
SILHOUETTES: dict[str, np.ndarray] = {name: np.array(outline) for name, outline in _SILHOUETTES.items()}


@dataclass(frozen=True)
class ClassLook:
    """One class's look. Colours are RGB 0..255.

    background: the kind its images usually show (`voc12.mini_texture.BACKGROUNDS`).
    silhouette: a name of `SILHOUETTES`; aspect: its width over its height.
    body: the muted colour of most of its area.
    pattern, colours: the telling part's (`voc12.mini_texture.PATTERNS`); no two classes share both.
    part: the telling part's centre in the silhouette's coordinates.
    """

    background: str
    silhouette: str
    aspect: float
    body: Colour
    pattern: str
    colours: tuple[Colour, Colour]
    part: tuple[float, float]


# In VOC order, as voc12/classes.py.
LOOKS: tuple[ClassLook, ...] = (
    ClassLook("sky", "cross", 1.5, SLATE, "rows", (RED, WHITE), (0.45, 0.0)),  # aeroplane
    ClassLook("road", "glasses", 1.8, TEAL, "checks", (YELLOW, BLACK), (-0.5, 0.0)),  # bicycle
    ClassLook("forest", "diamond", 1.2, OCHRE, "dots", (BLUE, BLACK), (0.2, -0.2)),  # bird
    ClassLook("water", "hull", 1.9, TEAL, "columns", (BLUE, WHITE), (-0.3, -0.2)),  # boat
    ClassLook("kitchen", "flask", 0.55, OCHRE, "rings", (GREEN, WHITE), (0.0, 0.3)),  # bottle
    ClassLook("road", "box", 1.3, SLATE, "checks", (RED, YELLOW), (0.45, -0.3)),  # bus
    ClassLook("road", "dome", 1.7, SLATE, "diagonals", (YELLOW, BLUE), (-0.3, 0.3)),  # car
    ClassLook("room", "triangle", 1.0, BROWN, "columns", (RED, BLACK), (0.0, 0.1)),  # cat
    ClassLook("room", "ell", 0.8, PLUM, "checks", (MAGENTA, WHITE), (-0.4, 0.3)),  # chair
    ClassLook("grass", "ellipse", 1.5, BROWN, "dots", (WHITE, BLACK), (-0.35, 0.0)),  # cow
    ClassLook("kitchen", "tee", 1.5, PLUM, "rings", (GREEN, BLUE), (0.1, -0.4)),  # diningtable
    ClassLook("forest", "stairs", 1.2, BROWN, "dots", (MAGENTA, YELLOW), (-0.4, 0.2)),  # dog
    ClassLook("grass", "arch", 1.1, BROWN, "diagonals", (GREEN, BLACK), (0.3, -0.35)),  # horse
    ClassLook("road", "ell", 1.5, TEAL, "checks", (RED, GREEN), (0.1, 0.45)),  # motorbike
    ClassLook("room", "box", 0.5, OCHRE, "rows", (MAGENTA, BLACK), (0.0, -0.5)),  # person
    ClassLook("kitchen", "house", 0.8, OCHRE, "dots", (YELLOW, WHITE), (0.0, -0.1)),  # pottedplant
    ClassLook("grass", "ellipse", 1.15, OCHRE, "diagonals", (BLUE, MAGENTA), (0.3, -0.2)),  # sheep
    ClassLook("room", "trough", 1.7, PLUM, "columns", (MAGENTA, GREEN), (-0.3, 0.4)),  # sofa
    ClassLook("railway", "box", 2.1, SLATE, "columns", (RED, BLUE), (0.5, 0.0)),  # train
    ClassLook("room", "box", 1.2, PLUM, "rings", (YELLOW, GREEN), (0.0, 0.15)),  # tvmonitor
)

# Outlines (P, 2) of the salient things without a label: a star, a disc, a hexagonal sign.
_STAR = np.array(_arc(-90, 234, points=10)) * np.where(np.arange(10) % 2, 0.45, 1.0)[:, None]
TOYS: tuple[np.ndarray, ...] = (_STAR, np.array(_arc(0, 345)), np.array(_arc(0, 300, points=6)))
