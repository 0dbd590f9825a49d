"""A small data set in CUB's layout, generated: plain coloured shapes on textured ground, whose boxes are known.

    python -m cub.mini --out exps/mini_cub

writes exps/mini_cub/CUB_200_2011 with images and the text files that come with them, in about a second. A class is a
shape of one colour; where it stands, how large and how bright it is, and the ground differ from image to image.
"""

import argparse
import functools
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from cub.classes import BOX_FILE, CLASS_FILE, IMAGE_FILE, IMAGES, LABEL_FILE, SPLIT_FILE
from tool.cli import UserError, pace, path_text, positive, run_script, script_parser
from tool.generated import write_once
from tool.progress import Bar

GENERATION = 1  # counts changes of what is drawn, so that data of another is not taken for the same
FOLDER = "CUB_200_2011"
SIZES = range(32, 1025)
MAX_IMAGES = 10**5
JPEG_OPTIONS = {"quality": 92, "subsampling": 0}
# Corners in [-1, 1]^2, y downwards.
OUTLINES = {
    "disc": [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 48, endpoint=False)],
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "triangle": [(0, -1), (1, 1), (-1, 1)],
}
# Hues of a half saturation and more; the ground's is a fifth at most.
LOOKS = {
    "red_disc": (214, 40, 40),
    "yellow_square": (232, 208, 40),
    "green_triangle": (40, 168, 60),
    "cyan_disc": (40, 190, 200),
    "blue_square": (48, 72, 208),
    "magenta_triangle": (200, 48, 196),
}
EXAMPLES = """\
  # 360 images, in about a second
  python -m cub.mini --out exps/mini_cub
  # another, larger one
  python -m cub.mini --out exps/mini_cub_224 --seed 1 --size 224 --train 600 --test 200
"""


class Scene(NamedTuple):
    """image: uint8 (H, W, 3), RGB. box: (x, y, width, height) of the shape, in pixels."""

    image: np.ndarray
    box: tuple[int, int, int, int]


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("A small data set in CUB's layout, generated.", examples=EXAMPLES, prog="python -m cub.mini")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=path_text, required=True, help=f"folder that {FOLDER} is written into")
    scenes = parser.add_argument_group("scenes")
    scenes.add_argument("--seed", type=int, default=0, help="of all that is drawn (%(default)s)")
    scenes.add_argument("--train", type=positive, default=240, help="images to train on (%(default)s)")
    scenes.add_argument("--test", type=positive, default=120, help="images to test on (%(default)s)")
    scenes.add_argument(
        "--size", type=positive, default=128, help="pixels on a long side, give or take 15 %% (%(default)s)"
    )
    return parser.parse_args()


def draw_scene(seed: int, index: int, *, size: int) -> Scene:
    """Scene `index`, of class `index` modulo their number: a function of (seed, index) alone."""
    rng = np.random.default_rng([seed, index])
    name, colour = list(LOOKS.items())[index % len(LOOKS)]
    long = round(size * rng.uniform(0.85, 1.15))
    width, height = (long, round(long * rng.uniform(0.7, 1)))[:: rng.choice((1, -1))]
    ground = rng.uniform(90, 165) + rng.uniform(-12, 12, 3) + _texture(rng, height, width, 5)[..., None]
    radius = rng.uniform(0.2, 0.38) * np.array([1, rng.uniform(0.75, 1.3)]) * min(width, height)
    centre = rng.uniform(radius, (width, height) - radius)
    shape = np.zeros((height, width), np.uint8)
    corners = np.round(centre + radius * np.array(OUTLINES[name.split("_")[1]])).astype(np.int32)
    cv2.fillPoly(shape, [corners], 1)
    body = np.array(colour) * rng.uniform(0.8, 1.15) + _texture(rng, height, width, 3)[..., None]
    image = np.where(shape[..., None], body, ground) + rng.normal(0, 5, (height, width, 1))
    return Scene(np.clip(image, 0, 255).astype(np.uint8), cv2.boundingRect(shape))


def _texture(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Noise of low frequency, float64 (height, width), about zero mean, of a spread of 14 grey levels."""
    coarse = rng.normal(0, 14, (rng.integers(2, cells + 1) * 2, rng.integers(2, cells + 1) * 2))
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def generate(out: str | Path, *, seed: int = 0, train: int = 240, test: int = 120, size: int = 128) -> Path:
    """Write the data set to `<out>/CUB_200_2011` and return that path.

        images/<class>/<n>.jpg      all images, RGB; those to train on come first
        images.txt, classes.txt     numbers from 1, and files or names
        image_class_labels.txt, train_test_split.txt, bounding_boxes.txt
        mini.json                   the settings, and the size of each file in bytes

    The same settings give the same bytes (with the same versions of NumPy, OpenCV and Pillow). How it is written, and
    what raises `UserError`: `tool.generated.write_once`; also a setting that makes no sense.
    """
    started = time.perf_counter()
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: expected a number from 0 to {2**32 - 1}")
    if size not in SIZES:
        raise UserError(f"--size {size}: expected {SIZES[0]} to {SIZES[-1]} pixels")
    if train + test > MAX_IMAGES:
        raise UserError(f"--train, --test: expected at most {MAX_IMAGES} images together, got {train + test}")
    settings = {"generation": GENERATION, "seed": seed, "train": train, "test": test, "size": size}
    root = Path(out) / FOLDER
    if not write_once(root, settings, functools.partial(_write_all, settings=settings)):
        print(f"{root} holds this data set already; it is left as it is")
        return root
    parts = f"{len(LOOKS)} classes, {train} images to train on, {test} to test on"
    print(f"wrote {root}: {parts}, {pace(started, train + test)}")
    return root


def _write_all(root: Path, settings: dict[str, int]) -> None:
    folders = [f"{number:03d}.{name}" for number, name in enumerate(LOOKS, start=1)]
    for folder in folders:
        (root / IMAGES / folder).mkdir(parents=True)
    lines: dict[str, list[str]] = {name: [] for name in (IMAGE_FILE, LABEL_FILE, SPLIT_FILE, BOX_FILE)}
    count = settings["train"] + settings["test"]
    for index in Bar(range(count), desc="drawing", unit="image"):
        scene, label, number = draw_scene(settings["seed"], index, size=settings["size"]), index % len(LOOKS), index + 1
        file = f"{folders[label]}/{number:06d}.jpg"
        Image.fromarray(scene.image).save(root / IMAGES / file, **JPEG_OPTIONS)
        lines[IMAGE_FILE].append(f"{number} {file}")
        lines[LABEL_FILE].append(f"{number} {label + 1}")
        lines[SPLIT_FILE].append(f"{number} {int(index < settings['train'])}")
        lines[BOX_FILE].append(f"{number} {' '.join(f'{edge:.1f}' for edge in scene.box)}")
    lines[CLASS_FILE] = [f"{number} {folder}" for number, folder in enumerate(folders, start=1)]
    for name, rows in lines.items():
        (root / name).write_text("".join(f"{row}\n" for row in rows))


def main() -> None:
    generate(**vars(parse_arguments()))


if __name__ == "__main__":
    run_script(main)
