"""Score label maps as DHR does: mIoU, and the means of false positives and of false negatives.

    python rebalance/evaluate.py --pred_dir exps/dhr/validation --gt_dir VOC2012/SegmentationClass --tag DHR

All images of the ground truth's folder, or of --list, count, but for those without an object, and without a prediction;
a label that occurs in neither is left out of the means. eval.py counts an image of its list always, and such a label
as 0.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python evaluate.py` finds the packages from any folder
import numpy as np

from data.descriptions import add_data_set_flag, find_data_set
from data.score import count_images, has_object
from tool.artifact import load_label_map, write_json
from tool.cli import (
    FILE,
    UserError,
    add_switch,
    cores,
    first_few,
    pace,
    path_text,
    path_value,
    positive,
    printable,
    raise_problems,
    require_folder,
    require_writable,
    run_script,
    script_parser,
    what_is_at,
)
from tool.dataset import DataSet
from tool.lists import Source, find_masks, read_ids
from tool.metric import false_rates, iou, occurs
from tool.places import visible

TAG_WIDTH = 30  # in the line, as released
EXAMPLES = """\
  python rebalance/evaluate.py --pred_dir exps/dhr/validation --gt_dir VOC2012/SegmentationClass
  # every image must have a prediction
  python rebalance/evaluate.py --pred_dir exps/dhr/validation --strict \\
      --gt_dir VOC2012/SegmentationClass
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("mIoU, mFPR and mFNR of label maps.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    add_data_set_flag(data)
    data.add_argument("--pred_dir", type=path_value, required=True, help="label maps, <id>.png")
    data.add_argument("--gt_dir", type=path_value, required=True, help="ground truth, <id>.png; 255 is left out")
    data.add_argument("--list", type=path_text, help="ids to score (all of --gt_dir)")
    add_switch(data, "--strict", default=False, help="refuse images without a prediction (False: left out)")
    add_switch(
        data, "--count_empty", default=False, help="also images without an object, as released for COCO (%(default)s)"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--tag", default="DHR", help="what is scored, for the line (%(default)s)")
    output.add_argument("--json", type=path_value, metavar="FILE", help="write the scores there too")
    run = parser.add_argument_group("run")
    run.add_argument("--num_workers", type=positive, default=cores(), help="processes (the cores, %(default)s)")
    return parser.parse_args()


def find_truths(args: argparse.Namespace, data_set: DataSet) -> list[Path]:
    """The masks of the list, which may lie in the data set's folders below --gt_dir, or all of the folder itself.

    Raises `UserError` where there are none.
    """
    require_folder(args.gt_dir, "--gt_dir", "ground truth, <id>.png")
    if args.list is not None:
        ids, source = read_ids(args.list, "--list"), Source("--list", args.list)
        found = find_masks(ids, args.gt_dir, data_set, flag="--gt_dir", source=source)
        missing = [f"{path}: no such file" for path in found.values() if what_is_at(path) != FILE]
        raise_problems(f"--gt_dir {args.gt_dir}: ground truth of {source} that is missing; nothing was scored", missing)
        return list(found.values())
    truths = visible(args.gt_dir, ".png")
    if not truths:
        raise UserError(
            f"--gt_dir {args.gt_dir}: expected ground truth, <id>.png, found no such file; masks in several folders"
            " need a --list"
        )
    return truths


def find_pairs(args: argparse.Namespace, data_set: DataSet) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """(prediction, ground truth) of each image that has both, and the ground truths that count and have no prediction.

    Raises `UserError` where there are none of the first, for ground truths without a prediction that cannot be read,
    and with `--strict` for some of the second.
    """
    require_folder(args.pred_dir, "--pred_dir", "label maps, <id>.png")
    truths = find_truths(args, data_set)
    predicted = {path.name for path in args.pred_dir.glob("*.png")}
    pairs = [(args.pred_dir / truth.name, truth) for truth in truths if truth.name in predicted]
    if not pairs:
        raise UserError(
            f"--pred_dir {args.pred_dir}: expected label maps for the ground truth of --gt_dir {args.gt_dir}, as"
            f" {truths[0].name}; found none of its {len(truths)}"
        )
    lacking, problems = [], []
    for truth in (path for path in truths if path.name not in predicted):
        try:
            if args.count_empty or has_object(load_label_map(truth, data_set), data_set):
                lacking.append(truth)
        except UserError as error:
            problems.append(str(error))
    raise_problems(f"--gt_dir {args.gt_dir}: ground truth that cannot be used; nothing was scored", problems)
    if args.strict:
        raise_problems(
            f"--strict: {args.pred_dir}: images without a prediction; nothing was scored",
            [truth.name for truth in lacking],
        )
    return pairs, lacking


def summarise(counts: np.ndarray, data_set: DataSet) -> dict[str, Any]:
    """The scores of int64 counts (3, L), as released: mIoU in per cent, mFPR, mFNR, and each occurring label's."""
    there = occurs(counts)
    scores = np.stack([100 * iou(counts), *false_rates(counts)])[:, there]
    names = [name for name, is_there in zip(data_set.label_names, there, strict=True) if is_there]
    each = [dict(zip(("IoU", "FPR", "FNR"), values, strict=True)) for values in scores.T.tolist()]
    means = dict(zip(("mIoU", "mFPR", "mFNR"), scores.mean(axis=1).tolist(), strict=True))
    return {**means, "classes": dict(zip(names, each, strict=True))}


def line_of(summary: dict[str, Any], tag: str) -> str:
    """The released line of a `summarise`d score."""
    scores = f"mIoU: {summary['mIoU']:.1f}%, mFPR: {summary['mFPR']:.3f}, mFNR: {summary['mFNR']:.3f}"
    return f"# {printable(tag):>{TAG_WIDTH}} | {scores}"


def as_text(summary: dict[str, Any], data_set: DataSet) -> str:
    """The table of a `summarise`d score."""
    width = max(map(len, summary["classes"]))
    lines = [f"{'':{width}}    IoU    FPR    FNR"]
    lines += [
        f"{name:{width}} {each['IoU']:6.2f}  {each['FPR']:.3f}  {each['FNR']:.3f}"
        for name, each in summary["classes"].items()
    ]
    if absent := data_set.num_labels - len(summary["classes"]):
        lines.append(f"note: labels that occur nowhere, left out of the means: {absent} of {data_set.num_labels}")
    return "\n".join(lines)


def main() -> None:
    args = parse_arguments()
    if args.json is not None:
        require_writable(args.json, "--json")
    data_set = find_data_set(args.data_set)
    pairs, lacking = find_pairs(args, data_set)
    started = time.perf_counter()
    counts, images = count_images(
        pairs, "png", data_set, num_workers=args.num_workers, of_255="wrong", objects_only=not args.count_empty
    )
    time_taken = pace(started, len(pairs))
    summary = summarise(counts[:, 0], data_set)
    line = line_of(summary, args.tag)
    if args.json is not None:
        about = {"images": images, "without_prediction": [truth.stem for truth in lacking], "line": line}
        write_json(args.json, {**summary, **about})
    print(f"scored {images} images {time_taken}\n{as_text(summary, data_set)}")
    if lacking:
        named = printable(first_few([truth.stem for truth in lacking]))
        print(f"note: images without a prediction, left out ({len(lacking)}): {named}")
    print(line)


if __name__ == "__main__":
    run_script(main)
