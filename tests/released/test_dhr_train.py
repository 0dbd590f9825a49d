"""DHR's released commands in our flags, which the scripts take."""

import pytest

from released.dhr import produce_uss_features, produce_wss_masks
from released.dhr.train import in_our_words
from tests.scripts.test_help import parse


def test_the_released_defaults_become_our_flags_and_the_rest_goes_on(monkeypatch):
    words = in_our_words(
        ["--root", "/data", "--gpus", "1", "--uss", "STEGO", "--tag", "a@b", "--resume", "--ot_rule", "converged"]
    )
    args = parse("rebalance/train.py", words, monkeypatch)
    places = {
        "data_set": "/data/VOC2012/VOC2012.json",
        "data_root": "/data/VOC2012/train_aug/image",
        "xml_dir": "/data/VOC2012/train_aug/xml",
        "wss_masks": "/data/WSS/VOC2012/MARS/train_aug",
        "uss_features": "/data/VOC2012/train_aug/STEGO",
        "work_dir": "experiments/models",
        "session": "a@b",
    }
    recipe = {"batch_size": 16, "max_epoches": 100, "crop_size": 512, "lr": 1e-3, "wt_dec": 4e-5, "seed": 1, "tau": 0.8}
    others = {"device": "cuda:1", "weights": "pretrained", "resume": True, "ot_rule": "converged", "labels": None}
    expected = {**places, **recipe, **others}
    assert {name: value for name, value in vars(args).items() if name in expected} == expected


def test_earlier_names_and_domains_and_backbones_are_known(monkeypatch):
    words = in_our_words(
        [
            "--dataset",
            "ADE2016",
            "--train_domain",
            "train",
            "--valid_domain",
            "validation",
            "--backbone",
            "wide_resnet38",
        ]
    )
    args = parse("rebalance/train.py", words, monkeypatch)
    assert args.backbone == "resnet38d" and args.wss_masks == "../WSS/ADE2016/MARS/train" and args.device is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpus", "0,1"], "--gpus 0,1: expected one number; leave it out and start several by torchrun"),
        (["--optimizer", "Adam"], "argument --optimizer: invalid choice: 'Adam'"),
    ],
)
def test_what_there_is_not_is_named(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        in_our_words(words)
    assert ended.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("script", [produce_uss_features, produce_wss_masks])
def test_several_gpus_are_the_first_ones_or_refused(script, capsys):
    assert script.in_our_words(["--gpus", "3"])[-2:] == ["--device", "cuda:3"]
    assert script.in_our_words(["--gpus", "1,0"])[-2:] == ["--n_gpus", "2"]
    for numbers, meant in (("2,3", "0,1"), ("0,2,3", "0,1,2"), ("1,1", "0,1")):
        with pytest.raises(SystemExit) as ended:
            script.in_our_words(["--gpus", numbers])
        line = f"set CUDA_VISIBLE_DEVICES={numbers} and --gpus {meant}"
        assert ended.value.code == 2 and line in capsys.readouterr().err
