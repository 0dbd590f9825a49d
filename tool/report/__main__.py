"""A run as a page to look at: settings, losses, threshold curve, classes, and every image with what was made of it.

    python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages
    python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages --compare exps/eps

writes exps/hsc/report.html (report_vs_eps.html), one file that opens from disk in any browser.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for `python FILE`; `python -m` finds the packages

from data.descriptions import DEFAULT, data_set_text, find_data_set
from tool.cli import (
    FILE,
    NOTHING,
    UserError,
    cores,
    pace,
    path_text,
    path_value,
    positive,
    printable,
    raise_problems,
    require_folder,
    run_script,
    script_parser,
    what_is_at,
)
from tool.dataset import DataSet
from tool.metric import CURVE, iou
from tool.plot import ERROR_COLOURS, heat_colours
from tool.report.figures import (
    absence_note,
    cam_counts,
    curve_chart,
    image_records,
    label_colours_hex,
    loss_charts,
    score_stages,
    setting_rows,
)
from tool.report.image import Findings, ImageFiles, look_at_all
from tool.report.page import write_page
from tool.report.plan import find_data, plan_images
from tool.report.run_folder import Run, read_run

EXAMPLES = """\
  # a run
  python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages
  # two runs side by side
  python -m tool.report --run exps/hsc --data_root VOC2012/JPEGImages --compare exps/eps
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
        "--compare", type=path_text, metavar="DIR", help="a run to compare with; gains are --run's over this one"
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
    data.add_argument(
        "--gt_dir", type=path_text, metavar="DIR", help="ground truth, <id>.png (SegmentationClass beside the images)"
    )
    data.add_argument(
        "--saliency_root", type=path_text, metavar="DIR", help="saliency, <id>.png (saliency beside the images)"
    )

    output = parser.add_argument_group("output")
    output.add_argument("--out", type=path_value, metavar="FILE", help="(<run>/report.html or report_vs_<other>.html)")
    output.add_argument("--num_workers", type=positive, default=cores(), help="processes (the cores, %(default)s)")
    return parser.parse_args()


def read_runs(args: argparse.Namespace) -> list[Run]:
    """One run, or two with names that tell them apart."""
    runs = [read_run(args.run, "--run")]
    if args.compare is not None:
        if Path(args.compare).resolve() == Path(args.run).resolve():
            raise UserError(f"--compare {args.compare}: expected another run than --run, found the same")
        runs.append(read_run(args.compare, "--compare"))
        if runs[0].name == runs[1].name:
            for run in runs:
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
    other = "" if args.compare is None else f"_vs_{Path(args.compare).resolve().name}"
    path = args.out or Path(args.run) / f"report{other}.html"
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {path}: expected a file name that ends in .html")
    require_folder(path.parent, "--out", "where the page goes; create it first")
    found = what_is_at(path)
    if found not in (FILE, NOTHING) or not os.access(path.parent, os.W_OK):
        reason = f"found {found}" if found not in (FILE, NOTHING) else "no permission to write into its folder"
        raise UserError(f"--out {path}: expected a file to write, {reason}")
    return path


def look_at_images(files: dict[str, ImageFiles], data_set: DataSet, *, num_workers: int) -> dict[str, Findings]:
    """What is on each image, in their order. Raises `UserError` with every file that cannot be used."""
    found = dict(look_at_all(files, data_set, num_workers=num_workers))
    found = {image_id: found[image_id] for image_id in files}
    raise_problems(
        "faulty files (all of an image have its ground truth's size); no report was written",
        [problem for findings in found.values() for problem in findings.problems],
    )
    return found


def describe(runs: list[Run], found: dict[str, Findings], notes: list[str], data_set: DataSet) -> dict:
    """All that the page shows but for the pictures."""
    stages = score_stages(runs, found, data_set)
    counts = cam_counts(runs, found)
    curves = {run: (100 * iou(of_run)).mean(axis=1).tolist() for run, of_run in counts.items()}
    names = [run.name for run in runs]
    missing = [f"{run.name}: not found, so left out: {', '.join(run.missing)}." for run in runs if run.missing]
    best = {run: max(range(len(values)), key=values.__getitem__) for run, values in curves.items()}
    absences = [note for run, k in best.items() for note in absence_note(runs[run], "CAM", counts[run][:, k], data_set)]
    absences += [note for stage in stages for note in stage.notes]
    return {
        "runs": runs,
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "notes": [*missing, *(f"{run.name}: {note}" for run in runs for note in run.notes), *notes, *absences],
        "stages": stages,
        "best": {run: (curves[run][k], CURVE[k]) for run, k in best.items()},
        "curve": curve_chart(curves, names),
        "losses": loss_charts(runs),
        "settings": setting_rows(runs),
        "colours": label_colours_hex(data_set),
        "error_colours": {kind: "#" + bytes(colour).hex() for kind, colour in ERROR_COLOURS.items()},
        "heat": ["#" + bytes(colour).hex() for colour in heat_colours(np.linspace(0, 1, 9)[None])[0]],
        "data_set": data_set.title,
        "names": data_set.label_names,
        "images": image_records(runs, found, stages),
    }


def main() -> None:
    args = parse_arguments()
    started = time.perf_counter()
    runs = read_runs(args)
    data_set = find_data_set(args.data_set or recorded_data_set(runs))
    data = find_data(args.data_root, args.gt_dir, args.saliency_root, data_set)
    path = output_path(args)
    files, notes = plan_images(runs, data, args.list)
    found = look_at_images(files, data_set, num_workers=args.num_workers)
    size = write_page(path, describe(runs, found, notes, data_set), [findings.pictures for findings in found.values()])
    print(f"wrote {printable(path)}: {len(found)} images, {size / 1e6:.1f} MB {pace(started, len(found))}")


if __name__ == "__main__":
    run_script(main)
