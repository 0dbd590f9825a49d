"""Generated data sets of any number of classes: plain coloured shapes, described by a JSON file as users do."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.descriptions import find_data_set
from tool.artifact import save_label_map
from tool.dataset import DataSet

SHAPE = (48, 56)
FOLDERS = ("train2014", "val2014")
SUFFIXES = (".jpg", ".jpeg", ".JPG", ".png")
EMPTY = "COCO_val2014_000000000000"  # an image without any class


@dataclass(frozen=True)
class Shapes:
    """A data set in `root`: images in two folders under four suffixes, saliency maps, masks, labels, lists."""

    root: Path
    data_set: DataSet
    ids: tuple[str, ...]  # that have a class

    def mask(self, identifier: str) -> Path:
        return self.root / "masks" / f"{identifier}.png"

    def flags(self, *, training: bool) -> dict[str, object]:
        """That lead stage 1 to it."""
        common = {"--data_set": self.data_set.name, "--labels": self.root / "labels.json"}
        if training:
            places = {"--data_root": self.root, "--saliency_root": self.root / "saliency"}
            return {**common, **places, "--train_list": self.root / "train_aug.txt"}
        return {**common, "--img_root": self.root, "--infer_list": self.root / "val.txt"}

    def keys(self) -> dict[str, object]:
        """That lead stage 3 to it."""
        return {"DATA_SET": self.data_set.name, "DATA_ROOT": self.root, "DATA_LISTS": self.root}


def make_shapes(root: Path, *, classes: int, images: int = 8) -> Shapes:
    """Image n has a square of class n and one of a class that all classes take in turn, each class in its own grey-free
    colour; the list to score has one image more, without any class."""
    rng = np.random.default_rng(classes)
    colours = [[0, 0, 0], *rng.permutation(256 * 256 * 256)[:classes, None].__mod__([[256, 255, 254]]).tolist()]
    names = ["background", *(f"shape {number}" for number in range(classes))]
    description = {"ignore": 255, "names": names, "palette": colours, "images": FOLDERS, "masks": "masks"}
    root.mkdir(parents=True)
    (root / "shapes.json").write_text(json.dumps(description))
    data_set = find_data_set(str(root / "shapes.json"))
    for folder in (*FOLDERS, "masks", "saliency"):
        (root / folder).mkdir()
    ids = [f"COCO_{FOLDERS[n % 2]}_{n + 9:012}" for n in range(images)]
    labels = {}
    for number, identifier in enumerate([*ids, EMPTY]):
        mask = np.zeros(SHAPE, np.uint8)
        present = [] if identifier == EMPTY else [number % classes, classes - 1 - number * 7 % classes]
        for place, index in enumerate(present):
            top, left = 4 + number % 9, 4 + 26 * place
            mask[top : top + 30, left : left + 22] = data_set.label_of(index)
        mask[0] = 255
        noise = rng.integers(0, 40, (*SHAPE, 3))
        pixels = np.where(mask[..., None] % 255 > 0, data_set.palette[mask], 90) * 0.8 + noise
        folder = FOLDERS[identifier.startswith("COCO_val")]
        image = Image.fromarray(pixels.astype(np.uint8))
        path = root / folder / f"{identifier}{SUFFIXES[number % 4]}"
        image.save(path, "PNG" if path.suffix == ".png" else "JPEG")
        Image.fromarray((mask % 255 > 0).astype(np.uint8) * 255).save(root / "saliency" / f"{identifier}.png")
        save_label_map(root / "masks" / f"{identifier}.png", mask, data_set)
        labels[identifier] = [int(index in present) for index in range(classes)]
    (root / "labels.json").write_text(json.dumps(labels))
    (root / "train_aug.txt").write_text("\n".join(ids))
    (root / "val.txt").write_text("\n".join([*ids, EMPTY]))
    return Shapes(root, data_set, tuple(ids))
