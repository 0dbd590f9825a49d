"""Images and saliency maps: read, and checked before any long work."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.labels import label_problems
from tool.checks import run_checks
from tool.cli import FILE, NOTHING, UserError, raise_problems, what_is_at
from tool.dataset import DataSet
from tool.image import FORMATS, TOO_LARGE, UNREADABLE, load_image
from tool.limits import limit_met
from tool.places import other_ending

_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
_JPEG_MARKER = re.compile(rb"\xff[^\0\xff]")  # a 255 of the pixels has a zero behind it, one that fills another 255
_BARE_MARKERS = {b"\xff" + bytes([code]) for code in (0x01, *range(0xD0, 0xD9))}  # no length and content behind them


def load_rgb(path: str | Path) -> Image.Image:
    """The image at `path` as RGB, uint8; grey, palette and CMYK images are converted. Errors are `load_image`'s."""
    return load_image(path, "RGB")


def is_complete(path: Path, image_format: str | None) -> bool:
    """Whether the image's end is in the file, which may go on after it, as with a phone's video; True for formats other
    than JPEG and PNG."""
    if image_format not in ("JPEG", "MPO", "PNG"):
        return True
    end = _PNG_END if image_format == "PNG" else _JPEG_END
    with open(path, "rb") as file:
        file.seek(-len(end), os.SEEK_END)
        if file.read() == end:
            return True
        file.seek(0)
        content = file.read()
    return end in content if image_format == "PNG" else _has_jpeg_end(content)


def _has_jpeg_end(content: bytes) -> bool:
    """Whether a JPEG's own end is there, which a thumbnail's in its header is not: found from marker to marker."""
    place = 2
    while found := _JPEG_MARKER.search(content, place):
        if found[0] == _JPEG_END:
            return True
        place = found.end()
        if found[0] not in _BARE_MARKERS:
            place += int.from_bytes(content[place : place + 2], "big")
    return False


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels from the header of the image at `path`; the pixels are not decoded.

    Raises `UserError` naming the file if it is missing, empty, truncated, no image, or of more than 8 bits a channel.
    """
    found = what_is_at(path)
    if found != FILE:
        why = f"no such file{other_ending(path)}" if found == NOTHING else f"expected an image, found {found}"
        raise UserError(f"{path}: {why}")
    try:
        with Image.open(path, formats=FORMATS) as image:
            size, mode, image_format = image.size, image.mode, image.format
        complete = is_complete(path, image_format)
    except UNREADABLE as error:
        if limit_met(error) is not None:
            raise
        if isinstance(error, Image.DecompressionBombError):
            raise UserError(f"{path}: {TOO_LARGE}") from error
        empty = isinstance(error, UnidentifiedImageError) and path.stat().st_size == 0
        reason = "the file is empty" if empty else getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as an image ({reason})") from error
    if not complete:
        raise UserError(f"{path}: the image is truncated; fetch it again")
    if mode.startswith(("I", "F")):
        raise UserError(f"{path}: expected an image of 8 bits a channel, found mode {mode}")
    return size


def with_size(path: Path) -> str:
    """The path of an image and its size, for a message. Raises as `image_size`."""
    width, height = image_size(path)
    return f"{path}, {width} x {height} pixels"


def image_problems(image: Path, saliency: Path | None = None, *, decode: bool = False) -> list[str]:
    """One line for each thing wrong with an image and, where given, its saliency map, as far as the headers tell.

    `decode` also reads their pixels, as training does.
    """
    sizes, problems = [], []
    for path in [image] if saliency is None else [image, saliency]:
        try:
            sizes.append(image_size(path))
            if decode:
                load_rgb(path)
        except UserError as error:
            problems.append(str(error))
    if len(set(sizes)) > 1:
        expected, found = (f"{width} x {height}" for width, height in sizes)
        problems.append(f"{saliency}: expected the size of its image, {expected} (width x height), found {found}")
    return problems


def check_images(images: Mapping[str, Path], root: str | Path) -> None:
    """Look at the header and the end of every image; `root` is where they were looked for, for the message.

    Raises `UserError` with every image that is missing, empty, truncated or no image.
    """
    raise_problems(
        f"{root}: images of the list that cannot be used",
        run_checks(lambda identifier: image_problems(images[identifier]), list(images), "images"),
    )


def check_training_files(
    images: Mapping[str, Path],
    *,
    saliency_root: str | Path | None,
    labels: dict[str, np.ndarray],
    data_set: DataSet,
) -> None:
    """Look at everything that training on `images` will read, before it starts: headers and ends of files, and labels.

    Args:
        images: their paths by id (`tool.lists.find_images`).
        saliency_root: folder of `<id>.png`, or None where no saliency is used.
        labels: of `load_labels`.

    Raises `UserError` with every image and saliency map that is missing, empty, truncated or no image, every saliency
    map of another size than its image, and every id without a proper label.
    """

    def check(identifier: str) -> list[str]:
        saliency = None if saliency_root is None else Path(saliency_root) / f"{identifier}.png"
        return image_problems(images[identifier], saliency)

    ids = list(images)
    problems = run_checks(check, ids, "images")
    problems += [f"label of {problem}" for problem in label_problems(ids, labels, data_set)]
    raise_problems("the training data cannot be used as it is", problems)


def hash_of_sizes(ids: Sequence[str], root: str | Path | None, ending: str = ".png") -> str | None:
    """SHA-256 of the sizes in bytes of the files `<root>/<id><ending>`, which tells one set of maps from another.

    None without `root`. Raises `UserError` for a file that is gone.
    """
    if root is None:
        return None
    try:
        sizes = [(Path(root) / f"{image_id}{ending}").stat().st_size for image_id in sorted(ids)]
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()
