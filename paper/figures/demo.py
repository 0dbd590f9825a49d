"""Where `demo.py` puts its files, and which of its images went well."""

import json
from dataclasses import dataclass
from pathlib import Path

from data.labels import load_labels
from tool.artifact import load_label_map
from tool.cli import NOTHING, UserError, what_is_at
from tool.dataset import IGNORE
from tool.lists import read_ids
from voc12.classes import VOC12


@dataclass(frozen=True)
class Demo:
    """The folder that `demo.py --out` was given, once HSC and the DeepLab on its seeds are done."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def voc(self) -> Path:
        return self.data / "VOC2012"

    @property
    def run(self) -> Path:
        return self.root / "hsc"

    @property
    def weights(self) -> Path:
        return self.run / "hsc.pth"

    @property
    def crf_seeds(self) -> Path:
        return self.run / "crf" / "crf_8_7"

    @property
    def predictions(self) -> Path:
        return self.root / "deeplab_seeds" / "results" / "VOC2012" / "Segmentation" / "comp6_val_cls"

    @property
    def score(self) -> Path:
        """Written last, when everything that the figures show is there."""
        return self.root / "deeplab_seeds" / "results" / "val_score.json"

    def require(self) -> None:
        """Raise `UserError` if the demo has not come to its end here."""
        for path in (self.data, self.weights, self.run / "last.ckpt", self.crf_seeds, self.score):
            if what_is_at(path) == NOTHING:
                raise UserError(
                    f"--demo {self.root}: expected what demo.py writes, found no {path.relative_to(self.root)} in it;"
                    " run make demo first, or name the folder that its --out named"
                )

    def settings(self) -> dict:
        """The flags that HSC was trained with."""
        path = self.run / "args.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path}: cannot be read as demo.py leaves it ({error}); run make demo anew") from error

    def ids(self, name: str) -> list[str]:
        return read_ids(self.data / f"{name}.txt")

    def image(self, image_id: str) -> Path:
        return self.voc / "JPEGImages" / f"{image_id}.jpg"

    def truth(self, image_id: str) -> Path:
        return self.voc / "SegmentationClass" / f"{image_id}.png"

    def best(self, name: str, folder: Path, *, count: int) -> list[str]:
        """Of the list `name` the `count` images of two classes, where there are such, whose label maps in `folder`
        agree best with the truth: the figures show what went well, and say so."""
        labels, ids = load_labels(self.data / "cls_labels.npy", VOC12), self.ids(name)

        def merit(image_id: str) -> tuple[bool, float]:
            found, truth = (load_label_map(path, VOC12) for path in (folder / f"{image_id}.png", self.truth(image_id)))
            return labels[image_id].sum() == 2, float((found == truth)[truth != IGNORE].mean())

        return sorted(ids, key=merit, reverse=True)[:count]
