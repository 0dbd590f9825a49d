"""What AffinityNet's training looks at before it starts: the CRF posteriors of the list's images."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data.images import image_size
from tool.artifact import load_label_scores
from tool.cli import UserError, raise_problems
from tool.dataset import DataSet
from tool.folder import record_of
from tool.places import sample

# By these keys the notes of prepare.py and of inference.py say which CAMs the posteriors were made of.
OF_CAMS = ("settings.json of --cam_dir", "weights_sha256")


def check_alphas(low: Path, high: Path) -> None:
    """Raise `UserError` if the folders' notes, where both have one, name the same alpha or other CAMs."""
    of_low, of_high = record_of(low), record_of(high)
    alpha = of_low.get("alpha")
    if alpha is not None and alpha == of_high.get("alpha"):
        raise UserError(
            f"--la_crf_dir {low}, --ha_crf_dir {high}: expected a low and a high alpha, found {alpha} in both"
            " settings.json; make the other with prepare.py"
        )
    if any(of_low[key] and of_high.get(key) and of_low[key] != of_high[key] for key in OF_CAMS if key in of_low):
        raise UserError(
            f"--la_crf_dir {low}, --ha_crf_dir {high}: expected posteriors of the same CAMs, found two in their"
            " settings.json; make both with one prepare.py"
        )


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
