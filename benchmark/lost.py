"""Which objects did label maps lose, and do they come back in what a segmentation that learnt from such maps predicts?

    python -m benchmark.lost --gt_dir VOC2012/SegmentationClass --list voc12/train.txt --masks exps/hsc/crf/crf_8_7 \\
        --pred_dir PLAIN DHR

PLAIN and DHR are folders of label maps of these images, as rebalance/masks.py --infer_list voc12/train.txt makes them.

An object is a class in an image's ground truth. Label maps have lost it if none of their pixels is of its class.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.descriptions import add_data_set_flag, find_data_set
from data.score_table import named_labels
from tool.artifact import load_label_map
from tool.cli import path_text, path_value, run_script
from tool.dataset import DataSet
from tool.lists import Source, find_masks, read_ids


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Objects that label maps lost, and which of them come back.")
    parser.add_argument("--gt_dir", type=path_text, required=True, help="ground truth, <id>.png")
    parser.add_argument("--list", type=path_text, default="voc12/train.txt", help="ids to count (%(default)s)")
    parser.add_argument("--masks", type=path_value, required=True, help="label maps that lost objects, <id>.png")
    parser.add_argument(
        "--pred_dir", type=path_value, nargs="+", required=True, help="what learnt from such maps predicts, <id>.png"
    )
    parser.add_argument("--classes", nargs="+", default=[], metavar="NAME", help="that count (all)")
    add_data_set_flag(parser)
    return parser.parse_args()


def labels_there(files: Mapping[str, Path], data_set: DataSet, labels: Sequence[int]) -> np.ndarray:
    """Whether each image has a pixel of each of `labels`: bool (images, labels)."""
    return np.stack([np.isin(labels, np.unique(load_label_map(path, data_set))) for path in files.values()])


def count_lost(truth: np.ndarray, masks: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """What became of the objects of `truth`; all bool (images, labels).

    Returns:
        of those that `masks` lost, how many are back in `predicted`; of those that masks have, how many it lost in its
        turn; and how many classes of images it has that the truth has not.
    """
    lost = truth & ~masks
    return {
        "back": int((lost & predicted).sum()),
        "newly lost": int((truth & masks & ~predicted).sum()),
        "invented": int((predicted & ~truth).sum()),
    }


def main() -> None:
    args = parse_arguments()
    data_set, source = find_data_set(args.data_set), Source("--list", args.list)
    ids = read_ids(args.list, "--list")
    labels = [label for label in named_labels(args.classes, data_set) if label >= data_set.label_of(0)]  # no background
    folders = [("--gt_dir", args.gt_dir), ("--masks", args.masks), *(("--pred_dir", path) for path in args.pred_dir)]
    truth, masks, *predicted = (
        labels_there(find_masks(ids, path, data_set, flag=flag, source=source), data_set, labels)
        for flag, path in folders
    )
    print(f"{truth.sum()} objects of {len(ids)} images; the label maps have lost {(truth & ~masks).sum()} of them and")
    print(f"invented {(masks & ~truth).sum()}")
    print("\n| predictions | back | newly lost | invented |\n| --- | --- | --- | --- |")
    for path, found in zip(args.pred_dir, predicted, strict=True):
        print(f"| {path} | {' | '.join(map(str, count_lost(truth, masks, found).values()))} |")


if __name__ == "__main__":
    run_script(main)
