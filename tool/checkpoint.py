"""Training state on disk: whole or absent, never half, and loaded without running what it holds."""

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tool.artifact import atomic_file
from tool.cli import UserError
from tool.limits import limit_met
from tool.weights_file import is_zip, require_weights


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, dicts and lists of them) to `path` by way of a temporary file.

    Raises `UserError`, and leaves what was there, if values are not finite (names the first tensor of such) or where
    the file system refuses.
    """
    name = _first_not_finite(state)
    if name is not None:
        raise UserError(
            f"{path}: not written, as {name} holds values that are not finite: training stops; lower the learning rate"
        )
    with atomic_file(path) as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:
            # The end that torch gives an archive hides why it was cut off: a full disk, Ctrl-C.
            raise error.__context__ or error from None
        file.flush()
        os.fsync(file.fileno())


def save_weights(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """`save_checkpoint` of a net's tensors, by name, moved to the CPU: a plain `torch.load` reads them on any machine,
    in any PyTorch from 1.6 on."""
    save_checkpoint(path, {name: value.cpu() for name, value in state.items()})


def _first_not_finite(state: Any) -> str | None:
    """The name of the first tensor in `state` with values that are not finite. Waits for the device, once."""
    tensors = {name: value for name, value in _tensors(state, "") if value.is_floating_point()}
    finite = [value.isfinite().all() for value in tensors.values()]
    together = torch.stack([value.to(finite[0].device) for value in finite]).tolist() if finite else []
    return next((name for name, whole in zip(tensors, together, strict=True) if not whole), None)


def _tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in nested dicts and lists, each with its keys joined by dots."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(item, f"{name}.{key}" if name else str(key))


# More than any checkpoint holds: a file of a few bytes can hold one list in another a thousand times, and so on.
MAX_VALUES = 10**6


def load_checkpoint(path: Path, flag: str) -> Any:
    """Read what `torch.save` wrote, tensors on the CPU; nothing in the file is executed.

    Raises:
        UserError: no file, not a checkpoint, truncated, holding anything but dense tensors and plain values, or
            something that unfolds to far more than the file's size.
    """
    path = require_weights(path, flag, "a checkpoint written by torch.save")
    try:
        found = archive_problem(path)
        content = None if found else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive or pickle raises nearly anything
        if limit_met(error) is not None:
            raise
        # PyTorch names what it would not load: "... GLOBAL torch.nn.modules.linear.Linear was not an allowed ..."
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused and refused[1].startswith("numpy."):
            raise UserError(
                f"{flag} {path}: expected a checkpoint of tensors, found arrays of NumPy; if you trust it, make tensors"
                f" of them: state = torch.load({str(path)!r}, weights_only=False); torch.save({{name:"
                " torch.as_tensor(value) for name, value in state.items()}, path)"
            ) from error
        if refused:
            raise UserError(
                f"{flag} {path}: expected a checkpoint of tensors and plain values, found {refused[1]}, which could run"
                " code; if you trust it, save the state dict alone, where the code is that wrote it:"
                f" net = torch.load({str(path)!r}, weights_only=False); torch.save(net.state_dict(), path), or, if it"
                " is a dict, under the key that list(net) shows: torch.save(net['state_dict'], path)"
            ) from error
        found = f"a damaged file ({type(error).__name__})"
    found = found or _content_problem(content)
    if found:
        raise UserError(
            f"{flag} {path}: expected a checkpoint of tensors and plain values, found {found}; download or train it"
            " again"
        )
    return content


def archive_problem(path: Path) -> str | None:
    """What is wrong with the sizes in an archive; torch compresses nothing. Raises `BadZipFile` for a damaged one."""
    if not is_zip(path):
        return None
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    return f"an archive that unpacks to {unpacked:,} bytes" if unpacked > path.stat().st_size else None


def _content_problem(content: Any) -> str | None:
    """What no training writes, and would take memory without end or fit nowhere."""
    waiting, values = [content], 0
    while waiting:
        value = waiting.pop()
        values += 1
        if values > MAX_VALUES:
            return f"more than {MAX_VALUES:,} values"
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.device.type != "cpu":
                return f"a tensor of layout {value.layout} on {value.device.type}".replace("torch.", "")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                return f"a tensor of shape {tuple(value.shape)} with less data than that"
        elif isinstance(value, Mapping | list | tuple | set):
            waiting += value.values() if isinstance(value, Mapping) else value
    return None
