"""Label maps from masks that hold VOC's colours, or another label than 255 at the border.

    python -m voc12.relabel --masks colour_masks --out label_masks

Other projects and annotation tools write such masks. Masks that hold label indices already are written as they are.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from data.prepared import make_folder
from tool.artifact import check_labels, read_mask, save_label_map
from tool.cli import UserError, pace, path_text, printable, raise_problems, require_folder, run_script, script_parser
from tool.colour import voc_palette
from tool.dataset import IGNORE
from tool.places import misplaced, visible
from tool.progress import Bar
from voc12.classes import NUM_CLASSES, VOC12

EXAMPLES = """\
  # masks in VOC's colours
  python -m voc12.relabel --masks colour_masks --out label_masks
  # masks whose border is label 21
  python -m voc12.relabel --masks masks --border 21 --out label_masks
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "Label maps from masks that hold VOC's colours, or another label than 255 at the border.",
        examples=EXAMPLES,
        prog="python -m voc12.relabel",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--masks", type=path_text, required=True, metavar="DIR", help="masks, <id>.png")
    data.add_argument(
        "--border", type=border, metavar="LABEL", help="the label of the border, 21 to 254, which becomes 255 (none)"
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=path_text, required=True, metavar="DIR", help="folder for the label maps, <id>.png"
    )
    return parser.parse_args()


def border(text: str) -> int:
    """An argparse type: a label that no class has."""
    if not (text.isdecimal() and NUM_CLASSES < int(text) < IGNORE):
        raise argparse.ArgumentTypeError(f"expected a label of {NUM_CLASSES + 1} to {IGNORE - 1}, got {text!r}")
    return int(text)


def label_map(path: Path, border: int | None) -> np.ndarray:
    """The labels, uint8 (H, W), 0 to 20 or 255, of the mask at `path`; `UserError` for one that is neither."""
    pixels, colours = read_mask(path, VOC12)
    labels = labels_of_colours(path, pixels, border) if colours else pixels
    labels[labels == border] = IGNORE
    check_labels(path, labels, VOC12, ignore=True)
    return labels


def labels_of_colours(path: Path, colours: np.ndarray, border: int | None) -> np.ndarray:
    """The labels, uint8 (H, W), with colours, uint8 (H, W, 3), of VOC's palette; `UserError` names others."""
    weights = np.array([1 << 16, 1 << 8, 1])  # make one number of a colour
    numbers, palette = colours @ weights, voc_palette() @ weights
    labels = np.full(numbers.shape, -1, np.int16)
    for label in (*range(NUM_CLASSES + 1), IGNORE, *([] if border is None else [border])):
        labels[numbers == palette[label]] = label
    if (labels < 0).any():
        strange, counts = np.unique(colours[labels < 0], axis=0, return_counts=True)
        shown = ", ".join(str(tuple(strange[k].tolist())) for k in counts.argsort()[:-6:-1])
        raise UserError(
            f"{path}: expected the colours of VOC's labels alone, found {counts.sum()} pixels of others,"
            f" first {shown}; a mask that was resized smoothly or saved as JPEG has lost its labels"
        )
    return labels.astype(np.uint8)


def main() -> None:
    args = parse_arguments()
    started = time.perf_counter()
    masks, out = require_folder(args.masks, "--masks", "masks, <id>.png"), Path(args.out)
    paths = visible(masks, ".png")
    if not paths:
        why = misplaced(masks, ".png", fixed=False) or f"{masks}: expected masks, <id>.png, found none"
        raise UserError(f"--masks {why}")
    if out.resolve() == masks.resolve():
        raise UserError(f"--out {out}: expected another folder than --masks; name a new one")
    make_folder(out)
    problems = []
    for path in Bar(paths, desc="masks", unit="image"):
        try:
            labels = label_map(path, args.border)
        except UserError as error:
            problems.append(str(error))
        else:
            save_label_map(out / path.name, labels, VOC12)
    print(f"wrote {len(paths) - len(problems)} label maps to {printable(out)} {pace(started, len(paths))}")
    raise_problems(f"--masks {masks}: masks that were not converted", problems)


if __name__ == "__main__":
    run_script(main)
