"""Data sets that are drawn, not downloaded: written whole or not at all, once, and left alone where they are."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tool.cli import UserError, raise_problems
from tool.lock import turn_in

RECORD_FILE = "mini.json"


def write_once(root: Path, settings: Mapping[str, int], write: Callable[[Path], None]) -> bool:
    """Let `write` make the folder `root`, unless it is there with these settings; whether it was made now.

    It appears when it is whole, with `settings` and the size of each file in mini.json; until then it is
    `.<name>.tmp` beside it, which the next run replaces. Runs at once into one folder take turns.

    Raises `UserError` if `root` lacks files or holds anything else, or if it cannot be written.
    """
    unfinished = root.with_name(f".{root.name}.tmp")  # a sibling, so that renaming moves no data
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with turn_in(root.parent):
            if _already_made(root, settings):
                return False
            if unfinished.exists():
                shutil.rmtree(unfinished)
            try:
                write(unfinished)
                record = {"settings": settings, "bytes": _sizes(unfinished)}
                (unfinished / RECORD_FILE).write_text(json.dumps(record, indent=0) + "\n")
                unfinished.replace(root)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise UserError(f"--out {root.parent}: cannot be written to ({error.strerror or error})") from error
    return True


def _already_made(root: Path, settings: Mapping[str, int]) -> bool:
    """Whether `root` is the data set with these settings; `UserError` if it is anything else but missing or empty."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        record = json.loads((root / RECORD_FILE).read_text())
        found, sizes = record["settings"], dict(record["bytes"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"--out {root}: holds something else already; remove it or name another folder") from None
    if found != settings:
        raise UserError(
            f"--out {root}: holds a generated data set with other settings ({json.dumps(found)}, not "
            f"{json.dumps(settings)}); remove it or name another folder"
        )
    there = _sizes(root)
    raise_problems(
        f"--out {root}: files of this data set are missing or changed; remove it or name another folder",
        [name for name, size in sizes.items() if there.get(name) != size],
    )
    return True


def _sizes(root: Path) -> dict[str, int]:
    """Bytes of each file below `root`, by its path there."""
    return {str(path.relative_to(root)): path.stat().st_size for path in sorted(root.rglob("*")) if path.is_file()}
