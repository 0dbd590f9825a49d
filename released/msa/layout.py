"""Where MSA's scripts look for each of its data sets: its dataset_root.py, and the lists that `prepare` makes here."""

from collections.abc import Sequence
from typing import NamedTuple

from released.table import Row
from tool.cli import script_parser

VOC = "../VOCtrainval_11-May-2012/VOCdevkit/VOC2012"
COCO = "../COCO"


class Layout(NamedTuple):
    """A data set by our name, its folders, and its lists: to train on, to score superpixels and seeds on."""

    name: str
    images: str
    masks: str
    saliency: str
    labels: str
    train: str
    superpixels: str
    seeds: str

    def rows(self, val_list: str) -> list[Row]:
        """The rows of the data set; our own flags among them name other places."""
        return [
            Row("--dataset", self.name, "--data_set", self.name),
            Row("--data_root", self.images, "--data_root"),
            Row("--gt_dir", self.masks, "--gt_dir"),
            Row("--train_list", self.train, "--train_list"),
            Row("--val_list", val_list, "--val_list"),
        ]


LAYOUTS = {
    "voc12": Layout(
        "voc12",
        images=f"{VOC}/JPEGImages",
        masks=f"{VOC}/SegmentationClassAug",
        saliency=f"{VOC}/saliency_map",
        labels="voc12/cls_labels.npy",
        train="voc12/train_aug.txt",
        superpixels="voc12/train.txt",
        seeds="voc12/train_600.txt",
    ),
    "coco": Layout(
        "coco14",
        images=COCO,
        masks=COCO,
        saliency=f"{COCO}/saliency_maps_poolnet",
        labels="coco14/cls_labels.npy",
        train="coco14/train.txt",
        superpixels="coco14/train_1000.txt",
        seeds="coco14/train_1000.txt",
    ),
}


def layout_named(words: Sequence[str]) -> Layout:
    """The data set that --dataset among `words` names; ends with one line and 2 for one that MSA has not."""
    parser = script_parser("", add_help=False)
    parser.add_argument("--dataset", choices=LAYOUTS, default="voc12")
    return LAYOUTS[parser.parse_known_args(words)[0].dataset]
