"""What the flags --sane and --without of methods that share a list of parts mean, and what they refuse."""

import subprocess
import sys
from pathlib import Path

import pytest

from method import METHODS
from method.arguments import check_arguments, parse_arguments
from method.parts import settled_sane

ROOT = Path(__file__).resolve().parents[2]
# An oddity that others of the same system have and the method has not.
OF_OTHERS = {"seam": "cam_clamp", "ppc_eps": "cls_grid", "eps_seam": "cam_clamp", "msa_image": "padding"}
HELPERS = {"msa_image": ["--scn", "scn.pth"]}


def command(method: str, *words: str) -> list[str]:
    data = ["--data_root", "images", *(["--saliency_root", "saliency"] if METHODS[method].reads else [])]
    return ["train_voc.py", "--method", method, *data, *HELPERS.get(method, []), *words]


@pytest.mark.parametrize("names", [(), ("all",)])
@pytest.mark.parametrize("method", OF_OTHERS)
def test_an_oddity_of_others_is_refused_beside_all_too(method, names):
    words = command(method, "--sane", *names, OF_OTHERS[method])
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--sane" in done.stderr and OF_OTHERS[method] in done.stderr, done.stderr
    assert "--weights" not in done.stderr.splitlines()[-1]  # it got no further than its flags


@pytest.mark.parametrize("method", OF_OTHERS)
def test_all_is_what_the_method_has_in_order_and_a_name_of_these_adds_nothing(method, monkeypatch):
    def settled(*names: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", command(method, "--sane", *names))
        args = parse_arguments()
        check_arguments(args)
        return args.sane

    every = settled("all")
    assert sorted(every) == sorted({*every} - {"all"})
    for name in every:
        assert settled(name, name) == [name] and settled("all", name) == settled(name, "all") == every


def test_names_settle_to_all_in_its_order_and_then_a_sorted_list_that_keeps_what_is_unknown():
    assert settled_sane([], ["b", "a"]) == []
    assert settled_sane(["c", "b", "c"], ["b", "a"]) == ["b", "c"]
    assert settled_sane(["c", "all"], ["b", "a"]) == ["b", "a", "c"]
