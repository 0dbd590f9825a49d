"""What stage 2 looks at before it starts: CAM dicts and their CRF's files, of the list's images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data.images import image_size
from tool.artifact import load_cam, load_label_scores
from tool.cli import UserError, raise_problems, require_folder
from tool.dataset import DataSet
from tool.lists import Source, expect_files
from tool.places import is_there, sample

EMPTY_BYTES = 1024  # a file of more holds a map


def folder_of_dicts(folder: str | Path, ids: Sequence[str], *, flag: str, what: str, source: Source) -> Path:
    """`folder` as a path, after a look whether it has `<id>.npy` of each of `ids`; `UserError` names all that it lacks,
    or says where they are. what: it holds, for messages."""
    folder = require_folder(folder, flag, f"{what}, <id>.npy")
    expect_files(ids, folder, ".npy", flag=flag, source=source, endings=(".npy",))
    missing = [f"{image_id}.npy" for image_id in ids if not is_there(folder / f"{image_id}.npy")]
    raise_problems(f"{flag} {folder}: {what} of {source} that are missing; make them, or take their list", missing)
    return folder


def check_cams(images: Mapping[str, Path], folder: Path, data_set: DataSet, *, flag: str) -> None:
    """Look at some of the CAM dicts of `images`, and whether any has a class.

    Raises `UserError` with each of those that cannot be read or are of another size than their images, and if all of
    the list are empty.
    """
    problems = []
    for image_id in sample(list(images)):
        try:
            load_cam(folder / f"{image_id}.npy", data_set, shape=image_size(images[image_id])[::-1])
        except UserError as error:
            problems.append(str(error))
    raise_problems(f"{flag} {folder}: CAM dicts that cannot be used; is it the folder of this list's?", problems)
    small = [path for image_id in images if (path := folder / f"{image_id}.npy").stat().st_size < EMPTY_BYTES]
    if len(small) == len(images) and not any(load_cam(path, data_set) for path in small):
        raise UserError(f"{flag} {folder}: every CAM dict of the list is empty; expected some with classes")


def check_backgrounds(images: Mapping[str, Path], low: Path, high: Path, data_set: DataSet) -> None:
    """Look at some of the posteriors of both alphas, and that the lower one's have more background.

    Raises `UserError` with each of those that cannot be read or are of another size than their images, if the folders
    are swapped, and if no image of the list has a class.
    """
    problems, shares = [], []
    for image_id in sample(list(images)):
        shape = image_size(images[image_id])[::-1]
        try:
            shares.append([_background(folder / f"{image_id}.npy", data_set, shape) for folder in (low, high)])
        except UserError as error:
            problems.append(str(error))
    raise_problems("--la_crf_dir, --ha_crf_dir: files that cannot be used; are they of this list?", problems)
    of_low, of_high = np.mean(shares, axis=0)
    if of_low < of_high:
        raise UserError(
            f"--la_crf_dir {low}, --ha_crf_dir {high}: swapped? The low alpha's has more background; found"
            f" {of_low:.1%} of the pixels in the first, {of_high:.1%} in the second; exchange them"
        )
    if not _any_has_a_class((low / f"{image_id}.npy" for image_id in images), data_set):
        raise UserError(f"--la_crf_dir {low}: no image of the list has a class; there is nothing to learn from")


def _background(path: Path, data_set: DataSet, shape: tuple[int, int]) -> float:
    """The share of background in the label map of posteriors."""
    scores = load_label_scores(path, data_set, shape=shape)
    return float((np.stack(list(scores.values())).argmax(axis=0) == 0).mean())


def _any_has_a_class(paths: Iterable[Path], data_set: DataSet) -> bool:
    """Whether one of the files of posteriors has more than background; the first that has ends the search."""
    return any(len(load_label_scores(path, data_set)) > 1 for path in paths)


def made_with(folder: Path) -> str | None:
    """The note that our scripts leave beside the files of a folder, on what made them; None where there is none."""
    record = folder / "settings.json"
    return record.read_text() if record.is_file() else None
