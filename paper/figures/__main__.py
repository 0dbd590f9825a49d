"""The figures of the paper folder and the README, drawn from what the demo computed: `make figures`.

    python -m paper.figures --demo exps/demo --out paper/figures

They show one of the demo's images that went well, by the nets and files that `demo.py` left: about 10 seconds on a CPU.
"""

import argparse
from pathlib import Path

from paper.figures.demo import Demo
from tool.cli import path_value, require_folder, run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m paper.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--demo", type=path_value, default=Path("exps/demo"), help="where demo.py wrote to (%(default)s)"
    )
    parser.add_argument(
        "--out", type=path_value, default=Path("paper/figures"), help="folder of the PNGs (%(default)s)"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    demo = Demo(args.demo)
    demo.require()
    require_folder(args.out, "--out", "where the PNGs go; create it first")
    # Not at the top: they import torch and matplotlib, which takes seconds.
    from paper.figures import levels, overview
    from paper.figures.step import take_step

    [image_id] = demo.best("train", demo.crf_seeds, count=1)
    step = take_step(demo, image_id)
    sheets = {
        "overview": overview.draw(demo, step, image_id),
        "region": levels.region(step),
        "class": levels.classes(step),
        "pixel": levels.pixels(step),
        "cross": levels.cross(step),
    }
    for name, sheet in sheets.items():
        path = args.out / f"{name}.png"
        sheet.save(path)
        print(path)


if __name__ == "__main__":
    run_script(main)
