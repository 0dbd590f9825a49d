"""A small data set in COCO 2014's layout, generated: the scenes of `voc12.mini`, annotated as COCO annotates.

    python -m coco14.mini --out exps/mini_coco

writes exps/mini_coco/COCO with images, saliency maps and instances_{train,val}2014.json: 560 images in about 5 seconds.
It shows 20 of COCO's 80 classes, those that VOC has too. Objects are polygons; one behind a smaller one has the outline
of all of it, so that the two overlap; some are crowds, in run lengths; some images have no object.
`coco14.prepare` makes masks, labels and lists from them as from the real ones.
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from coco14.classes import CLASS_OF_CATEGORY, CLASSES, SPLITS
from tool.cli import UserError, pace, path_text, positive, run_script, script_parser
from tool.generated import write_once
from tool.progress import Bar
from voc12.classes import CLASSES as VOC_CLASSES
from voc12.mini import GENERATION as SCENES
from voc12.mini import JPEG_OPTIONS, MAX_IMAGES, check_scenes
from voc12.mini_scene import Scene, draw_empty_scene, draw_scene

GENERATION = 1  # counts changes of what is annotated, as `SCENES` does of what is drawn
FOLDER = "COCO"
EMPTY_EVERY, CROWD_EVERY = 12, 4  # scenes; a crowd is the last of several objects
OTHER_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
CATEGORY_OF = {CLASSES[index]: category for category, index in CLASS_OF_CATEGORY.items()}
EXAMPLES = """\
  # 560 images in some seconds
  python -m coco14.mini --out exps/mini_coco
  # another, larger one
  python -m coco14.mini --out exps/mini_coco_256 --seed 1 --size 256 --train 2000
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "A small data set in COCO 2014's layout, generated.", examples=EXAMPLES, prog="python -m coco14.mini"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=path_text, required=True, help=f"folder that {FOLDER} is written into")
    scenes = parser.add_argument_group("scenes")
    scenes.add_argument("--seed", type=int, default=0, help="of all that is drawn (%(default)s)")
    scenes.add_argument("--train", type=positive, default=480, help="images of train2014 (%(default)s)")
    scenes.add_argument("--val", type=positive, default=80, help="images of val2014 (%(default)s)")
    scenes.add_argument(
        "--size", type=positive, default=128, help="pixels on a long side, give or take 15 %% (%(default)s)"
    )
    return parser.parse_args()


def image_id(split: str, index: int) -> str:
    """The id of scene `index`, of COCO's form."""
    return f"COCO_{split}_{index + 1:012d}"


def draw(seed: int, index: int, *, size: int) -> Scene:
    """Scene `index` of the data set with this seed; it depends on nothing else."""
    empty = index % EMPTY_EVERY == EMPTY_EVERY - 1
    return (draw_empty_scene if empty else draw_scene)(seed, index, size=size)


def generate(out: str | Path, *, seed: int = 0, train: int = 480, val: int = 80, size: int = 128) -> Path:
    """Write the data set to `<out>/COCO` and return that path.

        train2014/<id>.jpg, val2014/<id>.jpg   images, RGB
        saliency/<id>.png                      of all images, 8-bit grey, 255 = salient
        annotations/instances_<split>.json     images, annotations and categories
        mini.json                              the settings, and the size of each file in bytes

    The same settings give the same bytes (with the same versions of NumPy, OpenCV and Pillow). How it is written, and
    what raises `UserError`: `tool.generated.write_once`; also a setting that makes no sense.
    """
    started = time.perf_counter()
    check_scenes(seed=seed, size=size)
    if train + val > MAX_IMAGES:
        raise UserError(f"--train, --val: expected at most {MAX_IMAGES} images together, got {train + val}")
    settings = {"generation": GENERATION, "scenes": SCENES, "seed": seed, "train": train, "val": val, "size": size}
    root = Path(out) / FOLDER
    if not write_once(root, settings, functools.partial(_write_all, settings=settings)):
        print(f"{root} holds this data set already; it is left as it is")
        return root
    print(f"wrote {root}: {train} images in train2014, {val} in val2014, {pace(started, train + val)}")
    return root


def _write_all(root: Path, settings: dict[str, int]) -> None:
    for folder in (*SPLITS, "saliency", "annotations"):
        (root / folder).mkdir(parents=True)
    train, images = settings["train"], settings["train"] + settings["val"]
    splits = dict(zip(SPLITS, (range(train), range(train, images)), strict=True))
    with Bar(total=images, desc="drawing", unit="image") as bar:
        for split, indices in splits.items():
            found: dict[str, list] = {"images": [], "annotations": [], "categories": _categories()}
            for index in indices:
                scene = draw(settings["seed"], index, size=settings["size"])
                name = image_id(split, index)
                Image.fromarray(scene.image).save(root / split / f"{name}.jpg", **JPEG_OPTIONS)
                Image.fromarray(scene.saliency).save(root / "saliency" / f"{name}.png")
                height, width = scene.mask.shape
                size = {"height": height, "width": width}
                found["images"].append({"id": index + 1, "file_name": f"{name}.jpg", **size})
                found["annotations"] += annotations(scene, index)
                bar.update()
            (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(found))


def _categories() -> list[dict[str, Any]]:
    return [{"id": category, "name": CLASSES[index]} for category, index in CLASS_OF_CATEGORY.items()]


def annotations(scene: Scene, index: int) -> list[dict[str, Any]]:
    """Those of scene `index`, one an object, front to back, as COCO has them."""
    found = []
    for number, (item, region) in enumerate(zip(scene.objects, regions(scene), strict=True)):
        crowd = is_crowd(scene, index, number)
        name = VOC_CLASSES[item.class_index]
        found.append({
            "id": 100 * (index + 1) + number, "image_id": index + 1,
            "category_id": CATEGORY_OF[OTHER_NAMES.get(name, name)], "iscrowd": int(crowd),
            "area": int(region.sum()), "bbox": cv2.boundingRect(region.astype(np.uint8)),
            "segmentation": run_lengths(region) if crowd else polygons(region),
        })  # fmt: skip
    return found


def is_crowd(scene: Scene, index: int, number: int) -> bool:
    """Whether object `number` of scene `index` is annotated as a crowd."""
    return index % CROWD_EVERY == 1 and 0 < number == len(scene.objects) - 1


def regions(scene: Scene) -> list[np.ndarray]:
    """What is annotated of each object, bool (H, W): all that it covers if what hides it is smaller, as with a cup on a
    table, else what is visible."""
    found: list[np.ndarray] = []
    for seen, outline in zip(scene.seen, scene.outlines, strict=True):
        hides_all = any((front & outline).any() and front.sum() >= outline.sum() for front in found)
        found.append(seen if hides_all else outline)
    return found


def polygons(region: np.ndarray) -> list[list[float]]:
    """The outlines of a region's parts, x1, y1, x2, ... in pixels from the upper left corner; holes are filled."""
    doubled = region.repeat(2, 0).repeat(2, 1).astype(np.uint8)  # so that an outline keeps inside its pixels' centres
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((contour[:, 0] + 0.5) / 2).ravel().tolist() for contour in contours]


def run_lengths(region: np.ndarray) -> dict[str, Any]:
    """A region as numbers of pixels, outside and inside in turns, column by column."""
    pixels = region.ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels, prepend=False)).tolist()
    return {"counts": np.diff([0, *changes, pixels.size]).tolist(), "size": list(region.shape)}


def main() -> None:
    generate(**vars(parse_arguments()))


if __name__ == "__main__":
    run_script(main)
