"""A generated data set in COCO's layout, with what `coco14.prepare` makes of it, for all tests of this folder."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from coco14 import mini
from tests.scripts.conftest import ROOT, assert_succeeded, forker

SETTINGS = {"seed": 3, "train": 12, "val": 12, "size": 48}  # of each twelfth scene one is empty


@dataclass(frozen=True)
class Coco:
    """root: COCO's own folder. lists: the folder of labels and lists."""

    root: Path
    lists: Path

    def annotations(self, split: str) -> Path:
        return self.root / "annotations" / f"instances_{split}.json"


def prepare(root: Path, out: Path, *words: object):
    return forker().run(["-m", "coco14.prepare", "--coco14_root", root, "--out", out, "--num_workers", 2, *words], ROOT)


@pytest.fixture(scope="session")
def coco(tmp_path_factory) -> Coco:
    folder = tmp_path_factory.mktemp("coco")
    root = mini.generate(folder, **SETTINGS)
    assert_succeeded(prepare(root, folder / "lists", "--saliency_root", root / "saliency"))
    return Coco(root, folder / "lists")
