"""A run's folder: its settings, and the checkpoint that a run which stopped goes on from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tool.artifact import atomic_file
from tool.checkpoint import load_checkpoint
from tool.cli import UserError, raise_problems


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
    then = checkpoint["settings"]
    changed = [
        f"{prefix}{name}: {then.get(name)} then, {now} now" for name, now in settings.items() if then.get(name) != now
    ]
    raise_problems(
        f"--resume: {last} was trained with other settings; restore them or take another {name_flag}", changed
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
