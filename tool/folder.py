"""Folders of files and the settings that these are made with: noted, compared, and kept to one run."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tool.artifact import write_json
from tool.cli import NOTHING, UserError, brief, raise_problems, what_is_at
from tool.lock import hold_folder


def changed_settings(then: Mapping[str, Any], now: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """One line for each setting of `now` that was another in `then`; of a setting that is itself a record, as JSON
    text, one for each that changed there."""
    lines = []
    for name, value in now.items():
        if _same_setting(then.get(name), value):
            continue
        before, after = _record(then.get(name)), _record(value)
        whose = name.split(" of ")[-1]  # the settings.json of --cam_dir
        inner = changed_settings(before, dict.fromkeys(before) | after, prefix=f"{prefix}{whose}'s ") if after else []
        if not before or not inner:  # no two records, or such as differ in their spaces alone
            inner = [f"{prefix}{name}: {brief(then.get(name))} then, {brief(value)} now"]
        lines += inner
    return lines


def _record(setting: Any) -> dict[str, Any]:
    """The record that a setting holds as JSON text; empty where it holds none."""
    try:
        record = json.loads(setting) if isinstance(setting, str) else None
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _same_setting(then: Any, now: Any) -> bool:
    """Whether a setting is as it was; what a file holds may be anything, and not all of that compares as a bool."""
    if {type(then), type(now)} == {int, float}:  # --crf_alpha 4 is 4.0
        return then == now
    if type(then) is not type(now):
        return False
    if isinstance(now, list | tuple):
        return len(then) == len(now) and all(map(_same_setting, then, now))
    return then == now


class Claim(NamedTuple):
    """A folder of files, which `flag` leads to, and the settings that they are made with.

    elsewhere: the JSON file that notes these, where it is not the folder's settings.json. defaults: of settings that
    came after older records, which count as having had these.
    """

    folder: Path
    flag: str
    settings: Mapping[str, Any]
    elsewhere: Path | None = None
    defaults: Mapping[str, Any] = MappingProxyType({})

    @property
    def record(self) -> Path:
        return self.elsewhere or self.folder / "settings.json"


def check_claims(claims: Sequence[Claim]) -> None:
    """Raise `UserError` if a record notes other settings or cannot be read, and if a folder holds .npy or .png files
    without a record; it names all, and their flags."""
    refused = [(claim, lines) for claim in claims if (lines := _claim_problems(claim))]
    flags = dict.fromkeys(claim.flag for claim, _ in refused)
    records = dict.fromkeys(str(claim.elsewhere or "the settings.json there") for claim, _ in refused)
    raise_problems(
        f"folders that hold files made with other settings; take another {' and '.join(flags)}, or remove these files"
        f" and {' and '.join(records)}",
        [line for _, lines in refused for line in lines],
    )


def claim_folders(claims: Sequence[Claim]) -> None:
    """Create the folders, keep other runs out, and note what each one's files are made with.

    Raises `UserError` as `open_folder`, and as `check_claims` before anything is noted.
    """
    for claim in claims:
        open_folder(claim.folder, claim.flag)
    check_claims(claims)
    for claim in claims:
        if not claim.record.exists():
            write_json(claim.record, claim.settings)


def _claim_problems(claim: Claim) -> list[str]:
    if not claim.record.exists():
        strange = any(path.suffix in (".npy", ".png") for path in claim.folder.glob("*"))
        return [f"{claim.folder}: holds files made with unknown settings, {claim.record} is missing"] if strange else []
    try:
        then = json.loads(claim.record.read_text())
    except (OSError, ValueError, RecursionError) as error:
        return [f"{claim.record}: cannot be read as the record of settings that it is ({error})"]
    if not isinstance(then, dict):
        return [f"{claim.record}: expected a record of settings, found {type(then).__name__}"]
    return changed_settings({**claim.defaults, **then}, claim.settings, prefix=f"{claim.folder}: ")


def made_with(folder: Path) -> str | None:
    """The note that `claim_folders` leaves beside a folder's files, on what made them; None where there is none.

    Raises `UserError` where it cannot be read.
    """
    record = folder / "settings.json"
    try:
        return record.read_text(errors="replace") if record.is_file() else None
    except OSError as error:
        raise UserError(f"{record}: cannot be read ({error.strerror})") from error


def record_of(folder: Path) -> dict[str, Any]:
    """What `made_with` finds, as a dict; empty where there is none that can be read."""
    with suppress(UserError):
        return _record(made_with(folder))
    return {}


def checkpoint_of(folder: Path, *, resume: bool, name_flag: str) -> Path | None:
    """`last.ckpt` in a run's `folder`, for the run to go on from, if there is one; a run is never overwritten.

    Raises `UserError`, naming `name_flag`, which names the run, if there is one and `resume` is not asked for.
    """
    last = folder / "last.ckpt"
    if what_is_at(last) == NOTHING and not last.is_symlink():  # to a disk that is not there now
        return None
    if not resume:
        raise UserError(f"{last}: this run exists; pass --resume to go on with it, or another {name_flag}")
    return last


def make_folder(folder: Path, arguments: Mapping[str, Any], *, flag: str) -> None:
    """Create the run's `folder`, which `flag` leads to, with `arguments` as args.json in it, and keep other runs out.

    Raises `UserError` if it cannot be created or another run holds it.
    """
    open_folder(folder, flag)
    write_json(folder / "args.json", arguments)


def arguments_of_run(weights: str | Path | None) -> dict[str, Any]:
    """What the run was asked in whose folder `weights` lie, as `make_folder` noted it; empty where nothing says so."""
    if weights is None:
        return {}
    with suppress(OSError, ValueError, RuntimeError):  # the last of a home folder that is not there
        arguments = json.loads((Path(weights).expanduser().parent / "args.json").read_text())
        return arguments if isinstance(arguments, dict) else {}
    return {}


def open_folder(folder: Path, flag: str) -> None:
    """Create `folder`, which `flag` leads to, and keep other runs out.

    Raises `UserError` if it cannot be created or another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be created ({error.strerror})") from error
    hold_folder(folder, flag)
