"""Scores predictions against ground truth: IoU of every class, mIoU, and its curve over background thresholds.

    python eval.py --list train.txt --predict_dir exps/cam_npy --gt_dir VOC2012/SegmentationClassAug \
        --type npy --curve True --comment "seeds, HSC"

Every file is read once, whatever the number of thresholds (`python -m benchmark.eval_curve` measures it).
"""

import argparse
import functools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tool.artifact import atomic_file, load_cam, load_crf, load_label_map
from tool.cli import UserError, add_switch, positive, printable, raise_problems, require_folder, run_script
from tool.metric import iou, label_counts, threshold_counts
from voc12.classes import LABEL_NAMES
from voc12.lists import read_ids

CURVE = tuple(k / 100 for k in range(60))  # background thresholds of --curve
DEFAULT_THRESHOLD = 0.22
FILES_PER_TASK = 64
NUM_LABELS = len(LABEL_NAMES)


def load_crf_labels(path: Path, *, shape: tuple[int, int] | None) -> np.ndarray:
    """The most likely label of every pixel, (H, W), of a CRF dict. Raises as `load_crf`."""
    posteriors = load_crf(path, shape=shape)
    return np.array(list(posteriors))[np.stack(list(posteriors.values())).argmax(axis=0)]


# --type: the files' suffix, and what reads one.
READERS = {
    "png": (".png", functools.partial(load_label_map, ignore=False)),
    "npy": (".npy", load_cam),
    "crf": (".npy", load_crf_labels),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="IoU per class and mIoU of predictions, in per cent.")
    parser.add_argument("--list", required=True, metavar="FILE", help="ids to score, one a line")
    parser.add_argument("--predict_dir", required=True, metavar="DIR", help="predictions, <id>.png or <id>.npy")
    parser.add_argument("--gt_dir", required=True, metavar="DIR", help="ground truth, <id>.png; 255 is left out")
    parser.add_argument("--comment", required=True, help="what is scored, for the log file")
    parser.add_argument("--logfile", type=Path, default=Path("evallog.txt"), help="appended to (%(default)s)")
    parser.add_argument(
        "--type", choices=READERS, default="png", help="label maps, CAM dicts or CRF dicts (default %(default)s)"
    )
    parser.add_argument(
        "--t", type=threshold, help=f"background score for --type npy, 0 to 1 (default {DEFAULT_THRESHOLD})"
    )
    add_switch(parser, "--curve", default=False, help="score --type npy at 0.00 to 0.59 (default False)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores there too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve, .png, .pdf or .svg")
    parser.add_argument("--classes", nargs="+", default=[], metavar="NAME", help="average over these (all 21)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--num_workers", type=positive, default=cores, help="processes (the cores, %(default)s)")
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
    """Raise `UserError` for flags that do not go together and outputs that cannot be written."""
    if args.curve and args.type != "npy":
        raise UserError(f"--curve needs CAM dicts (--type npy): --type {args.type} has its background already")
    if args.t is not None and (args.curve or args.type != "npy"):
        print("note: --t is not used: it is the one background score of --type npy without --curve", file=sys.stderr)
    if args.plot is not None and not args.curve:
        raise UserError("--plot draws the curve: add --curve")
    if args.plot is not None and args.plot.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--plot {args.plot}: expected a file name that ends in .png, .pdf or .svg")
    for flag, path in (("--logfile", args.logfile), ("--json", args.json), ("--plot", args.plot)):
        if path is None:
            continue
        if path.is_dir():
            raise UserError(f"{flag} {path}: expected a file to write, found a folder")
        if not path.parent.is_dir():
            raise UserError(f"{flag} {path}: the folder {path.parent} is not there; create it first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UserError(f"{flag} {path}: no permission to write it")


def named_labels(words: Sequence[str]) -> list[int]:
    """The labels that `--classes` names, in VOC order; all of them for no name."""
    names = {name for word in words for name in word.replace(",", " ").split()}
    unknown = sorted(names - set(LABEL_NAMES))
    if unknown:
        raise UserError(f"--classes: expected names among {', '.join(LABEL_NAMES)}; found {', '.join(unknown)}")
    return [label for label, name in enumerate(LABEL_NAMES) if name in names or not names]


def file_pairs(args: argparse.Namespace) -> list[tuple[Path, Path]]:
    """(prediction, ground truth) of every id of the list; `UserError` names all that are missing."""
    ids = read_ids(args.list, "--list")
    suffix = READERS[args.type][0]
    problems = []
    for flag, folder, ending in (("--predict_dir", args.predict_dir, suffix), ("--gt_dir", args.gt_dir, ".png")):
        there = {path.name for path in require_folder(folder, flag, f"<id>{ending}").iterdir()}
        problems += [f"{flag}: {Path(folder, i + ending)}" for i in ids if i + ending not in there]
    raise_problems(f"files missing for ids of --list {args.list}; nothing was scored", problems)
    return [(Path(args.predict_dir, i + suffix), Path(args.gt_dir, i + ".png")) for i in ids]


def count_files(
    pairs: Sequence[tuple[Path, Path]], kind: str, thresholds: Sequence[float]
) -> tuple[np.ndarray, list[str]]:
    """Counts, int64 (3, T, 21), summed over the files, and what is wrong with those that cannot be read."""
    total = np.zeros((3, len(thresholds), NUM_LABELS), np.int64)
    problems = []
    for prediction_path, target_path in pairs:
        target = prediction = None
        try:
            target = load_label_map(target_path)
        except UserError as error:
            problems.append(str(error))
        try:
            prediction = READERS[kind][1](prediction_path, shape=None if target is None else target.shape)
        except UserError as error:
            problems.append(str(error))
        if target is None or prediction is None:
            continue
        if kind == "npy":
            total += threshold_counts(prediction, target, thresholds=thresholds, num_labels=NUM_LABELS)
        else:
            total += label_counts(prediction, target, num_labels=NUM_LABELS)[:, None]
    return total, problems


def in_parallel(task: Callable, chunks: Sequence, num_workers: int) -> Iterator:
    """`task` of every chunk, in order, by processes. Raises `UserError` if one is killed."""
    executor = ProcessPoolExecutor(
        num_workers,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,  # Ctrl-C is the parent's to handle
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield from executor.map(task, chunks)
    except BrokenProcessPool as error:
        raise UserError("a worker process was killed, perhaps for memory; try fewer --num_workers") from error
    finally:
        executor.shutdown(cancel_futures=True)


def count_list(
    pairs: Sequence[tuple[Path, Path]], kind: str, *, thresholds: Sequence[float], num_workers: int
) -> np.ndarray:
    """Counts, int64 (3, T, 21), of all files (T is 1 but for CAMs); `UserError` names every file that is faulty."""
    chunks = [pairs[start : start + FILES_PER_TASK] for start in range(0, len(pairs), FILES_PER_TASK)]
    task = functools.partial(count_files, kind=kind, thresholds=thresholds)
    num_workers = min(num_workers, len(chunks))
    results = map(task, chunks) if num_workers == 1 else in_parallel(task, chunks, num_workers)
    total = np.zeros((3, len(thresholds), NUM_LABELS), np.int64)
    problems = []
    with tqdm(total=len(pairs), unit="image", disable=None) as progress:
        for chunk, (counts, found) in zip(chunks, results, strict=True):
            total += counts
            problems += found
            progress.update(len(chunk))
    raise_problems("faulty files (a prediction has its ground truth's size); nothing was scored", problems)
    return total


def summarise(counts: np.ndarray, labels: Sequence[int], thresholds: Sequence[float], curve: bool) -> dict:
    """What --json holds: per cent for every class at the best threshold, mIoU over `labels`, and the curve."""
    scores = 100 * iou(counts)
    means = scores[:, labels].mean(axis=1)
    best = int(means.argmax())
    summary = dict(zip(LABEL_NAMES, scores[best].tolist(), strict=True)) | {"mIoU": float(means[best])}
    if curve:
        summary |= {"curve": means.tolist(), "best_threshold": thresholds[best], "best_mIoU": float(means[best])}
    return summary | {"classes": [LABEL_NAMES[label] for label in labels]}


def as_text(summary: dict) -> str:
    """The table that is printed and logged."""
    lines = []
    if "curve" in summary:
        lines.append("threshold" + "".join(f"  +.{k:02}" for k in range(10)))
        for start in range(0, len(CURVE), 10):
            row = summary["curve"][start : start + 10]
            lines.append(f"{CURVE[start]:9.2f}" + "".join(f"{value:6.2f}" for value in row))
        lines.append(f"best threshold {summary['best_threshold']:.2f}, mIoU {summary['best_mIoU']:.2f}; there:")
    lines += [f"{name:12} {summary[name]:6.2f}" for name in summary["classes"]]
    return "\n".join([*lines, f"{'mIoU':12} {summary['mIoU']:6.2f}"])


def draw_curve(path: Path, summary: dict) -> None:
    """Draw mIoU over the background threshold, the best point marked."""
    from matplotlib.figure import Figure  # slow to import, and a figure of its own needs no display

    axes = Figure(figsize=(6, 4), layout="constrained").subplots()
    axes.plot(CURVE, summary["curve"])
    best = summary["best_threshold"], summary["best_mIoU"]
    axes.plot(*best, "o", label=f"{best[1]:.2f} at {best[0]:.2f}")
    axes.set(xlabel="background threshold", ylabel="mIoU (%)")
    axes.legend()
    axes.grid(alpha=0.3)
    with atomic_file(path) as file:
        axes.figure.savefig(file, format=path.suffix[1:], dpi=150)


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    labels = named_labels(args.classes)
    pairs = file_pairs(args)
    thresholds = CURVE if args.curve else (DEFAULT_THRESHOLD if args.t is None else args.t,)
    counts = count_list(pairs, args.type, thresholds=thresholds, num_workers=args.num_workers)
    summary = summarise(counts, labels, thresholds, args.curve)
    text = as_text(summary)
    print(text)
    if args.json is not None:
        with atomic_file(args.json) as file:
            file.write(json.dumps(summary, indent=1).encode())
    if args.plot is not None:
        draw_curve(args.plot, summary)
    try:
        with open(args.logfile, "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {printable(args.comment)}\n{text}\n\n")
    except OSError as error:
        raise UserError(f"--logfile {args.logfile}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    run_script(main)
