"""Label maps, labels and lists from ADE20K's annotations of the scene parsing challenge 2016.

    python -m ade.prepare --ade_root ADEChallengeData2016 --out ade

takes images/{training,validation}/<id>.jpg and annotations/{training,validation}/<id>.png, in which 0 is what has no
label; it writes SegmentationClass/{training,validation}/<id>.png, where they are not there yet, and cls_labels.npy,
train.txt and val.txt into --out. An image's labels are the classes in its mask. Run again, it goes on where it stopped.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from ade.classes import ADE, ANNOTATIONS, IMAGES, MASKS, SPLITS
from data.converted import Split, ids_in, parse_root, png_numbers, prepare, require_parts, table_of
from tool.cli import run_script

LISTS = dict(zip(SPLITS, ("train", "val"), strict=True))
TABLE = table_of({label + 1: label for label in range(ADE.num_labels)}, void=[0], size=ADE.num_labels + 1)
EXAMPLES = """\
  python -m ade.prepare --ade_root ADEChallengeData2016
"""


def parse_arguments():
    return parse_root("ade.prepare", ADE, root=f"{IMAGES} and {ANNOTATIONS} in it", examples=EXAMPLES)


def main() -> None:
    args = parse_arguments()
    parts = [f"{kind}/{split}" for kind in (IMAGES, ANNOTATIONS) for split in SPLITS]
    root = require_parts(args.root, parts, ADE)
    splits = []
    for split, name in LISTS.items():
        masks = root / ANNOTATIONS / split
        splits.append(Split(name, ids_in(masks, ".png"), root / IMAGES / split, masks, ".png", root / MASKS / split))
    prepare(splits, args, read=png_numbers, table=TABLE, data_set=ADE)


if __name__ == "__main__":
    run_script(main)
