"""Which method's recipe inference takes: the one asked for, or that of the run whose weights these are."""

import json
import sys

import pytest

import inference
from method import METHODS
from tool.cli import UserError


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """From the method that args.json beside the weights names, and flags, to what inference.py makes of them."""

    def arguments(record, *flags):
        (tmp_path / "args.json").write_text(record if isinstance(record, str) else json.dumps(record))
        words = ["--weights", str(tmp_path / "net.pth"), "--img_root", ".", *flags]
        monkeypatch.setattr(sys, "argv", ["inference.py", *words])
        args = inference.parse_arguments()
        inference.check_arguments(args)
        return args.method, args.network

    return arguments


@pytest.mark.parametrize("method", METHODS)
def test_the_run_that_the_weights_are_from_names_the_method_and_its_net(parse, method):
    helpers = [word for flag in METHODS[method].helper_flags for word in (f"--{flag}", "helper.pth")]
    assert parse({"method": method}, *helpers) == (method, METHODS[method].network)


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"method": 3}', '{"method": "another"}', "{" * 10**5, "\0"])
def test_a_record_that_says_nothing_means_hsc(parse, record):
    assert parse(record) == ("hsc", "resnet38_hsc")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--network", "resnet38_cls"], ("cls", "resnet38_cls")),
        (["--network", "network.resnet38_eps_seam_hsc"], ("eps", "resnet38_hsc")),
        (["--method", "hsc"], ("hsc", "resnet38_hsc")),
        (["--method", "cls"], ("cls", "resnet38_cls")),
    ],
)
def test_what_is_asked_for_comes_first(parse, flags, expected):
    assert parse({"method": "eps"}, *flags) == expected


def test_a_method_and_another_ones_net_are_refused(parse):
    with pytest.raises(UserError, match="--network resnet38_cls: --method hsc trains resnet38_hsc; leave one of them"):
        parse({}, "--method", "hsc", "--network", "resnet38_cls")
