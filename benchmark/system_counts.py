"""What `benchmark.systems` has counted, and its file: by it a table has runs of other folders and machines too."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmark.system_segment import Segmented, segmented
from tool.artifact import atomic_file
from tool.cli import UserError, brief, raise_problems, require_file
from tool.folder import changed_settings
from tool.pickled import load_plain

BEST, FIXED, CRF = "best", "fixed", "crf"  # what is counted of every run; its refinements are by their names
ABOUT = "about"  # the file's array whose bytes are JSON


class Cost(NamedTuple):
    """Seconds of processors of the training, and of an image's inference and CRF; the most bytes that one process of
    either had, 0 where that was not noted."""

    train: float
    infer: float
    memory: float


class Run(NamedTuple):
    """A finished run: its name and seed, what it took, the threshold that is best for its seeds, and the counts of
    every image's label map, int64 (N, 3, L): of the seeds at that threshold and at the fixed one, of the CRF seeds and
    of each refinement. folder: None for one that is known by a file of counts."""

    name: str
    seed: int
    cost: Cost
    threshold: float
    counts: Mapping[str, np.ndarray]
    folder: Path | None = None


class Measured(NamedTuple):
    """Runs, and the counts of segmentations on val.txt, int64 (M, 3, L), by what was asked for and by seed."""

    runs: Sequence[Run] = ()
    segmentations: Mapping[Segmented, Mapping[int, np.ndarray]] = {}


def write_counts(
    path: Path, measured: Measured, *, settings: Mapping[str, Any], truth: Callable[[str], np.ndarray]
) -> None:
    """Write what was measured as .npz: arrays <seed>/<run>/<what was scored>, <seed>/<RUN+REFINEMENT+SEGMENTATION>, and
    `about`, JSON.

    settings: the recipe; truth: the pixels of each label in each mask of a split, int64 (N, L).
    """
    splits = ("train", "val") if measured.segmentations else ("train",)
    arrays = {f"truth/{split}": truth(split) for split in splits}
    about: dict[str, Any] = {"settings": settings, "runs": {}}
    for run in measured.runs:
        key = f"{run.seed}/{run.name}"
        about["runs"][key] = {"cost": run.cost, "threshold": run.threshold}
        arrays |= {f"{key}/{what}": counts for what, counts in run.counts.items()}
    for asked, by_seed in measured.segmentations.items():
        arrays |= {f"{seed}/{asked}": counts for seed, counts in by_seed.items()}
    small = {name: counts.astype(np.uint32) for name, counts in arrays.items()}
    with atomic_file(path) as file:
        np.savez_compressed(file, **{ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8)}, **small)


def read_counts(path: Path, *, settings: Mapping[str, Any], truth: Callable[[str], np.ndarray]) -> Measured:
    """What `write_counts` wrote; `UserError` if it is no such file, or one of other masks or another recipe.

    settings, truth: what they are now. Settings of one of the two alone, as the list that a refinement learns from, are
    no difference.
    """
    require_file(path, "--counts", "counts.npz of this benchmark")
    try:
        arrays = load_plain(path)
        about = json.loads(bytes(arrays.pop(ABOUT)))
        then, noted = about["settings"], about["runs"]
        masks = {split: arrays.pop(f"truth/{split}", None) for split in ("train", "val")}
        runs = [_run(key, entry, arrays) for key, entry in noted.items()]
        segmentations = _segmentations(arrays)
    except (UserError, argparse.ArgumentTypeError, AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"--counts {path}: expected the counts.npz that this benchmark writes ({brief(str(error))})"
        raise UserError(message) from error
    shared = {name: settings[name] for name in settings if name in then}
    raise_problems(f"--counts {path} was measured with another recipe", changed_settings(then, shared))
    for split, counts in masks.items():
        if counts is not None and not np.array_equal(counts, truth(split)):
            raise UserError(f"--counts {path}: scored on other masks of {split}.txt than these")
    return Measured(runs, segmentations)


def _run(key: str, entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Run:
    seed, name = key.split("/")
    counts = {what: arrays[f"{key}/{what}"].astype(np.int64) for what in (BEST, FIXED, CRF)}
    for path, array in arrays.items():
        if path.startswith(f"{key}/"):
            counts[path.removeprefix(f"{key}/")] = array.astype(np.int64)
    return Run(name, int(seed), Cost(*map(float, entry["cost"])), float(entry["threshold"]), counts)


def _segmentations(arrays: Mapping[str, np.ndarray]) -> dict[Segmented, dict[int, np.ndarray]]:
    found: dict[Segmented, dict[int, np.ndarray]] = {}
    for path, array in arrays.items():
        seed, _, name = path.partition("/")
        if "/" not in name:
            found.setdefault(segmented(name), {})[int(seed)] = array.astype(np.int64)
    return found
