"""A small data set in the layout of VOC's development kit, generated: no download, no photographs, no licence to heed.

    python -m voc12.mini --out exps/mini

writes exps/mini/VOC2012 with images, masks, annotations, lists and saliency maps: 580 images in about 5 seconds. What
the images show, and what makes them hard, is in `voc12.mini_scene`; `voc12.prepare` makes labels and lists from them as
from the real kit.
"""

import argparse
import functools
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from tool.artifact import save_label_map
from tool.cli import UserError, pace, path_text, positive, run_script, script_parser
from tool.dataset import IGNORE
from tool.generated import write_once
from tool.progress import Bar
from voc12.classes import CLASSES, VOC12
from voc12.mini_scene import Scene, draw_scene

# Counts changes of what is drawn, so that data of another generation is not taken for the same.
GENERATION = 1
# Colours at full resolution: halved, as is usual, patterns of two equally bright colours would blur into one.
JPEG_OPTIONS = {"quality": 92, "subsampling": 0}
# At the least, a telling part is still 4 pixels across; at the most, a scene takes a quarter of a second.
SIZES = range(32, 1025)
MAX_IMAGES = 10**6  # ids have six digits
EXAMPLES = """\
  # 580 images in some seconds
  python -m voc12.mini --out exps/mini
  # another, larger one
  python -m voc12.mini --out exps/mini_256 --seed 1 --size 256 --train 500 --train_aug 2000
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "A small data set in the layout of VOC's development kit, generated.",
        examples=EXAMPLES,
        prog="python -m voc12.mini",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=path_text, required=True, help="folder that VOC2012 is written into")

    scenes = parser.add_argument_group("scenes")
    scenes.add_argument("--seed", type=int, default=0, help="of all that is drawn (%(default)s)")
    scenes.add_argument("--train", type=positive, default=120, help="images in train.txt (%(default)s)")
    scenes.add_argument(
        "--train_aug", type=positive, default=480, help="images in trainaug.txt, with train's (%(default)s)"
    )
    scenes.add_argument("--val", type=positive, default=80, help="images in val.txt (%(default)s)")
    scenes.add_argument("--test", type=positive, default=20, help="images in test.txt (%(default)s)")
    scenes.add_argument(
        "--size", type=positive, default=128, help="pixels on a long side, give or take 15 %% (%(default)s)"
    )
    return parser.parse_args()


def image_id(index: int) -> str:
    """The id of scene `index`: of VOC's form, but of a year that VOC has not."""
    return f"3000_{index:06d}"


def generate(
    out: str | Path,
    *,
    seed: int = 0,
    train: int = 120,
    train_aug: int = 480,
    val: int = 80,
    test: int = 20,
    size: int = 128,
) -> Path:
    """Write the data set to `<out>/VOC2012` and return that path.

        JPEGImages/<id>.jpg               all images, RGB
        saliency/<id>.png                 all, 8-bit grey, 255 = salient
        SegmentationClass/<id>.png        train and val, palette: 0 background, class + 1, 255 boundary
        SegmentationClassAug/<id>.png     all but test, likewise
        SegmentationObject/<id>.png       train and val: 0, the number of an object from 1, 255 boundary
        Annotations/<id>.xml              all but test, one object for each instance
        ImageSets/Segmentation/<list>.txt train, trainaug (train is its beginning), val, test
        mini.json                         the settings, and the size of each file in bytes

    Scene k depends on (seed, k) alone; trainaug has scenes 0, 1, ..., then come val and test. The same settings give
    the same bytes (with the same versions of NumPy, OpenCV and Pillow). The folder appears when it is whole; until
    then it is `.VOC2012.tmp`, which the next run replaces. One that is there already with these settings is left as it
    is. Runs at once into one folder take turns.

    Raises `UserError` if a setting makes no sense, if `<out>/VOC2012` lacks files or holds anything else, or if it
    cannot be written.
    """
    started = time.perf_counter()
    _check_settings(seed=seed, train=train, train_aug=train_aug, images=train_aug + val + test, size=size)
    settings = {"generation": GENERATION, "seed": seed, "train": train, "train_aug": train_aug, "val": val,
                "test": test, "size": size}  # fmt: skip
    root = Path(out) / "VOC2012"
    if not write_once(root, settings, functools.partial(_write_all, settings=settings)):
        print(f"{root} holds this data set already; it is left as it is")
        return root
    parts = f"{train_aug} training images ({train} in train), {val} for validation, {test} for test"
    print(f"wrote {root}: {parts}, {pace(started, train_aug + val + test)}")
    return root


