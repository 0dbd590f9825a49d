"""Which method's recipe inference takes: the one asked for, or that of the run whose weights these are."""

import json
import sys

import pytest

import inference
from method import METHODS
from network import EPS_SEAM
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
        (["--method", "ppc_eps", "--network", EPS_SEAM], ("ppc_eps", "resnet38_ppc_eps")),
    ],
)
def test_what_is_asked_for_comes_first(parse, flags, expected):
    assert parse({"method": "eps"}, *flags) == expected


@pytest.mark.parametrize(("flag", "trained", "given"), [("backbone", "resnet18", "resnet50"), ("width", 0.125, 1.0)])
def test_another_backbone_than_the_runs_is_refused(parse, flag, trained, given):
    words = ["--method", "msa_image", "--scn", "scn.pth"] if flag == "backbone" else []
    with pytest.raises(UserError, match=f"--{flag} {given}: .* was trained with --{flag} {trained}, .*; take that"):
        parse({flag: trained}, *words)


def test_what_differs_from_the_run_is_said_and_what_is_the_same_is_not(parse, tmp_path, capsys):
    for name, content in {"scn": "1", "same": "1", "other": "2"}.items():
        (tmp_path / f"{name}.pth").write_text(content)
    run = {"method": "msa_sal", "sp_cam": True, "beta": 0, "th": 0.6, "scn": str(tmp_path / "scn.pth")}
    parse(run, "--scn", str(tmp_path / "same.pth"), "--beta", "0")
    assert capsys.readouterr().err == ""
    parse(run, "--scn", str(tmp_path / "other.pth"), "--method", "msa_image")
    told = capsys.readouterr().err
    assert "note: --method msa_image, where the net was trained with --method msa_sal\n" in told
    assert "note: --beta 8, where the net was trained with --beta 0\n" in told
    assert f"note: --scn {tmp_path / 'other.pth'}, where" in told
    assert "--th" not in told and "--sp_cam" not in told


def test_another_transformer_than_the_runs_whose_weights_would_fit_is_said(parse, capsys):
    parse({"method": "crt", "transformer": "vit_small_patch16_224"}, "--transformer", "deit_small_patch16_224")
    expected = "note: --transformer deit_small_patch16_224, where the net was trained with --transformer vit_small"
    assert expected in capsys.readouterr().err


def test_a_method_and_another_ones_net_are_refused(parse):
    with pytest.raises(UserError, match="--network resnet38_cls: --method hsc trains resnet38_hsc; leave one of them"):
        parse({}, "--method", "hsc", "--network", "resnet38_cls")
