"""Score instances against a data set's true ones: VOC's average precision at an IoU of .5.

    python refine/irn/score_instances.py --predict_dir exps/ins_seg --list voc12/train.txt \\
        --gt_dir VOC2012/SegmentationClass --object_dir VOC2012/SegmentationObject

Prints the mean over the classes that occur, and each class's; --json writes them.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python score_instances.py` finds the packages from any folder
import numpy as np

from data.descriptions import add_data_set_flag, find_data_set, require_background
from tool.artifact import load_label_map, read_mask, write_json
from tool.cli import (
    UserError,
    path_text,
    path_value,
    raise_problems,
    require_folder,
    require_writable,
    run_script,
    script_parser,
)
from tool.dataset import IGNORE, DataSet
from tool.instances import Instances, average_precision, load_instances
from tool.lists import Source, find_masks, read_ids

EXAMPLES = """\
  python refine/irn/score_instances.py --predict_dir exps/ins_seg --list voc12/train.txt \\
      --gt_dir VOC2012/SegmentationClass --object_dir VOC2012/SegmentationObject
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Average precision of instances at an IoU of .5.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--predict_dir", type=path_value, required=True, help="instances, <id>.npy, of infer.py")
    data.add_argument("--list", type=path_text, required=True, help="ids to score (voc12/train.txt)")
    data.add_argument("--gt_dir", type=path_value, required=True, help="true masks by class (SegmentationClass)")
    data.add_argument("--object_dir", type=path_value, required=True, help="true masks by object (SegmentationObject)")
    add_data_set_flag(data)
    data.add_argument("--json", type=path_value, metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


def true_instances(labels: np.ndarray, objects: np.ndarray, data_set: DataSet) -> Instances:
    """Those of an image, from its true labels, uint8 (H, W), and the numbers of its objects, uint8 (H, W), where 0 and
    255 are none. An object's class is the most frequent of its pixels, which may lie on another's border."""
    found = Instances.none(labels.shape)
    for number in np.unique(objects[(objects != 0) & (objects != IGNORE)]):
        mask = objects == number
        inside = labels[mask & (labels != 0) & (labels != IGNORE)]
        if inside.size:
            found.add(1.0, mask, data_set.class_of(int(np.bincount(inside).argmax())))
    return found


def read_image(args: argparse.Namespace, image_id: str, truth: Path, data_set: DataSet) -> tuple[Instances, Instances]:
    """The found and the true instances of an image. truth: its mask by class."""
    path = args.object_dir / f"{image_id}.png"
    labels = load_label_map(truth, data_set)
    objects, colours = read_mask(path, data_set)
    if colours or objects.shape != labels.shape:
        found = colours or " x ".join(map(str, objects.shape))
        raise UserError(f"{path}: expected numbers of objects, of the size of the image's mask, found {found}")
    found = load_instances(args.predict_dir / f"{image_id}.npy", data_set, shape=labels.shape)
    return found, true_instances(labels, objects, data_set)


def read_images(
    args: argparse.Namespace, truths: Mapping[str, Path], data_set: DataSet, problems: list[str]
) -> Iterator[tuple[Instances, Instances]]:
    """What `read_image` gives of each of `truths`, masks by class by id, one after the other: the masks of a whole list
    would fill the memory. What is wrong with those that cannot be read joins `problems`."""
    for image_id, truth in truths.items():
        try:
            yield read_image(args, image_id, truth, data_set)
        except UserError as error:
            problems.append(str(error))


def main() -> None:
    args = parse_arguments()
    if args.json is not None:
        require_writable(args.json, "--json")
    data_set = find_data_set(args.data_set)
    require_background(data_set)
    require_folder(args.predict_dir, "--predict_dir", "instances, <id>.npy")
    require_folder(args.gt_dir, "--gt_dir", "true masks by class, <id>.png")
    require_folder(args.object_dir, "--object_dir", "true masks by object, <id>.png")
    ids, source = read_ids(args.list, "--list"), Source("--list", args.list)
    truths = find_masks(ids, args.gt_dir, data_set, flag="--gt_dir", source=source)
    problems: list[str] = []
    precision = average_precision(read_images(args, truths, data_set, problems), data_set.num_classes)
    raise_problems(f"--list {args.list}: files that cannot be scored", problems)
    occur = {name: float(value) for name, value in zip(data_set.classes, precision, strict=True) if value == value}
    if not occur:
        raise UserError(f"--object_dir {args.object_dir}: no image of the list has an object")
    mean = sum(occur.values()) / len(occur)
    for name, value in occur.items():
        print(f"{name:<16}{100 * value:6.1f}")
    print(f"{'mAP at IoU .5':<16}{100 * mean:6.1f}")
    if args.json is not None:
        write_json(args.json, {"mAP": mean, "AP": occur})


if __name__ == "__main__":
    run_script(main)
