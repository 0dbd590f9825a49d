"""Training state on disk: whole or absent, never half, and loaded without running what it holds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tool.artifact import atomic_file
from tool.cli import UserError


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, dicts and lists of them) to `path` by way of a temporary file."""
    with atomic_file(path) as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path, flag: str) -> Any:
    """Read what `torch.save` wrote, tensors on the CPU; nothing in the file is executed.

    Raises:
        UserError: no file, not a checkpoint, truncated, or holding anything but tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"{flag} {path}: expected a checkpoint file, found {'a folder' if path.is_dir() else 'none'}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen types on damaged files, none of them documented
        reason = str(error).strip().split("\n", 1)[0][:200]
        raise UserError(
            f"{flag} {path}: expected a checkpoint of tensors and plain values, found a file that is damaged or holds"
            f" something else ({type(error).__name__}: {reason}); download or train it again"
        ) from error
