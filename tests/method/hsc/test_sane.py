"""`--sane`: each name turns one switch from its released value to another, and the paper's list knows it."""

from dataclasses import asdict
from pathlib import Path

import pytest

from method.hsc.config import METHODS, SANE, mend
from network import build_network

DEVIATIONS = Path(__file__).resolve().parents[3] / "paper" / "deviations.md"
HSC = METHODS["hsc"]


def differences(one: dict, other: dict) -> dict:
    return {key: value for key, value in other.items() if one.get(key) != value}


@pytest.mark.parametrize("name", SANE)
def test_a_name_changes_its_switch_and_nothing_else(name):
    part, switch, value = SANE[name]
    released, mended = asdict(HSC), asdict(mend(HSC, [name]))
    assert differences(released, mended) == {part: {**released[part], switch: value}}
    if part == "net":
        net = build_network("resnet38_hsc", width=0.0625, **{switch: value})
        assert (
            getattr(net, switch) is value and getattr(build_network("resnet38_hsc", width=0.0625), switch) is not value
        )


def test_all_names_together_change_all_switches():
    mended = asdict(mend(HSC, list(SANE)))
    assert all(mended[part][switch] is value for part, switch, value in SANE.values())
    assert set(differences(asdict(HSC), mended)) == {part for part, _, _ in SANE.values()}


def test_the_list_of_oddities_names_each():
    text = DEVIATIONS.read_text()
    assert not [name for name in SANE if f"`--sane {name}`" not in text]
