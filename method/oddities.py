"""Oddities (Q) of released trainings, as switches of a method's config, each with the value that corrects it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

Config = TypeVar("Config")  # a frozen dataclass: a method's constants


@dataclass(frozen=True)
class Oddity:
    """A switch of a config.

    part: the config's field with the switch in it, a dataclass or a dict; None: the switch is a field itself.
    terms: the terms of the loss that it changes; none: it is not in a term.
    where: whether a config has what it is about.
    """

    part: str | None
    switch: str
    sane: Any
    terms: frozenset[str] = frozenset()
    where: Callable[[Any], bool] = lambda config: True

    def changes(self, config: Any) -> bool:
        """Whether its sane value makes another training of `config`."""
        if (self.terms and not self.terms & config.terms) or not self.where(config):
            return False
        place = config if self.part is None else getattr(config, self.part)
        now = place.get(self.switch) if isinstance(place, dict) else getattr(place, self.switch)
        return now != self.sane

    def corrected(self, config: Config) -> Config:
        """`config` with the sane value."""
        change = {self.switch: self.sane}
        if self.part is None:
            return replace(config, **change)
        place = getattr(config, self.part)
        place = {**place, **change} if isinstance(place, dict) else replace(place, **change)
        return replace(config, **{self.part: place})


def mendable(config: Any, oddities: Mapping[str, Oddity]) -> list[str]:
    """The names of those of `oddities` that change what `config` trains."""
    return [name for name, oddity in oddities.items() if oddity.changes(config)]


def mend(config: Config, oddities: Mapping[str, Oddity], names: Sequence[str]) -> Config:
    """`config` with those of `oddities` that `names` names at their sane values."""
    for name in names:
        config = oddities[name].corrected(config)
    return config