def _check_settings(*, seed: int, train: int, train_aug: int, images: int, size: int) -> None:
    check_scenes(seed=seed, size=size)
    if train > train_aug:
        raise UserError(f"--train {train}: expected at most --train_aug {train_aug}, for train is a part of trainaug")
    if images > MAX_IMAGES:
        raise UserError(f"--train_aug, --val, --test: expected at most {MAX_IMAGES} images together, got {images}")


def check_scenes(*, seed: int, size: int) -> None:
    """Raise `UserError` unless scenes can be drawn with these settings."""
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: expected a number from 0 to {2**32 - 1}")
    if size not in SIZES:
        raise UserError(f"--size {size}: expected {SIZES[0]} to {SIZES[-1]} pixels")


def _write_all(root: Path, settings: dict[str, int]) -> None:
    train, train_aug, val, test = (settings[name] for name in ("train", "train_aug", "val", "test"))
    first_test = train_aug + val
    lists = {
        "train": range(train),
        "trainaug": range(train_aug),
        "val": range(train_aug, first_test),
        "test": range(first_test, first_test + test),
    }
    for folder in ("JPEGImages", "saliency", "Annotations"):
        (root / folder).mkdir(parents=True)
    for folder in ("SegmentationClass", "SegmentationClassAug", "SegmentationObject"):
        (root / folder).mkdir()
    list_folder = root / "ImageSets" / "Segmentation"
    list_folder.mkdir(parents=True)
    for name, indices in lists.items():
        (list_folder / f"{name}.txt").write_text("".join(f"{image_id(index)}\n" for index in indices))

    for index in Bar(range(first_test + test), desc="drawing", unit="image"):
        scene = draw_scene(settings["seed"], index, size=settings["size"])
        name = image_id(index)
        Image.fromarray(scene.image).save(root / "JPEGImages" / f"{name}.jpg", **JPEG_OPTIONS)
        Image.fromarray(scene.saliency).save(root / "saliency" / f"{name}.png")
        if index in lists["test"]:
            continue
        save_label_map(root / "SegmentationClassAug" / f"{name}.png", scene.mask, VOC12)
        if index in lists["train"] or index in lists["val"]:
            save_label_map(root / "SegmentationClass" / f"{name}.png", scene.mask, VOC12)
            save_label_map(root / "SegmentationObject" / f"{name}.png", numbered(scene), VOC12)
        (root / "Annotations" / f"{name}.xml").write_bytes(annotation(name, scene))


def numbered(scene: Scene) -> np.ndarray:
    """The scene's mask, uint8 (H, W), with the number of each object, from 1, in the place of its class."""
    numbers = scene.mask.copy()
    for number, seen in enumerate(scene.seen, 1):
        numbers[seen & (scene.mask != IGNORE)] = number
    return numbers


def annotation(name: str, scene: Scene) -> bytes:
    """The scene's annotation as VOC's development kit writes it; boxes count pixels from 1 and include their ends."""
    height, width = scene.mask.shape
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, **fields: object) -> None:
        for field, value in fields.items():
            ElementTree.SubElement(parent, field).text = str(value)

    add(root, folder="VOC2012", filename=f"{name}.jpg")
    add(ElementTree.SubElement(root, "source"), database="generated", annotation="generated", image="generated")
    add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    add(root, segmented=1)
    for item in scene.objects:
        left, top, right, bottom = (edge + 1 for edge in item.box)
        entry = ElementTree.SubElement(root, "object")
        add(entry, name=CLASSES[item.class_index], pose="Unspecified", truncated=int(item.truncated), difficult=0)
        add(ElementTree.SubElement(entry, "bndbox"), xmin=left, ymin=top, xmax=right, ymax=bottom)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root) + b"\n"


def main() -> None:
    generate(**vars(parse_arguments()))


if __name__ == "__main__":
    run_script(main)
