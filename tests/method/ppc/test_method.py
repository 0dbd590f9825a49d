"""The flags of PPC's methods that do not go together, and what few labels leave of the objective."""

import json
import sys

import pytest

from method.arguments import check_arguments, parse_arguments
from tool.cli import UserError


@pytest.fixture
def check(monkeypatch):
    def check(*words):
        monkeypatch.setattr(sys, "argv", ["train_voc.py", "--data_root", "images", *words])
        check_arguments(parse_arguments())

    return check


def test_a_background_that_loses_to_absent_classes_is_refused_where_these_are_left_out(check):
    words = ["--bg_threshold", "1e-8", "--sane", "absent"]
    with pytest.raises(UserError, match="--bg_threshold 1e-08: expected 1e-06 or more with --sane absent"):
        check("--method", "ppc_eps", *words)
    check("--method", "ppc", *words)  # background, the first channel, wins what is equal
    check("--method", "ppc_eps", *words[:2])


@pytest.mark.parametrize(
    ("labels", "words", "is_noted"),
    [
        (3, [], True),
        (3, ["--without", "mining"], False),
        (3, ["--without", "intra"], False),
        (4, [], False),
        (4, ["--sane", "own_rank"], True),
    ],
)
def test_intra_without_a_rival_is_noted(check, tmp_path, capsys, labels, words, is_noted):
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"names": ["background", "disc", "bar", "ring"][:labels]}))
    check("--method", "ppc", "--data_set", str(file), *words)
    assert (f"note: with {labels} labels the term intra is 0" in capsys.readouterr().err) == is_noted
