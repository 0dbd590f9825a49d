"""A run's folder: the settings that its files are made with, and the checkpoint that a stopped run goes on from."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tool.artifact import atomic_file
from tool.checkpoint import load_checkpoint
from tool.cli import UserError, raise_problems


# Open as long as the process: the locks on the folders that it writes into.
_held: list[int] = []


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


# A lock lasts until all copies of its descriptor are closed, and a forked loader process outlives a killed run a little.
os.register_at_fork(after_in_child=_let_go)


def hold_folder(folder: Path, flag: str) -> None:
    """Keep other runs out of `folder`, which exists and `flag` leads to, until this process ends, however it ends.

    Raises `UserError` if another process holds it. A file system that knows no locks keeps nobody out.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"{flag} {folder}: another run is writing into it; wait for its end, or name another") from None
    except OSError:
        os.close(descriptor)
        return
    _held.append(descriptor)


def changed_settings(then: Mapping[str, Any], now: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """One line for each setting of `now` that was another in `then`."""
    changed = (name for name in now if then.get(name) != now[name])
    return [f"{prefix}{name}: {then.get(name)} then, {now[name]} now" for name in changed]


def claim_folder(record: Path, settings: Mapping[str, Any], *, refusal: str) -> None:
    """Note in the JSON file `record` the settings that a folder's files are made with.

    Raises `UserError` if it notes others, `refusal` and each of them, or cannot be read.
    """
    if record.exists():
        try:
            then = json.loads(record.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{record}: cannot be read as the record of settings that it is ({error})") from error
        if not isinstance(then, dict):
            raise UserError(f"{record}: expected a record of settings, found {type(then).__name__}")
        raise_problems(refusal, changed_settings(then, settings))
    with atomic_file(record) as file:
        file.write(json.dumps(settings, indent=2).encode())


def find_checkpoint(
    folder: Path, *, resume: bool, settings: Mapping[str, Any], prefix: str, name_flag: str
) -> dict | None:
    """The checkpoint in `folder` to go on from, if there is one; a run is never overwritten or continued otherwise.

    Args:
        settings: what decides the run's weights; must equal what the checkpoint holds under `settings`.
        prefix: what precedes a setting's name where the user gives it (`--`, or nothing for a key).
        name_flag: where the user names the run, for messages.

    Raises `UserError` if the run exists and `resume` is not asked for, or if it had other settings; names them all.
    """
    last = folder / "last.ckpt"
    if not last.exists():
        return None
    if not resume:
        raise UserError(f"{last}: this run exists; pass --resume to go on with it, or another {name_flag}")
    checkpoint = load_checkpoint(last, "--resume")
    if not (isinstance(checkpoint, dict) and isinstance(checkpoint.get("settings"), dict) and "step" in checkpoint):
        raise UserError(f"--resume: {last} is no checkpoint of this script; take another {name_flag}")
    raise_problems(
        f"--resume: {last} was trained with other settings; restore them or take another {name_flag}",
        changed_settings(checkpoint["settings"], settings, prefix=prefix),
    )
    return checkpoint


def make_folder(folder: Path, arguments: Mapping[str, Any], *, flag: str) -> None:
    """Create the run's `folder`, which `flag` leads to, with `arguments` as args.json in it; raises `UserError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be created ({error.strerror})") from error
    with atomic_file(folder / "args.json") as file:
        file.write(json.dumps(arguments, indent=2).encode())
