"""The checkpoint that a stopped run goes on from."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from tool.checkpoint import load_checkpoint
from tool.cli import UserError, brief, raise_problems
from tool.folder import changed_settings, checkpoint_of
from tool.optim import memory_of
from tool.training import Training

NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})


def find_checkpoint(
    folder: Path,
    *,
    resume: bool,
    settings: Mapping[str, Any],
    name_flag: str,
    defaults: Mapping[str, Any] = NO_DEFAULTS,
) -> dict | None:
    """The checkpoint in `folder` to go on from, if there is one; a run is never overwritten or continued otherwise.

    Args:
        settings: what decides the run's weights, under the names that the user knows; must equal what the checkpoint
            holds under `settings`.
        defaults: of settings that came after older runs, which count as having had these.
        name_flag: where the user names the run, for messages.

    Raises `UserError` if the run exists and `resume` is not asked for, or if it had other settings; names them all.
    """
    last = checkpoint_of(folder, resume=resume, name_flag=name_flag)
    if last is None:
        return None
    checkpoint = load_checkpoint(last, "--resume")
    is_ours = isinstance(checkpoint, dict) and isinstance(checkpoint.get("settings"), dict) and "step" in checkpoint
    if not (is_ours and checkpoint["settings"].keys() & settings.keys()):  # the other stage's has none of the names
        raise UserError(f"--resume: {last} is no checkpoint of this script; take another {name_flag}")
    raise_problems(
        f"--resume: {last} was trained with other settings; restore them or take another {name_flag}",
        changed_settings({**defaults, **checkpoint["settings"]}, settings),
    )
    return checkpoint


def restore_checkpoint(training: Training, checkpoint: Mapping[str, Any], *, folder: Path, num_steps: int) -> int:
    """Put what `find_checkpoint` found in `folder` into `training`; the number of steps done, 0 to `num_steps`.

    Raises `UserError`, and leaves `training` as it was, if parts are missing, too many, or of another kind or shape
    than those of `training`.
    """
    expected = training.state()
    # An optimiser remembers something of a parameter from its first gradient on.
    for name, optimizer in training.optimizers.items():
        found = checkpoint[name] if isinstance(checkpoint.get(name), Mapping) else {}
        found = found["state"] if isinstance(found.get("state"), Mapping) else {}
        memory = {number: entry for number, entry in enumerate(memory_of(optimizer)) if number in found}
        expected[name] = {**expected[name], "state": memory}

    problems = _form_problems(
        {name: value for name, value in checkpoint.items() if name not in ("step", "settings", "threads")}, expected, ""
    )
    step = checkpoint["step"]
    if type(step) is not int or not 0 <= step <= num_steps:  # `type`, as a bool is an int too
        problems.append(f"step: expected a whole number from 0 to {num_steps}, found {brief(step)}")
    threads = checkpoint.get("threads", 1)  # not there in older ones
    if type(threads) is not int or threads < 1:
        problems.append(f"threads: expected a whole number of at least 1, found {brief(threads)}")
    raise_problems(
        f"--resume: {folder / 'last.ckpt'} is not the state of such a run: damaged, or written with another version of"
        " PyTorch; train again under another name, or restore the file or the version",
        problems,
    )
    training.restore(dict(checkpoint))
    return step


def _form_problems(found: Any, expected: Any, name: str) -> list[str]:
    """One line for each part of nested dicts and lists where kind or shape of `found` are not those of `expected`."""
    if _form(found) != _form(expected):
        return [f"{name}: expected {_form(expected)}, found {_form(found)}"]
    if isinstance(expected, Mapping):
        prefix = f"{name}." if name else ""
        problems = [f"{prefix}{key}: missing" for key in expected if key not in found]
        problems += [f"{prefix}{key}: unexpected" for key in found if key not in expected]
        pairs = [(f"{prefix}{key}", found[key], expected[key]) for key in expected if key in found]
    elif isinstance(expected, list | tuple):
        problems = []
        pairs = [(f"{name}.{index}", *pair) for index, pair in enumerate(zip(found, expected, strict=True))]
    else:
        return []
    return problems + [line for part, one, other in pairs for line in _form_problems(one, other, part)]


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.layout} {value.dtype} {tuple(value.shape)}".replace("torch.", "").replace("strided ", "")
    if isinstance(value, Mapping):
        return "dict"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
