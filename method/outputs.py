"""The files that stage 1 makes of an image, of any method: where they go, and which of them are there and whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tool.artifact import load_cam, load_crf, load_label_map
from tool.cli import UserError
from tool.dataset import DataSet
from tool.image import load_image
from tool.irn_cam import load_irn_cam
from tool.seed_recipe import CRFRecipe


@dataclass(frozen=True)
class Outputs:
    """Where an image's files go, and what settings they have. The seeds, label map and CRF, follow from the CAMs."""

    cam_npy: Path
    cam_png: Path
    crf: dict[CRFRecipe, Path]  # the folder of each
    overlay: Path | None
    threshold: float
    data_set: DataSet
    irn: Path | None = None  # CAMs in IRN's form, at two sizes

    @property
    def folders(self) -> list[Path]:
        pictures = [] if self.overlay is None else [self.overlay]
        return [self.cam_npy, self.cam_png, *self.crf.values(), *pictures, *([] if self.irn is None else [self.irn])]

    def lacks_overlay(self, image_id: str) -> bool:
        def load(path: Path) -> Image.Image:
            return load_image(path, "RGB")

        return self.overlay is not None and load_whole(load, self.overlay / f"{image_id}.png") is None

    def has_cam(self, image_id: str, classes: list[int], shape: tuple[int, int]) -> bool:
        """Whether the image's CAM dict is there, whole, of its classes and its (height, width), and IRN's where that is
        asked for."""
        cams = load_whole(load_cam, self.cam_npy / f"{image_id}.npy", self.data_set, shape=shape)
        if cams is None or list(cams) != classes:
            return False
        if self.irn is None:
            return True
        irns = load_whole(load_irn_cam, self.irn / f"{image_id}.npy", self.data_set, shape=shape)
        return irns is not None and irns[0].tolist() == classes

    def missing_seeds(self, image_id: str, classes: list[int], shape: tuple[int, int]) -> tuple[bool, list[CRFRecipe]]:
        """Whether the label map is missing, damaged or of another image, and the CRFs of which a file is."""
        labels = [0, *map(self.data_set.label_of, classes)]

        def is_missing(folder: Path) -> bool:
            return load_whole(load_label_map, folder / f"{image_id}.png", self.data_set, shape=shape) is None

        def crf_labels(folder: Path) -> list[int]:
            return list(load_whole(load_crf, folder / f"{image_id}.npy", self.data_set, shape=shape) or ())

        return is_missing(self.cam_png), [
            recipe for recipe, folder in self.crf.items() if is_missing(folder) or crf_labels(folder) != labels
        ]

    def remove_seeds(self, image_id: str) -> None:
        """Remove what was made from an older CAM, so that nobody takes it for the new one's."""
        seeds = [self.cam_png / f"{image_id}.png"]
        seeds += [] if self.overlay is None else [self.overlay / f"{image_id}.png"]
        seeds += [folder / f"{image_id}.{suffix}" for folder in self.crf.values() for suffix in ("npy", "png")]
        for path in seeds:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{path}: cannot be removed and made anew ({error.strerror})") from error


def load_whole(load: Callable[..., Any], path: Path, *arguments: Any, **options: Any) -> Any:
    """What `load` reads at `path`; None where no file is, or a damaged one or another than `load` is asked for: it is
    made anew."""
    try:
        return load(path, *arguments, **options) if path.exists() else None
    except UserError:
        return None
