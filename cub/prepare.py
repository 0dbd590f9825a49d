"""A check of all of CUB-200-2011 that training and test will read.

    python -m cub.prepare --cub_root CUB_200_2011

It reads the text files and every image, looks whether each box lies in its image, and prints each fault. Nothing needs
to be made of the data; `--json` keeps what was found.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from data.cub import check_boxed_images, read_cub
from tool.artifact import reported_unwritable, write_json
from tool.cli import UserError, pace, path_value, require_writable, run_script, script_parser

EXAMPLES = """\
  # a look at every file
  python -m cub.prepare --cub_root CUB_200_2011
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "A check of all of CUB-200-2011 that training and test read.", examples=EXAMPLES, prog="python -m cub.prepare"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--cub_root", type=path_value, required=True, help="CUB_200_2011, with images and images.txt in it"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=path_value, metavar="FILE", help="write the numbers of images and classes there")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.json is not None:
        with reported_unwritable(args.json):
            args.json.parent.mkdir(parents=True, exist_ok=True)
        require_writable(args.json, "--json")
    cub = read_cub(args.cub_root)
    started, found = time.perf_counter(), {"classes": cub.data_set.num_classes}
    problems = []
    for name, images in (("train", cub.train), ("test", cub.test)):
        without = cub.data_set.num_classes - len(np.unique(images.labels))
        print(f"found {name}: {len(images)} images" + (f"; {without} classes have none" if without else ""))
        found[name] = len(images)
        try:
            check_boxed_images(images, args.cub_root, decode=True)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    count = len(cub.train) + len(cub.test)
    print(f"checked {count} images of {cub.data_set.num_classes} classes {pace(started, count)}: all can be used")
    if args.json is not None:
        write_json(args.json, found)


if __name__ == "__main__":
    run_script(main)
