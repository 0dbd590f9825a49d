"""CAM dicts and posteriors of a list, and its images: looked at before what is made of them."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.descriptions import find_data_set
from data.images import check_images, image_size
from tool.artifact import load_cam
from tool.checks import run_checks
from tool.cli import FILE, UserError, raise_problems, require_folder, what_is_at
from tool.dataset import DataSet
from tool.lists import Source, expect_files, find_images, read_ids
from tool.places import is_there, sample
from tool.torchrun import is_first, own_share

EMPTY_BYTES = 1024  # a file of more holds a map


def own_images(args: argparse.Namespace, cam_dirs: Sequence[Path]) -> dict[str, Path]:
    """This process's share of the images of --infer_list, by id, after a look at these, and at the CAM dicts of all of
    them in each of `cam_dirs`, which --cam_dir names; `args` are of a command with these flags.

    Raises `UserError` for what is missing or cannot be used.
    """
    data_set, source = find_data_set(args.data_set), Source("--infer_list", args.infer_list)
    root = require_folder(args.img_root, "--img_root", "JPEGImages, <id>.jpg")
    ids = read_ids(args.infer_list, "--infer_list")
    for folder in cam_dirs:
        folder_of_dicts(folder, ids, flag="--cam_dir", what="CAM dicts", source=source)
    images = find_images(ids, root, data_set, flag="--img_root", source=source)
    own = {image_id: images[image_id] for image_id in own_share(ids)}
    check_images(own, root)
    for folder in cam_dirs:
        check_cams(images, folder, data_set, flag="--cam_dir")
    return own


def folder_of_dicts(folder: str | Path, ids: Sequence[str], *, flag: str, what: str, source: Source) -> Path:
    """`folder` as a path, after a look whether it has `<id>.npy` of each of `ids`, none of them cut off; `UserError`
    names all that it lacks, or says where they are, and all that are no such files. what: it holds, for messages."""
    folder = require_folder(folder, flag, f"{what}, <id>.npy")
    expect_files(ids, folder, ".npy", flag=flag, source=source, endings=(".npy",))
    missing = [f"{image_id}.npy" for image_id in ids if not is_there(folder / f"{image_id}.npy")]
    raise_problems(f"{flag} {folder}: {what} of {source} that are missing; make them, or take their list", missing)
    bad = run_checks(lambda image_id: [] if _ends_well(folder / f"{image_id}.npy") else [f"{image_id}.npy"], ids, what)
    raise_problems(
        f"{flag} {folder}: {what} of {source} that are cut off, closed or no .npy files; make them again", bad
    )
    return folder


def _ends_well(path: Path) -> bool:
    """Whether a file begins as a .npy file and ends with a pickle's last byte or, of an array, where that is to end."""
    if what_is_at(path) != FILE:
        return False
    try:
        with path.open("rb") as file:
            head = file.read(128)
            if b"'|O'" in head:  # a pickle; to read its header as such takes as long as all else
                file.seek(-1, os.SEEK_END)
                return head.startswith(np.lib.format.MAGIC_PREFIX) and file.read() == b"."
        return isinstance(np.load(path, mmap_mode="r"), np.ndarray)
    except Exception:  # closed to us; and a damaged file can raise anything
        return False


def check_cams(images: Mapping[str, Path], folder: Path, data_set: DataSet, *, flag: str) -> None:
    """Look at some of the CAM dicts of `images`, and whether any has a class; a note says how many show nothing.

    Raises `UserError` with each of those that cannot be read or are of another size than their images, and if all of
    the list are empty.
    """
    problems, flat = [], []
    few = sample(list(images))
    for image_id in few:
        try:
            cams = load_cam(folder / f"{image_id}.npy", data_set, shape=image_size(images[image_id])[::-1])
        except UserError as error:
            problems.append(str(error))
        else:
            flat += [image_id] if cams and max(cam.max() for cam in cams.values()) <= 0 else []
    raise_problems(f"{flag} {folder}: CAM dicts that cannot be used; are they of this list's images?", problems)
    if flat and is_first():
        print(
            f"note: {flag} {folder}: of {len(few)} CAM dicts that were looked at {len(flat)} have no score above 0, as"
            f" {flat[0]}.npy: such images are background alone",
            file=sys.stderr,
        )
    small = [path for image_id in images if (path := folder / f"{image_id}.npy").stat().st_size < EMPTY_BYTES]
    if len(small) == len(images) and not any(load_cam(path, data_set) for path in small):
        raise UserError(f"{flag} {folder}: every CAM dict of the list is empty; expected some with classes")
