"""A tiny data set for stage 2: plain shapes of seven classes, and CAM dicts made of their masks."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.shapes import EMPTY, Shapes, make_shapes
from tool.artifact import load_label_map, save_cam, save_label_map
from tool.dataset import DataSet
from tool.lists import Source, find_images

PREPARE, TRAIN, INFER = (f"refine/affinity/{name}.py" for name in ("prepare", "train", "infer"))
WIDTH = 0.0625
STEPS = 8  # four epochs of nine images in batches of four
TINY = {
    **{"--width": WIDTH, "--weights": "none", "--from_scratch": (), "--crop_size": 64, "--batch_size": 4},
    **{"--max_epoches": 4, "--device": "cpu", "--num_workers": 0, "--log_every": 1, "--save_every": 1},
}


@dataclass(frozen=True)
class Stage:
    """The data and the folder of its CAM dicts."""

    shapes: Shapes
    cams: Path

    @property
    def data_set(self) -> DataSet:
        return self.shapes.data_set

    @property
    def ids(self) -> list[str]:
        return [*self.shapes.ids, EMPTY]

    @property
    def images(self) -> dict[str, Path]:
        return find_images(self.ids, self.shapes.root, self.data_set, flag="", source=Source("", "val.txt"))

    def classes(self, identifier: str) -> list[int]:
        labels = np.unique(load_label_map(self.shapes.mask(identifier), self.data_set))
        return [int(label) - 1 for label in labels if label not in (0, 255)]

    def relabel(self, path: Path) -> None:
        """Write over the label map of an image, as of one whose label was corrected since."""
        other = min({*range(7)} - {*self.classes(path.stem)}) + 1
        save_label_map(path, np.full_like(load_label_map(path, self.data_set), other), self.data_set)

    def flags(self, **changes: object) -> dict[str, object]:
        """That lead prepare.py and infer.py to it."""
        places = {"--data_set": self.data_set.name, "--cam_dir": self.cams, "--img_root": self.shapes.root}
        return {
            **places,
            "--infer_list": self.shapes.root / "val.txt",
            "--device": "cpu",
            "--crf_workers": 1,
            **changes,
        }

    def for_training(self, crf: Path, **changes: object) -> dict[str, object]:
        places = {"--data_set": self.data_set.name, "--data_root": self.shapes.root}
        halves = {"--la_crf_dir": crf / "4.00", "--ha_crf_dir": crf / "24.00"}
        return {**TINY, **places, **halves, "--train_list": self.shapes.root / "val.txt", **changes}


def make_stage(root: Path) -> Stage:
    """Each class's CAM is its mask, blurred and with noise; one image has no class."""
    shapes = make_shapes(root / "data", classes=7)
    stage = Stage(shapes, root / "cams")
    stage.cams.mkdir()
    generator = np.random.default_rng(0)
    for identifier in stage.ids:
        mask = load_label_map(shapes.mask(identifier), shapes.data_set)
        cams = {}
        for index in stage.classes(identifier):
            blurred = cv2.GaussianBlur((mask == index + 1).astype(np.float32), (0, 0), 4)
            noise = generator.random(mask.shape, dtype=np.float32)
            cams[index] = (0.9 * blurred / blurred.max() + 0.1 * noise).astype(np.float32)
        save_cam(stage.cams / f"{identifier}.npy", cams, shapes.data_set)
    return stage
