"""The YAML of a released command: its entries by their dotted names."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tool.cli import UserError, did_you_mean, require_file

SHOWN = 80  # characters of what a file holds
MAX_ENTRIES = 1000  # in which a line can stand for any number of others


def read_yaml(path: Path, flag: str) -> dict[str, Any]:
    """The entries of the file at `path`, which `flag` names, nested names joined by dots. Nothing in it is executed.

    Raises `UserError` for a file that is missing or holds no such entries.
    """
    require_file(path, flag, "the released command's YAML")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(values, Mapping):
            raise UserError(f"{flag} {path}: expected entries as DATA: {{ROOT: ...}}, found {type(values).__name__}")
        return dict(itertools.islice(_flattened(values), MAX_ENTRIES))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())[:SHOWN]
        raise UserError(f"{flag} {path}: cannot be read as YAML ({said})") from error


def meant(name: str, known: Collection[str]) -> str:
    """The end of a message about an entry that is unknown: which was meant, or which there are."""
    return did_you_mean(name.upper(), known) or f"; there are {', '.join(known)}"


def _flattened(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
