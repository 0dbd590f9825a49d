"""Label maps, labels and lists from PASCAL Context's annotations.

    python -m context.prepare --context_root VOC2010 --out context

takes VOC 2010's JPEGImages and, beside it, Context's trainval/<id>.mat, train.txt and val.txt; it writes
SegmentationClassContext/<id>.png, where they are not there yet, and cls_labels.npy, train.txt and val.txt into --out.
An image's labels are the classes in its mask. Run again after a stop, it goes on where it stopped.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from context.classes import ANNOTATIONS, CONTEXT, IMAGES, MASKS, NUMBERS
from context.mat import load_mat
from data.converted import Split, parse_root, prepare, require_parts, table_of
from tool.cli import UserError, run_script
from tool.lists import read_ids

LISTS = ("train", "val")
LARGEST = 2**16 - 1  # that an annotation's number can be; those that are no class are void
TABLE = table_of(dict(zip(NUMBERS, range(len(NUMBERS)), strict=True)), void=range(LARGEST + 1), size=LARGEST + 1)
EXAMPLES = """\
  python -m context.prepare --context_root VOC2010
"""


def parse_arguments():
    root = f"{IMAGES}, {ANNOTATIONS}, train.txt and val.txt in it"
    return parse_root("context.prepare", CONTEXT, root=root, examples=EXAMPLES)


def mat_numbers(path: Path) -> np.ndarray:
    """The array LabelMap of a MATLAB file, whole numbers (H, W). Raises `UserError`."""
    found = load_mat(path, "LabelMap")
    if found.dtype.kind == "f":  # MATLAB's own class of numbers, whole ones too
        is_whole = (np.abs(found) <= 2**53) & (found == np.rint(found))
        found = found.astype(np.int64) if is_whole.all() else found
    if found.ndim != 2 or found.dtype.kind not in "iu":
        raise UserError(f"{path}: expected whole numbers (height, width) under LabelMap, found something else")
    return found


def main() -> None:
    args = parse_arguments()
    root = require_parts(args.root, [IMAGES, ANNOTATIONS], CONTEXT)
    splits = [
        Split(
            name, sorted(read_ids(root / f"{name}.txt", "--context_root")), root / IMAGES, root / ANNOTATIONS, ".mat",
            root / MASKS,
        )
        for name in LISTS
    ]  # fmt: skip
    prepare(splits, args, read=mat_numbers, table=TABLE, data_set=CONTEXT)


if __name__ == "__main__":
    run_script(main)
