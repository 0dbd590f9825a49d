"""One scene of the generated data set: an image, its label map, its objects and its saliency map.

A scene is weakly supervised segmentation in small. The telling part of an object gives its class away, the larger
plain body hardly does; backgrounds go with classes; some salient things carry no label; saliency errs. Everything is
drawn with one random generator, seeded by (seed, index).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from tool.dataset import IGNORE
from voc12.classes import CLASSES, NUM_CLASSES
from voc12.mini_look import LOOKS, SILHOUETTES, TOYS
from voc12.mini_texture import BACKGROUNDS, draw_background, smooth_noise, two_coloured

PERSON = CLASSES.index("person")
ASPECTS = (4 / 3, 3 / 4, 1.0, 3 / 2)  # width over height
ASPECT_SHARES = (0.4, 0.25, 0.2, 0.15)
OBJECT_COUNT_SHARES = (0.45, 0.4, 0.15)  # of images with one, two, three objects
TYPICAL_BACKGROUND = 0.8
UNLABELLED_THING = 0.25
MIN_VISIBLE = 0.15  # of an object's area inside the frame; objects hidden further are not in the scene
MIN_PART_UNITS = 17  # across: about two cells of a network of stride 8
SUBPIXEL_BITS = 4  # of the polygon vertices given to OpenCV


@dataclass(frozen=True)
class SceneObject:
    """A labelled object: its class 0..19, the box (left, top, right, bottom) of its visible pixels, 0-based and
    inclusive, and whether the frame cuts it."""

    class_index: int
    box: tuple[int, int, int, int]
    truncated: bool


@dataclass(frozen=True)
class Scene:
    """image: uint8 (H, W, 3) RGB; mask: uint8 (H, W), 0 background, class + 1, 255 at boundaries; saliency: uint8
    (H, W), 0..255; objects: front to back, every one with pixels of its label in the mask; seen, outlines: bool (H, W)
    for each of these, its visible pixels and all that it covers, hidden or not."""

    image: np.ndarray
    mask: np.ndarray
    saliency: np.ndarray
    objects: tuple[SceneObject, ...]
    seen: tuple[np.ndarray, ...]
    outlines: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Pose:
    """Places silhouette coordinates in the image: p = centre + matrix @ (x, y), in pixels."""

    centre: np.ndarray
    matrix: np.ndarray

    def cover(self, outline: np.ndarray, height: int, width: int) -> np.ndarray:
        """How far each pixel lies inside the outline (P, 2), float32 (height, width) in 0..1."""
        points = self.centre + outline @ self.matrix.T
        canvas = np.zeros((height, width), np.uint8)
        vertices = np.round(points * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(canvas, [vertices], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        return canvas.astype(np.float32) / 255


@dataclass(frozen=True)
class _Thing:
    """Something drawn: class_index is None for a salient thing without a label. cover: float32 (H, W) in 0..1."""

    class_index: int | None
    pose: _Pose
    cover: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        return self.cover >= 0.5


def main_class(seed: int, index: int) -> int:
    """The class that scene `index` shows for certain: every 20 scenes in a row from a multiple of 20 show all 20."""
    block, place = divmod(index, NUM_CLASSES)
    # Three words of entropy where a scene has two: the streams are independent.
    return int(np.random.default_rng([seed, block, 1]).permutation(NUM_CLASSES)[place])


def draw_scene(seed: int, index: int, *, size: int) -> Scene:
    """Scene `index` of the data set with this seed; it depends on nothing else.

    size: long side in pixels, before a variation of 15 %.
    """
    rng = np.random.default_rng([seed, index])
    height, width = _choose_size(rng, size)
    unit = size / 128

    classes = _choose_classes(rng, main_class(seed, index))
    typical = rng.random() < TYPICAL_BACKGROUND
    background = LOOKS[classes[0]].background if typical else str(rng.choice(list(BACKGROUNDS)))
    visible, objects = _resolve_occlusion(_place_objects(rng, classes, height, width), unit)
    unlabelled = [_place_unlabelled(rng, objects, height, width)] if rng.random() < UNLABELLED_THING else []

    canvas = draw_background(rng, background, height, width, unit)
    for thing in unlabelled:
        _paint_unlabelled(rng, canvas, thing)
    for thing in reversed(objects):
        _paint_object(rng, canvas, thing, unit)
    image = np.clip(np.round(canvas), 0, 255).astype(np.uint8)

    shown = np.any(visible, axis=0)
    unlabelled_shown = [thing.inside & ~shown for thing in unlabelled]
    return Scene(
        image=image,
        mask=_label_map([thing.class_index for thing in objects], visible, unit),
        saliency=_saliency(rng, visible, unlabelled_shown, unit),
        objects=tuple(_describe(thing, seen) for thing, seen in zip(objects, visible, strict=True)),
        seen=tuple(visible),
        outlines=tuple(thing.inside for thing in objects),
    )


def draw_empty_scene(seed: int, index: int, *, size: int) -> Scene:
    """Scene `index` of such a data set, of a background alone; as `draw_scene` else."""
    rng = np.random.default_rng([seed, index])
    height, width = _choose_size(rng, size)
    canvas = draw_background(rng, str(rng.choice(list(BACKGROUNDS))), height, width, size / 128)
    nothing = np.zeros((height, width), np.uint8)
    return Scene(np.clip(np.round(canvas), 0, 255).astype(np.uint8), nothing, nothing, (), (), ())


def _choose_size(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Height and width in pixels."""
    aspect = rng.choice(ASPECTS, p=ASPECT_SHARES)
    long_side = size * rng.uniform(0.85, 1.15)
    return round(long_side / max(1, aspect)), round(long_side * min(1, aspect))


