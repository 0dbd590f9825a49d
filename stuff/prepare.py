"""Label maps, labels and lists from COCO-Stuff's masks.

    python -m stuff.prepare --stuff_root COCO --out stuff

takes COCO 2017's train2017/<id>.jpg and val2017/<id>.jpg and the masks of stuffthingmaps_trainval2017.zip, unpacked in
stuffthingmaps/{train2017,val2017}/<id>.png, which have 182 numbers; it writes
SegmentationClassStuff/{train2017,val2017}/<id>.png of 171 labels, where they are not there yet, and cls_labels.npy,
train.txt and val.txt into --out. An image's labels are the classes in its mask. Run again, it goes on where it stopped.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from data.converted import Split, ids_in, parse_root, png_numbers, prepare, require_parts, table_of
from stuff.classes import ANNOTATIONS, CATEGORIES, MASKS, SPLITS, STUFF, UNUSED_CATEGORIES
from tool.cli import run_script
from tool.dataset import IGNORE

LISTS = dict(zip(SPLITS, ("train", "val"), strict=True))
USED = [number for number in range(CATEGORIES) if number not in UNUSED_CATEGORIES]
TABLE = table_of(dict(zip(USED, range(len(USED)), strict=True)), void=[IGNORE], size=IGNORE + 1)
EXAMPLES = """\
  python -m stuff.prepare --stuff_root COCO
"""


def parse_arguments():
    root = f"{', '.join(SPLITS)} and {ANNOTATIONS} in it"
    return parse_root("stuff.prepare", STUFF, root=root, examples=EXAMPLES)


def main() -> None:
    args = parse_arguments()
    root = require_parts(args.root, [*SPLITS, *(f"{ANNOTATIONS}/{split}" for split in SPLITS)], STUFF)
    splits = []
    for split, name in LISTS.items():
        masks = root / ANNOTATIONS / split
        splits.append(Split(name, ids_in(masks, ".png"), root / split, masks, ".png", root / MASKS / split))
    prepare(splits, args, read=png_numbers, table=TABLE, data_set=STUFF)


if __name__ == "__main__":
    run_script(main)
