"""Training state on disk: whole or absent, never half, and loaded without running what it holds."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tool.artifact import atomic_file
from tool.cli import UserError, require_file


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
    path = require_file(path, flag, "a checkpoint written by torch.save")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive or pickle raises nearly anything
        # PyTorch names what it would not load: "... GLOBAL torch.nn.modules.linear.Linear was not an allowed ..."
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        found = f"{refused[1]}, which could run code" if refused else f"a damaged file ({type(error).__name__})"
        raise UserError(
            f"{flag} {path}: expected a checkpoint of tensors and plain values, found {found}; download or train it"
            " again, or save the state dict alone: torch.save(net.state_dict(), path)"
        ) from None
