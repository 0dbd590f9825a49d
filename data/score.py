"""Predictions on a list of images, counted against their ground truth by several processes."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tool.artifact import labels_of_posteriors, load_cam, load_crf, load_label_map
from tool.cli import FILE, NOTHING, UserError, raise_problems, require_folder, what_is_at
from tool.dataset import IGNORE, DataSet
from tool.limits import reported_limits
from tool.lists import LABEL_MAP_ENDINGS, Source, expect_files, find_masks, read_ids
from tool.metric import label_counts, threshold_counts
from tool.pipeline import Pool, ProcessDied
from tool.places import other_ending
from tool.progress import Bar

DEFAULT_THRESHOLD = 0.22
FILES_PER_TASK = 64


def load_crf_labels(path: Path, data_set: DataSet, *, shape: tuple[int, int] | None) -> np.ndarray:
    """The most likely label of every pixel, uint8 (H, W), of a CRF dict. Raises as `load_crf`."""
    return labels_of_posteriors(load_crf(path, data_set, shape=shape))


def load_with_background_255(path: Path, data_set: DataSet, *, shape: tuple[int, int] | None) -> np.ndarray:
    """A label map, uint8 (H, W), with background for 255, as IRN counts it. Raises as `load_label_map`."""
    labels = load_label_map(path, data_set, shape=shape)
    return np.where(labels == IGNORE, np.uint8(0), labels)


# --type: the files' suffix, and what reads one.
READERS = {
    "png": (".png", functools.partial(load_label_map, ignore=False)),
    "npy": (".npy", load_cam),
    "crf": (".npy", load_crf_labels),
}
# What reads label maps in which 255 is a wrong prediction, or background; else it is refused.
OF_255 = {"wrong": load_label_map, "background": load_with_background_255}


def file_pairs(
    list_path: str | Path, predict_dir: str | Path, gt_dir: str | Path, kind: str, data_set: DataSet
) -> list[tuple[Path, Path]]:
    """(prediction, ground truth) of every id of the list at `list_path`; `UserError` names all that are missing."""
    ids, source = read_ids(list_path, "--list"), Source("--list", list_path)
    suffix = READERS[kind][0]
    predictions = require_folder(predict_dir, "--predict_dir", f"<id>{suffix}")
    endings = LABEL_MAP_ENDINGS if suffix == ".png" else ()
    expect_files(ids, predictions, suffix, flag="--predict_dir", source=source, endings=endings)
    truth = require_folder(gt_dir, "--gt_dir", "<id>.png")
    truths = find_masks(ids, truth, data_set, flag="--gt_dir", source=source)
    pairs = [(predictions / f"{i}{suffix}", truths[i]) for i in ids]
    named = [("--predict_dir", path) for path, _ in pairs] + [("--gt_dir", path) for _, path in pairs]
    problems = [
        f"{flag}: {path}: {what}{other_ending(path, (path.suffix.upper(),)) if what == NOTHING else ''}"
        for flag, path in named
        if (what := what_is_at(path)) != FILE
    ]
    raise_problems(f"files missing for ids of --list {list_path}; nothing was scored", problems)
    return pairs


def count_files(
    pairs: Sequence[tuple[Path, Path]],
    kind: str,
    data_set: DataSet,
    *,
    thresholds: Sequence[float],
    of_255: str | None,
    objects_only: bool,
) -> tuple[np.ndarray, int, list[str]]:
    """Counts, int64 (3, T, L), summed over the files, of how many images, and what is wrong with those that cannot be
    read."""
    read = OF_255[of_255] if of_255 else READERS[kind][1]
    total = np.zeros((3, len(thresholds), data_set.num_labels), np.int64)
    number, problems = 0, []
    for prediction_path, target_path in pairs:
        with reported_limits("take fewer --num_workers", at=str(prediction_path)):
            counts, found = _count_pair(prediction_path, target_path, read, data_set, thresholds, objects_only)
        if counts is not None:
            total += counts
            number += 1
        problems += found
    return total, number, problems


def has_object(target: np.ndarray, data_set: DataSet) -> bool:
    """Whether a label map has a label beside the background, where there is one, and 255."""
    return bool(((target != IGNORE) & (target >= data_set.label_of(0))).any())


def _count_pair(
    prediction_path: Path,
    target_path: Path,
    read: Callable,
    data_set: DataSet,
    thresholds: Sequence[float],
    objects_only: bool,
) -> tuple[np.ndarray | None, list[str]]:
    """The counts of one pair, None where it is left out or one of its files cannot be read, and what is wrong."""
    target = prediction = None
    problems = []
    try:
        target = load_label_map(target_path, data_set)
    except UserError as error:
        problems.append(str(error))
    if objects_only and target is not None and not has_object(target, data_set):
        return None, problems
    try:
        prediction = read(prediction_path, data_set, shape=None if target is None else target.shape)
    except UserError as error:
        problems.append(str(error))
    if target is None or prediction is None:
        return None, problems
    num_labels = data_set.num_labels
    if isinstance(prediction, dict):
        return threshold_counts(prediction, target, thresholds=thresholds, num_labels=num_labels), problems
    # 255 becomes one more label, which no ground truth has: missed there, and no label's false alarm.
    prediction = np.minimum(prediction, num_labels)
    return label_counts(prediction, target, num_labels=num_labels + 1)[:, None, :num_labels], problems


def in_parallel(task: Callable, chunks: Sequence[Sequence[tuple[Path, Path]]], num_workers: int) -> Iterator:
    """`task` of every chunk of file pairs, in order, by processes. Raises `UserError` if one is killed."""
    done, following = {}, 0
    try:
        with Pool("score", functools.partial(_of_numbered, task), num_workers) as pool:
            pool.waiting.extend(enumerate(chunks))
            for number, result in pool.results():
                done[number] = result
                while following in done:
                    yield done.pop(following)
                    following += 1
    except ProcessDied as died:
        held = [prediction.name for number in died.keys for prediction, _ in chunks[number]]
        where = f"one of {len(held)} files, {held[0]} to {held[-1]}" if held else "no file"
        raise UserError(
            f"a worker process was killed, perhaps for memory; it was at {where}; nothing was scored; try fewer"
            " --num_workers"
        ) from died


def _of_numbered(task: Callable, number: int, chunk: Any) -> Any:
    return task(chunk)


def count_images(
    pairs: Sequence[tuple[Path, Path]],
    kind: str,
    data_set: DataSet,
    *,
    thresholds: Sequence[float] = (DEFAULT_THRESHOLD,),
    num_workers: int,
    of_255: str | None = None,
    objects_only: bool = False,
) -> tuple[np.ndarray, int]:
    """Counts, int64 (3, T, L), of all `pairs` of files, and of how many images; `UserError` names every faulty file.

    kind: a key of `READERS`. thresholds: background scores of CAMs, ascending; label maps are scored as they are, and
    T is 1. of_255: what 255 is in the label maps of kind "png", a key of `OF_255`; None: refused. objects_only: images
    without `has_object` are left out.
    """
    chunks = [pairs[start : start + FILES_PER_TASK] for start in range(0, len(pairs), FILES_PER_TASK)]
    options = {"thresholds": thresholds, "of_255": of_255, "objects_only": objects_only}
    task = functools.partial(count_files, kind=kind, data_set=data_set, **options)
    num_workers = min(num_workers, len(chunks))
    results = map(task, chunks) if num_workers == 1 else in_parallel(task, chunks, num_workers)
    total = np.zeros((3, len(thresholds), data_set.num_labels), np.int64)
    number, problems = 0, []
    with Bar(total=len(pairs), unit="image") as progress:
        for chunk, (counts, counted, found) in zip(chunks, results, strict=True):
            total += counts
            number += counted
            problems += found
            progress.update(len(chunk))
    raise_problems("faulty files (a prediction has its ground truth's size); nothing was scored", problems)
    if objects_only and not number:
        raise UserError(
            f"{pairs[0][1].parent}: none of the {len(pairs)} ground truths to score has an object; --count_empty counts"
            " images without one"
        )
    if not total[1].any():
        raise UserError(f"{pairs[0][1].parent}: no ground truth of the list has a labelled pixel, all are 255")
    return total, number