def _choose_classes(rng: np.random.Generator, first: int) -> list[int]:
    """One to three classes, the first given; persons turn up everywhere, others mostly where they belong."""
    neighbours = [c for c in range(NUM_CLASSES) if LOOKS[c].background == LOOKS[first].background]
    classes = [first]
    for _ in range(rng.choice(3, p=OBJECT_COUNT_SHARES)):
        kind = rng.choice(4, p=(0.3, 0.1, 0.4, 0.2))
        classes.append((first, PERSON, int(rng.choice(neighbours)), int(rng.integers(NUM_CLASSES)))[kind])
    return classes


def _place_objects(rng: np.random.Generator, classes: list[int], height: int, width: int) -> list[_Thing]:
    """An object of each class, front to back; each in the one of four places where those before it hide it least."""
    things: list[_Thing] = []
    frame = np.array([width, height])
    for class_index in classes:
        look = LOOKS[class_index]
        side = rng.uniform(*((0.5, 0.8) if len(classes) == 1 else (0.42, 0.64))) * np.sqrt(height * width)
        half = 0.5 * side * np.array([np.sqrt(look.aspect), 1 / np.sqrt(look.aspect)])
        half *= min(1, 0.48 * width / half[0], 0.48 * height / half[1])
        # One object in five may stick out of the frame, by up to 0.6 of its half; of the others at most turned corners.
        margin = half * (0.4 if rng.random() < 0.2 else 1)
        mirror = np.array([rng.choice((-1, 1)), 1])
        angle = np.radians(rng.normal(0, 8))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        poses = [_Pose(centre, turn * half * mirror) for centre in rng.uniform(margin, frame - margin, size=(4, 2))]
        things.append(_freest(class_index, SILHOUETTES[look.silhouette], poses, things, height, width))
    return things


def _place_unlabelled(rng: np.random.Generator, objects: list[_Thing], height: int, width: int) -> _Thing:
    radius = rng.uniform(0.12, 0.2) * np.sqrt(height * width)
    centres = rng.uniform(0.1, 0.9, size=(8, 2)) * (width, height)
    outline = TOYS[rng.integers(len(TOYS))]
    return _freest(None, outline, [_Pose(centre, radius * np.eye(2)) for centre in centres], objects, height, width)


def _freest(
    class_index: int | None, outline: np.ndarray, poses: list[_Pose], others: list[_Thing], height: int, width: int
) -> _Thing:
    """The thing in the one of the poses in which `others` overlap it least."""
    taken = np.zeros((height, width), bool)
    for other in others:
        taken |= other.inside
    things = [_Thing(class_index, pose, pose.cover(outline, height, width)) for pose in poses]
    return min(things, key=lambda thing: np.count_nonzero(thing.inside & taken))


def _resolve_occlusion(things: list[_Thing], unit: float) -> tuple[list[np.ndarray], list[_Thing]]:
    """What is visible of each object, bool (H, W), front to back, and the objects that are not all but hidden."""
    taken = np.zeros_like(things[0].inside)
    visible, kept = [], []
    for thing in things:
        seen = thing.inside & ~taken
        # The border takes its pixels from the objects: what is left must carry the label.
        labelled = cv2.erode(seen.astype(np.uint8), _border_kernel(unit))
        if labelled.sum() >= MIN_VISIBLE * thing.inside.sum():
            visible.append(seen)
            kept.append(thing)
            taken |= seen
    return visible, kept


def _border_kernel(unit: float) -> np.ndarray:
    """Covers the pixels whose labels make a pixel border: one to each side at size 128, three at VOC's 500."""
    reach = max(1, round(0.8 * unit))
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def _label_map(classes: list[int], visible: list[np.ndarray], unit: float) -> np.ndarray:
    instance = np.zeros(visible[0].shape, np.uint8)
    for number, seen in enumerate(visible, 1):
        instance[seen] = number
    labels = np.array([0, *(c + 1 for c in classes)], np.uint8)[instance]
    labels[cv2.morphologyEx(instance, cv2.MORPH_GRADIENT, _border_kernel(unit)) > 0] = IGNORE
    return labels


