"""Scores predictions against ground truth: IoU of every class, mIoU, and its curve over background thresholds.

    python eval.py --list train.txt --predict_dir exps/cam_npy --gt_dir VOC2012/SegmentationClassAug \
        --type npy --curve True --comment "seeds, HSC"

Every file is read once, whatever the number of thresholds (`python -m benchmark.eval_curve` measures it).
"""

import argparse
import errno
import os
import sys
import time
from pathlib import Path

from data.descriptions import add_data_set_flag, find_data_set, require_background
from data.score import DEFAULT_THRESHOLD, READERS, count_images, file_pairs
from data.score_table import as_text, named_labels, result_lines, summarise
from tool.artifact import atomic_file, write_json
from tool.cli import (
    UserError,
    add_switch,
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
from tool.folder import record_of
from tool.metric import CURVE
from tool.plot import save_curve

EXAMPLES = """\
  # seeds at 60 background thresholds, and their curve as a picture
  python eval.py --list voc12/train.txt --predict_dir exps/cam_npy --type npy --curve \\
      --plot curve.png --gt_dir VOC2012/SegmentationClass --comment "HSC seeds"
  # CRF seeds
  python eval.py --list voc12/train.txt --predict_dir exps/crf/crf_8_7 --type crf \\
      --gt_dir VOC2012/SegmentationClass --comment "HSC CRF seeds"
  # label maps, the mean over two classes alone
  python eval.py --list voc12/val.txt --predict_dir exps/cam_png --classes cat dog \\
      --gt_dir VOC2012/SegmentationClass --comment "cats and dogs"
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("IoU per class and mIoU of predictions, in per cent.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    add_data_set_flag(data)
    data.add_argument("--list", type=path_text, required=True, metavar="FILE", help="ids to score, one a line")
    data.add_argument(
        "--predict_dir", type=path_text, required=True, metavar="DIR", help="predictions, <id>.png or <id>.npy"
    )
    data.add_argument(
        "--gt_dir", type=path_text, required=True, metavar="DIR", help="ground truth, <id>.png; 255 is left out"
    )
    data.add_argument("--type", choices=READERS, default="png", help="label maps, CAM or CRF dicts (%(default)s)")

    scores = parser.add_argument_group("scores")
    scores.add_argument("--t", type=threshold, help=f"background score of --type npy, 0 to 1 ({DEFAULT_THRESHOLD})")
    add_switch(scores, "--curve", default=False, help="score --type npy at 0.00 to 0.59 (False)")
    scores.add_argument(
        "--thresholds",
        type=threshold,
        nargs="+",
        metavar="T",
        help="score --type npy at these instead, in one pass (none)",
    )
    add_switch(scores, "--wrong_255", default=False, help="--type png: 255 is wrong, as some count it (False: refused)")
    add_switch(scores, "--background_255", default=False, help="--type png: 255 is background, as with IRN (False)")
    scores.add_argument("--classes", nargs="+", default=[], metavar="NAME", help="average over these (all)")

    output = parser.add_argument_group("output")
    output.add_argument("--comment", required=True, help="what is scored, for the log file")
    output.add_argument("--logfile", type=path_value, default=Path("evallog.txt"), help="appended to (%(default)s)")
    output.add_argument("--json", type=path_value, metavar="FILE", help="write the scores there too (none)")
    output.add_argument(
        "--result", type=path_value, metavar="FILE",
        help="write MSA's result.txt of the --thresholds there: mIoU, --refine_list of the seeds, threshold (none)",
    )  # fmt: skip
    output.add_argument("--plot", type=path_value, metavar="FILE", help="draw the curve, .png, .pdf or .svg (none)")

    run = parser.add_argument_group("run")
    run.add_argument("--num_workers", type=positive, default=cores(), help="processes (the cores, %(default)s)")
    return parser.parse_args()


def threshold(text: str) -> float:
    """An argparse type: a background score of 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number of 0 to 1, got {text!r}")
    return value


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that do not go together."""
    many = "--thresholds" if args.thresholds else "--curve" if args.curve else None
    if many and args.type != "npy":
        raise UserError(f"{many} needs CAM dicts (--type npy): --type {args.type} has its background already")
    if args.curve and args.thresholds:
        raise UserError("--thresholds: --curve has its own; leave one of them out")
    if args.thresholds and not 1 < len({*args.thresholds}) == len(args.thresholds):
        given = " ".join(map(str, args.thresholds))
        raise UserError(f"--thresholds {given}: expected several numbers, each once; --t takes a single one")
    if args.result is not None and not args.thresholds:
        raise UserError("--result: expected --thresholds, of which it has a line each")
    if args.t is not None and (many or args.type != "npy"):
        print("note: --t is not used: it is the one background score of --type npy without --curve", file=sys.stderr)
    if args.wrong_255 and args.background_255:
        raise UserError("--background_255: --wrong_255 counts 255 in another way; leave one of them out")
    for name in ("wrong_255", "background_255"):
        if getattr(args, name) and args.type != "png":
            raise UserError(f"--{name} is for label maps (--type png): --type {args.type} has no 255")
    if args.plot is not None and not many:
        raise UserError("--plot draws the curve: add --curve")
    if args.plot is not None and args.plot.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--plot {args.plot}: expected a file name that ends in .png, .pdf or .svg")


def check_outputs(args: argparse.Namespace) -> None:
    """Raise `UserError` for outputs that cannot be written, or not beside each other."""
    outputs = {"--logfile": args.logfile, "--json": args.json, "--plot": args.plot, "--result": args.result}
    outputs = {flag: path for flag, path in outputs.items() if path is not None}
    for flag, path in outputs.items():
        require_writable(path, flag, device=flag == "--logfile")  # which is appended to, /dev/null too
    owners: dict[str, str] = {}
    for flag, path in {"--list": args.list, **outputs}.items():
        owner = owners.setdefault(os.path.realpath(path), flag)
        if owner != flag:
            raise UserError(f"{flag} {path}: expected a file of its own, found that of {owner}; name another")


def append_to_log(path: Path, text: str) -> None:
    """Append `text`, with the time before it, in one piece or not at all, so that runs at once do not mix.

    Raises `UserError` where the file system refuses.
    """
    entry = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n\n".encode()
    try:
        with open(path, "ab", buffering=0) as log:
            written = log.write(entry)
            if written < len(entry):
                log.truncate(log.tell() - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise UserError(f"--logfile {path}: cannot be written: {error.strerror}") from error


def walk_of(folder: str) -> int:
    """The steps that the CAMs of a folder walked between superpixels, as its settings.json says; 0 without one."""
    steps = record_of(Path(folder)).get("refine_list")
    return steps if isinstance(steps, int) else 0


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    check_outputs(args)
    data_set = find_data_set(args.data_set)
    if args.type == "npy" and not data_set.background:
        raise UserError(
            f"--type npy: CAMs are scored against a background, which --data_set {data_set.name} has not; score label"
            " maps"
        )
    if args.background_255:
        require_background(data_set)
    labels = named_labels(args.classes, data_set)
    pairs = file_pairs(args.list, args.predict_dir, args.gt_dir, args.type, data_set)
    alone = (DEFAULT_THRESHOLD if args.t is None else args.t,)
    thresholds = CURVE if args.curve else tuple(sorted(args.thresholds or alone))
    started = time.perf_counter()
    of_255 = "wrong" if args.wrong_255 else "background" if args.background_255 else None
    counts, _ = count_images(
        pairs, args.type, data_set, thresholds=thresholds, num_workers=args.num_workers, of_255=of_255
    )
    time_taken = pace(started, len(pairs))
    walk = walk_of(args.predict_dir)
    summary = summarise(counts, data_set, labels=labels, thresholds=thresholds, walk=walk)
    text = as_text(summary)
    try:
        if args.json is not None:
            write_json(args.json, summary)
        if args.plot is not None:
            save_curve(args.plot, {args.comment: summary["curve"]}, thresholds=thresholds)
        if args.result is not None:
            with atomic_file(args.result) as file:
                file.write(result_lines(summary, walk).encode())
        append_to_log(args.logfile, f"{printable(args.comment)}\n{text}")
    finally:
        # Last, since it fails where the reader of the output left, but always: scoring took its time.
        print(f"scored {len(pairs)} images {time_taken}\n{text}")


if __name__ == "__main__":
    run_script(main)
