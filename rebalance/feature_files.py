"""Files of unsupervised features, <id>.pt: one float16 tensor (D, h, w) an image, as `torch.save` writes it.

The cells cover the image evenly: those of an image at twice its size, in patches of 8 or 14 pixels.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from data.images import image_size
from tool.artifact import atomic_file
from tool.checkpoint import archive_problem
from tool.checks import run_checks
from tool.cli import FILE, NOTHING, UserError, raise_problems, what_is_at
from tool.limits import limit_met
from tool.places import other_ending

PATCHES = (8, 14)  # of the nets that features are from
SCALE = 2  # of the image that the cells are patches of


def save_features(path: Path, features: Tensor) -> None:
    """Write features, float (D, h, w), as float16. Raises `UserError` where the file system refuses."""
    with atomic_file(path) as file:
        torch.save(features.to("cpu", torch.float16).contiguous(), file)


def load_features(path: Path) -> Tensor:
    """The features at `path`, float16 (D, h, w); the file is read where they are looked at.

    Raises `UserError` for a file that is missing, damaged, or holds anything else. Nothing in it is executed.
    """
    if (found := what_is_at(path)) != FILE:
        missing = f"no such file{other_ending(path, ('.pth', '.npy'))}"
        raise UserError(f"{path}: {missing if found == NOTHING else f'expected features, found {found}'}")
    try:
        problem = archive_problem(path)
        found = None if problem else torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged archive or pickle raises nearly anything
        if limit_met(error) is not None:
            raise
        raise UserError(
            f"{path}: cannot be read as features, a tensor that torch.save wrote: damaged, or another file"
            f" ({type(error).__name__})"
        ) from error
    if problem:
        raise UserError(f"{path}: expected features, a tensor that torch.save wrote, found {problem}")
    if not isinstance(found, Tensor) or found.layout != torch.strided:
        raise UserError(f"{path}: expected a tensor of features, found {type(found).__name__}")
    if found.dtype != torch.float16 or found.ndim != 3 or not found.numel():
        kind = str(found.dtype).removeprefix("torch.")
        raise UserError(f"{path}: expected features, float16 (D, height, width), found {kind} {tuple(found.shape)}")
    if found.numel() * found.element_size() > found.untyped_storage().nbytes():
        raise UserError(f"{path}: expected features, found a tensor {tuple(found.shape)} with less data than that")
    return found


def grid_of(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """The grid (h, w) of an image's features, from its `size` (width, height)."""
    width, height = size
    return -(-SCALE * height // patch), -(-SCALE * width // patch)


def check_features(images: Mapping[str, Path], root: Path, *, flag: str) -> int:
    """Look at the features of all `images`, by id; the most that one image's take in memory, bytes of float32.

    Raises `UserError`, naming `flag`, with every file that is missing or damaged, images too, has another number of
    channels than most, or another grid than most files' patches make of its image. Values are not looked at, which
    takes as long as reading all files whole.
    """
    sizes: dict[str, tuple[int, int]] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def check(image_id: str) -> list[str]:
        try:
            size, shape = image_size(images[image_id]), tuple(load_features(root / f"{image_id}.pt").shape)
        except UserError as error:
            return [str(error)]
        sizes[image_id], shapes[image_id] = size, shape
        return []

    problems = run_checks(check, list(images), "features")
    fitting = {
        image_id: [patch for patch in PATCHES if grid_of(sizes[image_id], patch) == shape[1:]]
        for image_id, shape in shapes.items()
    }
    patches = Counter(patch for found in fitting.values() for patch in found).most_common(1)
    channels = Counter(shape[0] for shape in shapes.values()).most_common(1)
    for image_id, shape in shapes.items():
        path, size = root / f"{image_id}.pt", sizes[image_id]
        if shape[0] != channels[0][0]:
            problems.append(f"{path}: expected {channels[0][0]} channels, as most files have, found {shape[0]}")
        if not patches or patches[0][0] not in fitting[image_id]:
            grids = [grid_of(size, patch) for patch, _ in patches] or [grid_of(size, patch) for patch in PATCHES]
            expected = " or ".join(f"{height} x {width}" for height, width in grids)
            problems.append(
                f"{path}: expected {expected} cells (height x width), of an image of {size[0]} x {size[1]} pixels,"
                f" found {shape[1]} x {shape[2]}; are they of this image?"
            )
    raise_problems(f"{flag} {root}: features of the list's images that cannot be used; make them again", problems)
    return max(4 * shape[0] * shape[1] * shape[2] for shape in shapes.values())
