"""One image of the report: read all its files, count, and draw its thumbnails. Done by processes."""

import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tool.artifact import load_cam, load_label_map
from tool.cli import UserError
from tool.dataset import IGNORE, DataSet
from tool.image import load_image
from tool.metric import CURVE, confusion_matrix, threshold_counts
from tool.pipeline import Pool, ProcessDied
from tool.plot import error_colours, heat_colours, is_background, label_colours
from tool.progress import Bar

THUMBNAIL = 280  # pixels on the longer side, at most
RUNS_PER_PROCESS = 32  # of all images together; fewer do not pay for the start of one


class RunFiles(NamedTuple):
    """One run's files of an image: its CAM dict, if there is one, and its label maps by stage."""

    cam: Path | None
    labels: Mapping[str, Path]


class ImageFiles(NamedTuple):
    """An image's files; without `image` it is scored and not shown."""

    image: Path | None
    truth: Path | None
    saliency: Path | None
    runs: Sequence[RunFiles]


class Findings(NamedTuple):
    """What is on an image.

    Attributes:
        labels: the labels in its truth, without background; where it has none, those of its CAMs and label maps.
        counts: {run: int64 (3, T, L)} of its CAMs at each threshold (`tool.metric`).
        confusions: {(run, stage): int64 (L, L)}; these two without a truth empty.
        pictures: WebP files by name: image, truth, saliency, and "<run> cam <label>", "<run> <stage>" and
            "<run> <stage> errors"; those but image and saliency have no background; none of an image that is not
            shown.
        problems: a line for each file that cannot be used; if there are any, the rest is empty.
    """

    labels: list[int]
    counts: dict[int, np.ndarray]
    confusions: dict[tuple[int, str], np.ndarray]
    pictures: dict[str, bytes]
    problems: list[str]


def look(_: str, files: ImageFiles, data_set: DataSet) -> Findings:
    """Read, count and draw one image of a data set; the problems of all its files at once.

    Without a background CAMs are drawn and not scored: a threshold is background's score.
    """
    problems: list[str] = []

    def read(load: Callable[..., Any], path: Path, *arguments: Any, **options: Any) -> Any:
        try:
            return load(path, *arguments, **options)
        except UserError as error:
            problems.append(str(error))
            return None

    truth = None if files.truth is None else read(load_label_map, files.truth, data_set)
    shape = None if truth is None else truth.shape
    image = None if files.image is None else read(load_picture, files.image, mode="RGB", shape=shape)
    if files.truth is None and image is not None:
        shape = image.size[::-1]
    saliency = None if files.saliency is None else read(load_picture, files.saliency, mode="L", shape=shape)
    cams, label_maps = {}, {}
    for number, run in enumerate(files.runs):
        if run.cam is not None:
            cams[number] = read(load_cam, run.cam, data_set, shape=shape)
        for stage, path in run.labels.items():
            label_maps[number, stage] = read(load_label_map, path, data_set, shape=shape, ignore=False)
    if problems:
        return Findings([], {}, {}, {}, problems)
    pictures = {} if image is None else draw(image, truth, saliency, cams, label_maps, data_set)
    if truth is None:
        drawn = {data_set.label_of(index) for maps in cams.values() for index in maps}
        return Findings(
            sorted(drawn.union(*(_objects(of, data_set) for of in label_maps.values()))), {}, {}, pictures, []
        )
    num_labels = data_set.num_labels
    counts = {
        number: threshold_counts(maps, truth, thresholds=CURVE, num_labels=num_labels)
        for number, maps in cams.items()
        if data_set.background
    }
    confusions = {key: confusion_matrix(labels, truth, num_labels=num_labels) for key, labels in label_maps.items()}
    return Findings(_objects(truth, data_set), counts, confusions, pictures, [])


def _objects(labels: np.ndarray, data_set: DataSet) -> list[int]:
    """The labels in a label map, without background and 255."""
    return np.unique(labels[(labels != IGNORE) & ~is_background(labels, data_set)]).tolist()


def load_picture(path: Path, *, mode: str, shape: tuple[int, int] | None) -> Image.Image:
    """An image's pixels in Pillow's `mode`; `UserError` if it is missing, damaged or not of `shape`, (H, W)."""
    pixels = load_image(path, mode)
    if shape is not None and pixels.size != shape[::-1]:
        expected, found = (f"{width} x {height}" for width, height in (shape[::-1], pixels.size))
        raise UserError(f"{path}: expected {expected} (width x height), found {found}")
    return pixels


def draw(
    image: Image.Image,
    truth: np.ndarray | None,
    saliency: Image.Image | None,
    cams: Mapping[int, Mapping[int, np.ndarray]],
    label_maps: Mapping[tuple[int, str], np.ndarray],
    data_set: DataSet,
) -> dict[str, bytes]:
    """The thumbnails, as `Findings.pictures` has them."""
    scale = min(THUMBNAIL / max(image.size), 1)
    size = tuple(max(round(side * scale), 1) for side in image.size)

    def smooth(picture: Image.Image) -> Image.Image:
        return picture.resize(size, Image.Resampling.BOX)

    def small(labels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))

    pictures = {"image": _photo(smooth(image), quality=72)}
    if truth is not None:
        small_truth = small(truth)
        pictures["truth"] = _flat(label_colours(small_truth, data_set))
    if saliency is not None:
        pictures["saliency"] = _photo(smooth(saliency), quality=60)
    for run, maps in cams.items():
        for index, scores in maps.items():
            heat = heat_colours(np.asarray(smooth(Image.fromarray(scores))))
            pictures[f"{run} cam {data_set.label_of(index)}"] = _photo(Image.fromarray(heat), quality=60)
    for (run, stage), labels in label_maps.items():
        small_labels = small(labels)
        pictures[f"{run} {stage}"] = _flat(label_colours(small_labels, data_set))
        if truth is not None:
            pictures[f"{run} {stage} errors"] = _flat(error_colours(small_labels, small_truth, data_set))
    return pictures


def _photo(picture: Image.Image, *, quality: int) -> bytes:
    return _webp(picture, quality=quality, method=3)


def _flat(colours: np.ndarray) -> bytes:
    """Few colours, uint8 (H, W, 4), kept to the bit."""
    return _webp(Image.fromarray(colours), lossless=True, method=2)


def _webp(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", **options)
    return file.getvalue()


def look_at_all(
    files: Mapping[str, ImageFiles], data_set: DataSet, *, num_workers: int
) -> Iterator[tuple[str, Findings]]:
    """`look` at every image by processes, as they are done. Raises `UserError` if one of these is killed."""
    size = min(num_workers, len(files), -(-sum(len(of_image.runs) for of_image in files.values()) // RUNS_PER_PROCESS))
    look_at = functools.partial(look, data_set=data_set)
    with Bar(total=len(files), desc="look at images", unit="image") as bar:
        if size <= 1:
            for image_id, of_image in files.items():
                yield image_id, look_at(image_id, of_image)
                bar.update()
            return
        try:
            with Pool("report", look_at, size) as pool:
                pool.waiting.extend(files.items())
                for found in pool.results():
                    yield found
                    bar.update()
        except ProcessDied as error:
            raise UserError("a report process was killed, perhaps for memory; try fewer --num_workers") from error
