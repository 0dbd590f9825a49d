"""Label maps of CRF posteriors: the likeliest label of each pixel, for stage 3 to train on.

    python refine/label_maps.py --crf_dir exps/crf/crf_5_8 --infer_list voc12/train_aug.txt --out_dir exps/masks

inference.py writes such maps beside its posteriors; this is for posteriors that are made elsewhere. Runs again from
where it stopped.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python label_maps.py` from any folder
from data.cams import folder_of_dicts
from data.descriptions import add_data_set_flag, find_data_set, require_background
from tool.artifact import labels_of_posteriors, load_label_map, load_label_scores, load_whole, save_label_map
from tool.cli import UserError, pace, path_text, path_value, raise_problems, run_script, script_parser
from tool.dataset import DataSet
from tool.folder import Claim, claim_folders, made_with
from tool.lists import Source, read_ids
from tool.progress import Bar

EXAMPLES = """\
  # of the CRF dicts of EPS's own code
  python refine/label_maps.py --crf_dir eps/crf --infer_list voc12/train_aug.txt \\
      --out_dir exps/masks
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Label maps of CRF posteriors that are made elsewhere.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    data.add_argument("--crf_dir", type=path_value, required=True, help="folder of posteriors, <id>.npy: CRF dicts")
    data.add_argument("--infer_list", type=path_text, required=True, help="ids (voc12/train_aug.txt)")
    data.add_argument("--out_dir", type=path_value, required=True, help="folder of the label maps, <id>.png")
    add_data_set_flag(data)
    return parser.parse_args()


def open_output(args: argparse.Namespace) -> None:
    """Create the folder of label maps and keep others out; refuse one of other posteriors."""
    if args.out_dir.resolve() == args.crf_dir.resolve():
        raise UserError(f"--out_dir {args.out_dir}: expected another folder than --crf_dir")
    made = {"settings.json of --crf_dir": made_with(args.crf_dir)}
    claim_folders([Claim(args.out_dir, "--out_dir", made)])


def write_missing(ids: Sequence[str], crf_dir: Path, out: Path, data_set: DataSet) -> int:
    """Write the label maps in `out` that are missing, damaged or not those of the posteriors in `crf_dir`.

    Returns how many. Raises `UserError` with a line for each image that has none, after all others.
    """
    problems, made = [], 0
    for image_id in Bar(ids, desc="label maps", unit="image"):
        try:
            labels = labels_of_posteriors(load_label_scores(crf_dir / f"{image_id}.npy", data_set))
        except UserError as error:
            problems.append(str(error))
            continue
        if not holds(out / f"{image_id}.png", labels, data_set):
            save_label_map(out / f"{image_id}.png", labels, data_set)
            made += 1
    raise_problems("images that gave no label map; the others are done", problems)
    return made


def holds(path: Path, labels: np.ndarray, data_set: DataSet) -> bool:
    """Whether the label map `labels` is at `path`, whole."""
    found = load_whole(load_label_map, path, data_set)
    return found is not None and np.array_equal(found, labels)


def main() -> None:
    args = parse_arguments()
    data_set = find_data_set(args.data_set)
    require_background(data_set)
    ids = read_ids(args.infer_list, "--infer_list")
    source = Source("--infer_list", args.infer_list)
    folder_of_dicts(args.crf_dir, ids, flag="--crf_dir", what="CRF posteriors", source=source)
    open_output(args)
    started = time.perf_counter()
    made = write_missing(ids, args.crf_dir, args.out_dir, data_set)
    print(
        f"{made} of {len(ids)} images done {pace(started, made)}"
        if made
        else f"nothing is missing of {len(ids)} images"
    )
    print(f"  {args.out_dir}")


if __name__ == "__main__":
    run_script(main)