def _describe(thing: _Thing, seen: np.ndarray) -> SceneObject:
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    left, top, right, bottom = (int(v) for v in (columns[0], rows[0], columns[-1], rows[-1]))
    frame = np.concatenate([thing.inside[0], thing.inside[-1], thing.inside[:, 0], thing.inside[:, -1]])
    return SceneObject(thing.class_index, (left, top, right, bottom), bool(frame.any()))


def _paint(canvas: np.ndarray, surface: np.ndarray, cover: np.ndarray) -> None:
    canvas += cover[..., None] * (surface - canvas)


def _offsets(centre: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel offsets (x, y) from a point (2,), float32 (1, width) and (height, 1)."""
    x = np.arange(width, dtype=np.float32)[None] - np.float32(centre[0])
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(centre[1])
    return x, y


def _paint_object(rng: np.random.Generator, canvas: np.ndarray, thing: _Thing, unit: float) -> None:
    """The plain body, and on it the telling part: a disc of the class's pattern, a third of the object's area."""
    height, width = canvas.shape[:2]
    look = LOOKS[thing.class_index]
    body = np.array(look.body) + rng.uniform(-22, 22) + rng.uniform(-22, 22, size=3)
    shading = 9 * smooth_noise(rng, height, width, (3, 3)) + 3 * rng.standard_normal((height, width), dtype=np.float32)
    _paint(canvas, body.astype(np.float32) + shading[..., None], thing.cover)

    outline = SILHOUETTES[look.silhouette]
    area = cv2.contourArea(outline.astype(np.float32)) * abs(np.linalg.det(thing.pose.matrix))
    radius = max(np.sqrt(rng.uniform(0.28, 0.34) * area / np.pi), MIN_PART_UNITS * unit / 2)
    centre = thing.pose.centre + thing.pose.matrix @ np.array(look.part)
    axes = thing.pose.matrix / np.linalg.norm(thing.pose.matrix, axis=0)
    disc = _Pose(centre, radius * axes).cover(SILHOUETTES["ellipse"], height, width)

    x, y = _offsets(centre, height, width)
    period = rng.uniform(10, 14) * unit
    along, across = ((axes[0, i] * x + axes[1, i] * y) / period for i in (0, 1))
    first, second = (np.array(colour) + rng.uniform(-12, 12, size=3) for colour in look.colours)
    _paint(canvas, two_coloured(look.pattern, along, across, first, second), np.minimum(disc, thing.cover))


def _paint_unlabelled(rng: np.random.Generator, canvas: np.ndarray, thing: _Thing) -> None:
    """Bright, pale and smooth: white fading to a pastel outwards, so like no class's pattern."""
    height, width = canvas.shape[:2]
    x, y = _offsets(thing.pose.centre, height, width)
    fade = np.clip(np.hypot(x, y) / thing.pose.matrix[0, 0], 0, 1)[..., None]
    hue = np.array([[[rng.uniform(0, 360), rng.uniform(0.15, 0.45), 1]]], np.float32)
    colour = 255 * cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)
    _paint(canvas, 250 + fade * (colour - 250), thing.cover)


def _saliency(
    rng: np.random.Generator, visible: list[np.ndarray], unlabelled: list[np.ndarray], unit: float
) -> np.ndarray:
    """What a class-agnostic detector would say, uint8 (H, W): objects and unlabelled things, with its mistakes.

    One of several objects missed (10 % of such images), a piece of an object missed (15 %), a false region in the
    background (20 %), boundaries a few pixels off and soft.
    """
    height, width = visible[0].shape
    salient = np.zeros((height, width), np.float32)
    missed = rng.integers(len(visible)) if len(visible) > 1 and rng.random() < 0.1 else None
    for number, seen in enumerate([*visible, *unlabelled]):
        if number != missed:
            salient[seen] = rng.uniform(0.8, 1)
    if rng.random() < 0.15:
        seen = visible[rng.integers(len(visible))]
        place = rng.choice(np.flatnonzero(seen))
        _fill_ellipse(rng, salient, (place % width, place // width), 0.28 * np.sqrt(seen.sum()), 0)
    if rng.random() < 0.2:
        place = rng.uniform(0, 1, size=2) * (width, height)
        _fill_ellipse(rng, salient, place, rng.uniform(6, 12) * unit, rng.uniform(0.3, 0.8))

    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = (grid + 1.5 * unit * smooth_noise(rng, height, width, (6, 6)) for grid in (x, y))
    salient = cv2.remap(salient, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    salient = cv2.GaussianBlur(salient, (0, 0), 1.5 * unit)
    return np.clip(np.round(255 * salient), 0, 255).astype(np.uint8)


def _fill_ellipse(
    rng: np.random.Generator, canvas: np.ndarray, centre: tuple[float, float], radius: float, value: float
) -> None:
    """Fill an ellipse of about this radius, somewhat flattened and turned, in place."""
    axes = radius * rng.uniform(0.7, 1.3, size=2)
    ellipse = (tuple(float(v) for v in centre), tuple(float(2 * v) for v in axes), float(rng.uniform(0, 180)))
    cv2.ellipse(canvas, ellipse, float(value), cv2.FILLED)
