"""What the commands have in common: their images, and these images' tags."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.annotations import labels_from_annotations
from data.images import check_images
from network import PRETRAINED
from tool.cli import UserError, path_text, raise_problems, require_folder
from tool.dataset import DataSet
from tool.file_hash import sha256_of
from tool.lists import Source, find_images, read_ids
from tool.places import visible
from tool.torchrun import own_share


def add_image_flags(data: Any) -> None:
    """--img_root and --infer_list."""
    data.add_argument(
        "--img_root", "--data_root", type=path_text, required=True, help="folder of images (VOC2012/JPEGImages)"
    )
    data.add_argument("--infer_list", type=path_text, metavar="FILE", help="ids (all images of --img_root)")


def find_listed(
    args: argparse.Namespace, data_set: DataSet, *, root_flag: str = "--img_root", list_flag: str = "--infer_list"
) -> dict[str, Path]:
    """The images of a list, or of all their folder, by id, these sorted. Raises `UserError` where there are none, and
    for ids without an image."""
    root, listed = (getattr(args, flag.removeprefix("--")) for flag in (root_flag, list_flag))
    root = require_folder(root, root_flag, "<id>.jpg")
    if listed is not None:
        source = Source(list_flag, listed)
        return find_images(read_ids(listed, list_flag), root, data_set, flag=root_flag, source=source)
    return images_of(root, data_set, root_flag, advice=f"; images in several folders need a list, {list_flag}")


def images_of(root: Path, data_set: DataSet, flag: str, *, advice: str = "") -> dict[str, Path]:
    """All images of a folder, which `flag` names, by id, sorted. Raises `UserError`, with `advice`, for none."""
    found = {path.stem: path for suffix in reversed(data_set.suffixes) for path in visible(root, suffix)}
    if not found:
        raise UserError(f"{flag} {root}: expected images, <id>{data_set.suffixes[0]}, found none{advice}")
    return dict(sorted(found.items()))


def own_checked(images: Mapping[str, Path], root: str | Path) -> dict[str, Path]:
    """This process's share of `images`, after a look at each of these. Raises as `check_images`."""
    own = {image_id: images[image_id] for image_id in own_share(list(images))}
    check_images(own, root)
    return own


def read_tags(
    ids: Sequence[str], folder: str | Path, data_set: DataSet, *, flag: str = "--xml_dir"
) -> dict[str, np.ndarray]:
    """The tags of each image, float32 (K,) of zeros and ones, from `<folder>/<id>.xml`, which `flag` leads to.

    Raises `UserError` with every file that is missing or damaged, or names what is no class of the data set.
    """
    folder = require_folder(folder, flag, "annotations, <id>.xml, as VOC has them or rebalance/layout.py makes them")
    tags, problems = labels_from_annotations(folder, ids, data_set, may_be_empty=True)
    raise_problems(f"{flag} {folder}: annotations that cannot be used", problems)
    return tags


def hash_of(path: str | None) -> str | None:
    """SHA-256 of a file; what is no file's name as it is."""
    return path if path in (None, PRETRAINED) else sha256_of(path)
