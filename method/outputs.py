"""The files that stage 1 makes of an image, of any method: where they go, and which of them are there and whole."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tool.artifact import load_cam, load_crf, load_label_map, load_whole
from tool.cli import UserError
from tool.dataset import DataSet
from tool.image import load_image
from tool.irn_cam import load_irn_cam
from tool.msa_cam import load_msa_cam
from tool.seed_recipe import CRFRecipe


@dataclass(frozen=True)
class Outputs:
    """Where an image's files go, and what settings they have. The seeds, label maps and CRF, follow from the CAMs.

    irn, msa: of the CAMs in IRN's form, at two sizes, and in MSA's. sweep: of more label maps, by background's score.
    """

    cam_npy: Path
    cam_png: Path | None
    crf: dict[CRFRecipe, Path]  # the folder of each
    overlay: Path | None
    threshold: float
    data_set: DataSet
    irn: Path | None = None
    msa: Path | None = None
    sweep: dict[float, Path] = field(default_factory=dict)

    @property
    def folders(self) -> list[Path]:
        folders = (self.cam_npy, self.cam_png, *self.crf.values(), self.overlay, self.irn, self.msa)
        return [*(folder for folder in folders if folder is not None), *self.sweep.values()]

    @property
    def label_maps(self) -> list[tuple[float, Path]]:
        """The background scores of label maps, each with the folder of its files."""
        return [*([] if self.cam_png is None else [(self.threshold, self.cam_png)]), *self.sweep.items()]

    def lacks_overlay(self, image_id: str) -> bool:
        def load(path: Path) -> Image.Image:
            return load_image(path, "RGB")

        if self.overlay is None:
            return False
        path = self.overlay / f"{image_id}.png"
        return load_whole(load, path) is None or self._is_older(path)

    def _is_older(self, path: Path) -> bool:
        """Whether an image's file is older than its CAM dict: `remove_seeds` knows only the folders of its own call."""
        cam = self.cam_npy / f"{path.stem}.npy"
        return path.stat().st_mtime_ns < cam.stat().st_mtime_ns

    def has_cam(self, image_id: str, classes: list[int], shape: tuple[int, int]) -> bool:
        """Whether the image's CAM dict is there, whole, of its classes and its (height, width), and the other forms
        that are asked for."""
        cams = load_whole(load_cam, self.cam_npy / f"{image_id}.npy", self.data_set, shape=shape)
        if cams is None or list(cams) != classes:
            return False
        if self.msa is not None:
            msas = load_whole(load_msa_cam, self.msa / f"{image_id}.npy", self.data_set, shape=shape)
            if msas is None or not msas.keys() <= {*classes}:  # without those that are 0 everywhere
                return False
        if self.irn is None:
            return True
        irns = load_whole(load_irn_cam, self.irn / f"{image_id}.npy", self.data_set, shape=shape)
        return irns is not None and irns[0].tolist() == classes

    def missing_seeds(self, image_id: str, classes: list[int], shape: tuple[int, int]) -> tuple[bool, list[CRFRecipe]]:
        """Whether a label map is missing, damaged, of another image or older than its CAM dict, and the CRFs of which a
        file is missing, damaged, or of another image or other labels."""
        labels = [0, *map(self.data_set.label_of, classes)]

        def is_missing(folder: Path) -> bool:
            return load_whole(load_label_map, folder / f"{image_id}.png", self.data_set, shape=shape) is None

        def crf_labels(folder: Path) -> list[int]:
            return list(load_whole(load_crf, folder / f"{image_id}.npy", self.data_set, shape=shape) or ())

        def is_stale(folder: Path) -> bool:
            return is_missing(folder) or self._is_older(folder / f"{image_id}.png")

        return any(is_stale(folder) for _, folder in self.label_maps), [
            recipe for recipe, folder in self.crf.items() if is_missing(folder) or crf_labels(folder) != labels
        ]

    def remove_seeds(self, image_id: str) -> None:
        """Remove what was made from an older CAM, so that nobody takes it for the new one's."""
        seeds = [folder / f"{image_id}.png" for _, folder in self.label_maps]
        seeds += [] if self.overlay is None else [self.overlay / f"{image_id}.png"]
        seeds += [folder / f"{image_id}.{suffix}" for folder in self.crf.values() for suffix in ("npy", "png")]
        for path in seeds:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{path}: cannot be removed and made anew ({error.strerror})") from error
