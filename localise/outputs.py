"""What a test leaves behind: scores, the boxes of each image, and a picture of some."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data.cub import BoxedImages, Cub
from data.images import load_rgb
from localise.arguments import SIDE
from localise.evaluation import Result
from localise.samples import squared
from localise.scores import KINDS
from tool.artifact import atomic_file, write_json

TRUE, RIGHT, WRONG = (40, 220, 60), (60, 140, 255), (240, 50, 50)  # colours of boxes
COLUMNS, LINE = 6, 3  # pictures beside each other; pixels of a box's rim
CAPTION = 14  # pixels below a picture
# What stands in the table, and what a kind of error means.
SHARES = {
    "localisation": {"Top-1": "loc_top1", "Top-5": "loc_top5", "GT-known": "gt_known"},
    "classification": {"Top-1": "cls_top1", "Top-5": "cls_top5"},
}
MEANINGS = {
    "right": "class and box right",
    "cls_wrong": "the class is wrong",
    "multi": "the box holds several objects",
    "part": "the box lies in a part of the object",
    "more": "the box holds the object and much more",
    "wrong": "the box lies elsewhere",
}


def figures_of(result: Result) -> dict[str, float]:
    """What scores.json holds."""
    return {**result.summary, "images": len(result.best)}


def table(found: Mapping[str, float]) -> str:
    """The scores, `figures_of` a result, for people."""
    lines = [
        f"{what:<15}" + "   ".join(f"{name} {found[key]:5.1f} %" for name, key in names.items())
        for what, names in SHARES.items()
    ]
    width = len(str(found["images"]))
    kinds = [f"{found[kind]:>{width}} {kind:<9}  {MEANINGS[kind]}" for kind in MEANINGS]
    return "\n".join([*lines, f"of {found['images']} images", *(f"  {line}" for line in kinds)])


def write_results(out: Path, result: Result, cub: Cub, *, pictures: int) -> None:
    """Write boxes.csv, of at most `pictures` images pictures.png and, last, scores.json, which says that the test is
    done. Raises `UserError` where the file system refuses."""
    with atomic_file(out / "boxes.csv") as file:
        file.write(_rows(result, cub).encode())
    chosen = np.linspace(0, len(cub.test) - 1, min(pictures, len(cub.test)), dtype=int)
    if len(chosen):
        with atomic_file(out / "pictures.png") as file:
            _sheet([_picture(result, cub, index) for index in chosen]).save(file, "PNG")
    write_json(out / "scores.json", figures_of(result))


def kind_of(result: Result, index: int) -> str:
    return next(kind for kind in KINDS if result.scores[kind][index])


def _rows(result: Result, cub: Cub) -> str:
    """A line an image; boxes are left, top, right, bottom in the image resized to the net's input."""
    text, names, images = io.StringIO(), cub.data_set.classes, cub.test
    rows = csv.writer(text, lineterminator="\n")
    edges = ("left", "top", "right", "bottom")
    rows.writerow(["image", "file", "class", "best_class", "true_class_rank", *edges, "iou", "kind"])
    for index, image_id in enumerate(images.ids):
        rows.writerow(
            [
                image_id,
                _file(images, index),
                names[images.labels[index]],
                names[result.best[index]],
                result.found.rank[index] + 1,
                *result.found.true_box[index],
                f"{result.scores['iou'][index]:.4f}",
                kind_of(result, index),
            ]
        )
    return text.getvalue()


def _file(images: BoxedImages, index: int) -> str:
    return "/".join(Path(images.paths[index]).parts[-2:])


def _picture(result: Result, cub: Cub, index: int) -> Image.Image:
    """An image as the net sees it: true boxes green; the true class's found box blue, or red where it is wrong."""
    picture = Image.new("RGB", (SIDE, SIDE + CAPTION), "white")
    picture.paste(squared(load_rgb(cub.test.paths[index]), SIDE))
    draw = ImageDraw.Draw(picture)
    colour = RIGHT if result.scores["gt_known"][index] else WRONG
    for box, rim in (*((box, TRUE) for box in result.true[index]), (result.found.true_box[index], colour)):
        draw.rectangle(np.minimum(box, SIDE - 1).tolist(), outline=rim, width=LINE)
    iou, kind = result.scores["iou"][index], kind_of(result, index)
    name = cub.data_set.classes[result.best[index]]
    draw.text((3, SIDE + 1), f"{name[:24]}, IoU {iou:.2f}, {kind}".encode("ascii", "replace").decode(), fill="black")
    return picture


def _sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    width, height = pictures[0].size
    columns = min(COLUMNS, len(pictures))
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    return sheet
