"""A run as a page to look at: settings, losses, threshold curve, classes, and every image with what was made of it.

    python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages
    python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages --compare exps/eps

writes exps/hsc/report.html (report_vs_eps.html), one file that opens from disk in any browser. --compare takes any
number of runs; gains are --run's over the first of them.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for `python FILE`; `python -m` finds the packages

from data.descriptions import DEFAULT, data_set_text, find_data_set
from data.score_table import named_labels
from tool.cli import (
    UserError,
    cores,
    pace,
    path_text,
    path_value,
    positive,
    printable,
    require_writable,
    run_script,
    script_parser,
)
from tool.lists import Source, read_ids
from tool.report.make import write_report
from tool.report.plan import NO_TRUTH, find_data
from tool.report.run_folder import Run, read_run

EXAMPLES = """\
  # a run
  python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages
  # two runs side by side
  python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages --compare exps/eps
  # several; gains are over eps
  python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages --compare exps/eps exps/crt
  # no masks to score on
  python -m tool.report --run exps/hsc --data_root MINE/JPEGImages --gt_dir none
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "A run as a page to look at, one HTML file that opens from disk in any browser.",
        examples=EXAMPLES,
        prog="python -m tool.report",
    )
    runs = parser.add_argument_group("runs")
    runs.add_argument(
        "--run", type=path_text, required=True, metavar="DIR", help="the run's folder, as train_voc.py makes it"
    )
    runs.add_argument(
        "--compare",
        nargs="+",
        type=path_text,
        default=[],
        metavar="DIR",
        help="runs to compare with; gains are --run's over the first of them (none)",
    )

    data = parser.add_argument_group("data")
    data.add_argument(
        "--data_set",
        type=data_set_text,
        metavar="SET",
        help=f"its name, or a JSON file that describes it (what the runs were made with, else {DEFAULT})",
    )
    data.add_argument(
        "--data_root", type=path_text, required=True, metavar="DIR", help="folder of <id>.jpg (VOC2012/JPEGImages)"
    )
    data.add_argument("--list", type=path_text, metavar="FILE", help="images to show and score (all with ground truth)")
    data.add_argument("--classes", nargs="+", default=[], metavar="NAME", help="that mIoU is over (all)")
    data.add_argument(
        "--gt_dir",
        type=path_text,
        metavar="DIR",
        help=f"ground truth, <id>.png, or {NO_TRUTH}: images without scores (SegmentationClass beside the images)",
    )
    data.add_argument(
        "--saliency_root", type=path_text, metavar="DIR", help="saliency, <id>.png (saliency beside the images)"
    )

    output = parser.add_argument_group("output")
    output.add_argument("--out", type=path_value, metavar="FILE", help="(<run>/report.html or report_vs_<first>.html)")
    output.add_argument("--num_workers", type=positive, default=cores(), help="processes (the cores, %(default)s)")
    return parser.parse_args()


def read_runs(args: argparse.Namespace) -> list[Run]:
    """The runs, --run's first, with names that tell them apart."""
    scored = args.gt_dir != NO_TRUTH
    runs = [read_run(args.run, "--run", scored=scored)]
    for folder in args.compare:
        if Path(folder).resolve() in {run.folder.resolve() for run in runs}:
            raise UserError(f"--compare {folder}: expected other runs than --run, each once, found the same again")
        runs.append(read_run(folder, "--compare", scored=scored))
    names = Counter(run.name for run in runs)
    for run in runs:
        if names[run.name] > 1:
            run.name = str(run.folder)
    return runs


def recorded_data_set(runs: list[Run]) -> str:
    """The data set that the runs' records name; `UserError` if they name several."""
    keys = ("data_set", "DATA_SET")  # of stage 1's records and of stage 3's
    found = {str(record[key]) for run in runs for record in run.settings.values() for key in keys if key in record}
    if len(found) > 1:
        raise UserError(f"--run, --compare: expected runs of one data set, found {', '.join(sorted(found))}")
    return found.pop() if found else DEFAULT


def output_path(args: argparse.Namespace) -> Path:
    """Where the page goes; `UserError` if it could not be written there."""
    other = f"_vs_{Path(args.compare[0]).resolve().name}" if args.compare else ""
    more = f"_and_{len(args.compare) - 1}_more" if len(args.compare) > 1 else ""
    path = args.out or Path(args.run) / f"report{other}{more}.html"
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {path}: expected a file name that ends in .html")
    require_writable(path, "--out")
    return path


def main() -> None:
    args = parse_arguments()
    started = time.perf_counter()
    runs = read_runs(args)
    data_set = find_data_set(args.data_set or recorded_data_set(runs))
    labels = named_labels(args.classes, data_set)
    if args.classes and args.gt_dir == NO_TRUTH:
        raise UserError(f"--classes: nothing is scored at --gt_dir {NO_TRUTH}; leave one of them out")
    data = find_data(args.data_root, args.gt_dir, args.saliency_root, data_set)
    path = output_path(args)
    ids, source = None, Source("--run", args.run)
    if args.list is not None:
        ids, source = read_ids(args.list), Source("--list", args.list)
    images, size = write_report(path, runs, data, ids, source=source, labels=labels, num_workers=args.num_workers)
    print(f"wrote {printable(path)}: {images} images, {size / 1e6:.1f} MB {pace(started, images)}")


if __name__ == "__main__":
    run_script(main)
