"""What a recipe is made of: stages, each the command line of one of the project's scripts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tool.cli import UserError

# A flag's value: True for a bare flag, None to leave it out, a list for several words.
Flags = Mapping[str, Any]
# Flags that recipes read, so that a change of them is one word; without the first ones there are defaults.
NAMES, PLACES = {"method", "session", "session_name"}, {"work_dir", "EXP_NAME", "EXP_ROOT"}


class Stage(NamedTuple):
    """A command of a recipe.

    `script` is a file as `train_voc.py`, or a module as `voc12.prepare`. A name in capitals in `flags` is a key of
    stage 3 and goes behind `--set`. `makes` is what is there once the stage has ended well; `score` the name, in
    summary.json, of the mIoU in the JSON file that it makes, and `figures` has, by their names there, the keys of
    others. Where one of `reads`, files and folders, has changed since the stage began, or a file in such a folder, it
    runs again.
    """

    name: str
    script: str
    flags: Flags
    makes: Path
    score: str | None = None
    figures: Mapping[str, str] = MappingProxyType({})
    reads: tuple[Path, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of stage 3 among its flags."""
        return {name: value for name, value in self.flags.items() if name.isupper()}

    @property
    def words(self) -> list[str]:
        """Its command line, without `python`."""
        words = [self.script] if self.script.endswith(".py") else ["-m", self.script]
        for name, value in self.flags.items():
            if value is not None and not name.isupper():
                words += [f"--{name}", *_words(value)]
        keys = [f"{name}={value}" for name, value in self.settings.items() if value is not None]
        return [*words, "--set", *keys] if keys else words

    def takes_from(self, other: "Stage") -> bool:
        """Whether a flag names what `other` makes, or another folder in its `--work_dir`, as CAMs beside CRF seeds. Not
        of a training, in whose --work_dir other runs lie, too."""
        paths = [Path(word) for value in self.flags.values() for word in _words(value)]
        folder = None if other.flags.get("resume") else other.flags.get("work_dir")
        return other.makes in paths or (folder is not None and Path(folder) in {path.parent for path in paths})


class SideBySide(NamedTuple):
    """Chains of stages that do not need each other, by name: each chain runs with a thread of its own."""

    chains: Mapping[str, Sequence[Stage]]


Steps = Sequence[Stage | SideBySide]


@dataclass(frozen=True)
class Setup:
    """What a recipe's stages are made for: where the data is, where files go, and which flags the user changes.

    `data_set` is its name, `data_root` its own folder. With `mini` the data is generated, in `out`/data, and `stage`
    takes the small numbers. `changes` has, by the stage's name and the flag's, the values that come before the
    recipe's.
    """

    out: Path
    data_root: Path
    saliency_root: Path
    mini: bool = False
    changes: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    data_set: str = "voc12"

    def stage(
        self,
        name: str,
        script: str,
        flags: Flags,
        *,
        makes: Path,
        mini: Flags | None = None,
        score: str | None = None,
        figures: Mapping[str, str] = MappingProxyType({}),
        fixed: Collection[str] = (),
    ) -> Stage:
        """A stage with the flags that it runs with: the recipe's, then those of `mini`, then the user's changes.

        Raises `UserError` for a change of a flag that is `fixed`, as it says where other stages find what this makes,
        and for one of those that recipes read that is not one word.
        """
        changes = {flag: value for (stage, flag), value in self.changes.items() if stage == name}
        if taken := [flag for flag in changes if flag in fixed]:
            raise UserError(
                f"--set {name}.{taken[0]}: run.py sets it, as it finds the stage's files by it; leave it out, or name"
                " another folder for all files with --out"
            )
        for flag in sorted(changes.keys() & (NAMES | PLACES)):
            value = changes[flag]
            if isinstance(value, list) or (value is None and flag in PLACES):
                raise UserError(f"--set {name}.{flag}: expected one word, found {' '.join(value) if value else 'none'}")
        small = (mini or {}) if self.mini else {}
        return Stage(name, script, {**flags, **small, **changes}, makes, score, figures)


def all_stages(steps: Steps) -> list[Stage]:
    """Every stage, in order, those of a `SideBySide` one chain after the other."""
    found = []
    for step in steps:
        found += [step] if isinstance(step, Stage) else [stage for chain in step.chains.values() for stage in chain]
    return found


def _words(value: Any) -> list[str]:
    if value is True:
        return []
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]
