"""Every value that a setting may not have is refused, with its key, what was expected and what was found."""

import re
from pathlib import Path

import pytest

from segmentation.experiment.config import config_dict
from segmentation.settings import read_config
from tests.segmentation.test_settings import PATHS
from tool.cli import UserError


def refusal(assignments=(), **changes):
    """The problems that are listed, one a line, when `changes` of config_dict and `assignments` are read."""
    with pytest.raises(UserError) as raised:
        read_config({**config_dict, **changes}, list(assignments))
    summary, *problems = str(raised.value).split("\n")
    assert summary.endswith(f"({len(problems)}):")
    return [problem.strip() for problem in problems]


REFUSED = [
    ("GPUS", -1, "a whole number of at least 0"),
    ("GPUS", True, "a whole number of at least 0"),
    ("GPUS", 1.0, "a whole number of at least 0"),
    ("GPUS", "two", "a whole number of at least 0"),
    ("GPUS", None, "a whole number of at least 0"),
    ("DATA_YEAR", 12, "a whole number from 2007 to 2012"),
    ("DATA_AUG", 1, "True or False"),
    ("DATA_AUG", "yes", "True or False"),
    ("DATA_WORKERS", -1, "a whole number of at least 0"),
    ("DATA_MEAN", [123.7, 116.3, 103.5], "a list of finite numbers in 0..1, one each for red, green, blue"),
    ("DATA_MEAN", [0.5, 0.5], "a list of finite numbers in 0..1, one each for red, green, blue"),
    ("DATA_MEAN", [0.5, -0.5, 0.5], "a list of finite numbers in 0..1, one each for red, green, blue"),
    ("DATA_STD", [0.2, 0, 0.2], "a list of finite numbers above 0, one each for red, green, blue"),
    ("DATA_STD", [0.2, 0.2, 0.2, 0.2], "a list of finite numbers above 0, one each for red, green, blue"),
    ("DATA_STD", 0.2, "a list of finite numbers above 0, one each for red, green, blue"),
    ("DATA_RANDOMCROP", 0, "a whole number from 1 to 4096"),
    ("DATA_RANDOMCROP", 100000, "a whole number from 1 to 4096"),
    ("DATA_RANDOMSCALE", [1.5, 0.5], "a list of finite numbers [low, high] with 0 < low <= high <= 8"),
    ("DATA_RANDOMSCALE", [0.5, 9], "a list of finite numbers [low, high] with 0 < low <= high <= 8"),
    ("DATA_RANDOMSCALE", [0, 1], "a list of finite numbers [low, high] with 0 < low <= high <= 8"),
    ("DATA_RANDOMSCALE", [1], "a list of finite numbers [low, high] with 0 < low <= high <= 8"),
    ("DATA_RANDOMSCALE", [1, 2, 3], "a list of finite numbers [low, high] with 0 < low <= high <= 8"),
    ("DATA_RANDOMSCALE", {1: 2}, "a list of finite numbers [low, high] with 0 < low <= high <= 8"),
    ("DATA_SCALES", [], "a list of finite numbers (at least one) above 0, at most 8, or None"),
    ("DATA_SCALES", [0.5, 0], "a list of finite numbers (at least one) above 0, at most 8, or None"),
    ("DATA_RANDOM_H", 91, "a whole number from 0 to 90"),
    ("DATA_RANDOM_H", -1, "a whole number from 0 to 90"),
    ("DATA_RANDOM_S", 256, "a whole number from 0 to 255"),
    ("DATA_RANDOM_V", 256, "a whole number from 0 to 255"),
    ("DATA_RANDOMFLIP", 1.1, "a finite number from 0 to 1"),
    ("DATA_RANDOMFLIP", True, "a finite number from 0 to 1"),
    ("MODEL_NUM_CLASSES", 20, "a whole number that is 21 (VOC's label maps hold 21 labels"),
    ("MODEL_NUM_CLASSES", 21.0, "a whole number, or None"),
    ("MODEL_BACKBONE_PRETRAIN", 0, "True or False"),
    ("MODEL_BACKBONE_DILATED", None, "True or False"),
    ("MODEL_BACKBONE_MULTIGRID", 1, "True or False"),
    ("MODEL_BACKBONE_DEEPBASE", "", "True or False"),
    ("MODEL_BACKBONE_WIDTH", 0, "a finite number above 0, at most 8"),
    ("MODEL_BACKBONE_BN_MOM", 2, "a finite number from 0 to 1, or None"),
    ("MODEL_ASPP_OUTDIM", 0, "a whole number from 1 to 4096"),
    ("MODEL_ASPP_HASGLOBAL", 1, "True or False"),
    ("MODEL_FREEZEBN", 1, "True or False"),
    ("TRAIN_LR", 0, "a finite number above 0, at most 1e+30"),
    ("TRAIN_LR", -0.1, "a finite number above 0, at most 1e+30"),
    ("TRAIN_LR", 1e38, "a finite number above 0, at most 1e+30"),
    ("TRAIN_LR", [0.1], "a finite number above 0, at most 1e+30"),
    ("TRAIN_MOMENTUM", 1.5, "a finite number from 0 to 1"),
    ("TRAIN_WEIGHT_DECAY", -5e-4, "a finite number from 0 to 1e+30"),
    ("TRAIN_WEIGHT_DECAY", 1e31, "a finite number from 0 to 1e+30"),
    ("TRAIN_BN_MOM", 3, "a finite number from 0 to 1"),
    ("TRAIN_POWER", -1, "a finite number from 0 to 1000"),
    ("TRAIN_BATCHES", 0, "a whole number of at least 1"),
    ("TRAIN_LR_DECAY", 0, "a whole number of at least 1, or None"),
    ("TRAIN_ITER_SIZE", 0, "a whole number from 1 to 1000"),
    ("TRAIN_SHUFFLE", 1, "True or False"),
    ("TRAIN_ITERATION", 0, "a whole number from 1 to 1000000000"),
    ("TRAIN_ITERATION", 10**10, "a whole number from 1 to 1000000000"),
    ("TRAIN_ITERATION", 2e4, "a whole number from 1 to 1000000000"),
    ("TRAIN_MINEPOCH", -1, "a whole number from 0 to 1000000000"),
    ("TRAIN_TBLOG", 1, "True or False"),
    ("TRAIN_SEED", -1, "a whole number from 0 to 4294967295"),
    ("TRAIN_SEED", 2**32, "a whole number from 0 to 4294967295"),
    ("TRAIN_SAVE_EVERY", 0, "a whole number of at least 1"),
    ("TEST_MULTISCALE", [], "a list of finite numbers (at least one) above 0, at most 8"),
    ("TEST_MULTISCALE", [1, 0], "a list of finite numbers (at least one) above 0, at most 8"),
    ("TEST_MULTISCALE", [8.5], "a list of finite numbers (at least one) above 0, at most 8"),
    ("TEST_MULTISCALE", [1, True], "a list of finite numbers (at least one) above 0, at most 8"),
    ("TEST_MULTISCALE", 1.0, "a list of finite numbers (at least one) above 0, at most 8"),
    ("TEST_FLIP", 1, "True or False"),
    ("TEST_CRF", 1, "True or False"),
    ("TEST_BATCHES", 2, "a whole number that is 1 (images differ in size)"),
    ("TEST_BATCHES", True, "a whole number that is 1 (images differ in size)"),
    ("TEST_AMP", "half", "text that is one of off, bf16, fp16"),
    ("TEST_CRF_WORKERS", 0, "a whole number of at least 1, or None"),
]
REFUSED_TEXTS = [
    ("EXP_NAME", "", "text that is a plain name"),
    ("EXP_NAME", "..", "text that is a plain name"),
    ("EXP_NAME", "runs/mine", "text that is a plain name"),
    ("EXP_NAME", "a\nb", "text that is a plain name"),
    ("DATA_NAME", "a\\b", "text that is a plain name"),
    ("MODEL_NAME", "deeplabv3", "text that is one of deeplabv2, deeplabv1, deeplabv2_msc"),
    (
        "MODEL_BACKBONE",
        "vgg16",
        "text that is one of resnet18, resnet34, resnet50, resnet101, resnet152, resnet38d, mobilenet_v2,"
        " caffe_resnet101",
    ),
    ("MODEL_BACKBONE", "timm:", "text that is one of resnet18"),
    ("MODEL_BACKBONE", "timm:hf-hub:user/net", "text that is one of resnet18"),
    ("TRAIN_AMP", "fp16", "text that is one of off, bf16"),
    ("TEST_CRF_IMAGE", "gbr", "text that is one of rgb, bgr, wrapped"),
    ("TEST_SPLIT", "train_aug", "text that is one of val, test, train"),
    ("DATA_ROOT", "", "a path"),
    ("TEST_CKPT", "", "a path, or None"),
    ("TEST_LOGITS", "", "a path, or None"),
    ("TEST_SCORES", "", "a path, or None"),
]
REFUSED_IN_CONFIG_DICT = [
    ("EXP_NAME", 3, "text that is a plain name"),
    ("MODEL_NAME", None, "text that is one of deeplabv2, deeplabv1, deeplabv2_msc"),
    ("DATA_SET", 3, "text"),
    ("DATA_ROOT", 3, "a path"),
    ("DATA_ROOT", None, "a path"),
    ("TEST_CKPT", 3, "a path, or None"),
    ("TRAIN_LR", float("nan"), "a finite number above 0"),
    ("TRAIN_LR", 10**400, "a finite number above 0"),
    ("TEST_MULTISCALE", [1, float("inf")], "a list of finite numbers (at least one) above 0, at most 8"),
]


def assert_one_problem(problems, key, expected, found):
    """The one problem of `key` says what was expected and found, the latter on one line."""
    assert len(problems) == 1
    assert problems[0].startswith(f"{key}: expected {expected}")
    assert problems[0].endswith(f", found {found[:80]}")


@pytest.mark.parametrize(("key", "value", "expected"), [*REFUSED, *REFUSED_TEXTS, *REFUSED_IN_CONFIG_DICT])
def test_a_wrong_value_in_config_dict_is_refused(key, value, expected):
    assert_one_problem(refusal(**{key: value}), key, expected, repr(value))


@pytest.mark.parametrize(("key", "value", "expected"), REFUSED)
def test_a_wrong_value_on_the_command_line_is_refused(key, value, expected):
    text = str(value)
    found = text if not isinstance(value, str) else repr(text)
    assert_one_problem(refusal([f"{key}={text}"]), f"--set {key}", expected, found)


@pytest.mark.parametrize(("key", "text", "expected"), REFUSED_TEXTS)
def test_a_wrong_text_on_the_command_line_is_refused(key, text, expected):
    assert_one_problem(refusal([f"{key}={text}"]), f"--set {key}", expected, repr(text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nan", "'nan'"),
        ("1e999", "inf"),
        ("-1e999", "-inf"),
        ("9" * 400, "9" * 400),
        ("", "''"),
        ("0.1 0.2", "'0.1 0.2'"),
        ("1/1000", "'1/1000'"),
        ("__import__('os').getcwd()", "\"__import__('os').getcwd()\""),  # literals only, nothing is run
        ("{[]: 1}", "'{[]: 1}'"),
        ("(" * 300, repr("(" * 300)),
    ],
)
def test_a_number_on_the_command_line_is_a_finite_literal(text, found):
    assert_one_problem(refusal([f"TRAIN_LR={text}"]), "--set TRAIN_LR", "a finite number above 0", found)


@pytest.mark.parametrize("depth", [1000, 5000, 20000])
def test_a_text_too_deep_to_parse_is_refused_like_any_other(depth):
    text = "-" * depth + "1"
    assert_one_problem(refusal([f"TRAIN_LR={text}"]), "--set TRAIN_LR", "a finite number above 0", repr(text))


def test_every_field_has_a_refused_value():
    """No field takes just anything: each stands in the tables above, or is a path, which they try on `DATA_ROOT`."""
    tried = {key for key, *_ in [*REFUSED, *REFUSED_TEXTS, *REFUSED_IN_CONFIG_DICT]}
    assert set(config_dict) - tried == set(PATHS) - {"DATA_ROOT", "TEST_CKPT", "TEST_LOGITS", "TEST_SCORES"}


@pytest.mark.parametrize("key", [key for key in PATHS if key.startswith(("EXP", "DATA"))])
def test_only_the_weights_and_the_checkpoint_may_be_no_path(key):
    assert_one_problem(refusal(**{key: None}), key, "a path", "None")
    assert getattr(read_config(config_dict, [f"{key}=None"]), key) == Path.cwd() / "None"


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("TEST_CKP", "TEST_CKPT"),
        ("gpus", "GPUS"),
        ("DATA_RANDOM_SCALE", "DATA_RANDOMSCALE"),
        ("TRAIN_BATCH", "TRAIN_BATCHES"),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(key, near):
    assert refusal(**{key: 1}) == [f"{key}: unknown key; did you mean {near}?"]
    assert refusal([f"{key}=1"]) == [f"--set {key}: unknown key; did you mean {near}?"]


def test_an_unknown_key_like_no_other_is_refused_with_where_to_look():
    assert refusal(["X=1"]) == ["--set X: unknown key; segmentation/experiment/config.py has all that there are"]
    assert refusal(**{"\x1b[2J": 1})[0].startswith(r"\x1b[2J: unknown key")


@pytest.mark.parametrize("key", config_dict)
def test_a_missing_key_is_refused_with_what_belongs_there(key):
    without = {other: value for other, value in config_dict.items() if other != key}
    with pytest.raises(UserError, match=rf"\(1\):\n  {key}: expected .+, found no such key; add it to config_dict"):
        read_config(without, [])


@pytest.mark.parametrize("assignment", ["GPUS", "=3", "", "0.5]"])
def test_an_assignment_without_key_or_value_is_refused(assignment):
    assert refusal([assignment]) == [f"--set {assignment!r}: expected KEY=VALUE, quoted if it has spaces"]


def test_a_key_that_is_set_twice_is_refused():
    assert refusal(["GPUS=2", "TRAIN_LR=1", "GPUS=3"]) == [
        "--set GPUS: expected one value, found 2 and 3; leave one out"
    ]


def test_all_problems_are_in_one_message():
    wrong = {key: value for key, value in config_dict.items() if key != "DATA_AUG"} | {"GPU": 1, "TRAIN_POWER": "high"}
    with pytest.raises(UserError) as raised:
        read_config(wrong, ["TEST_BATCHES=8", "TEST", "TEST_CRFF=False", "GPUS=1", "GPUS=1", "EXP_NAME="])
    problems = str(raised.value).split("\n")[1:]
    keys = [re.match(r"\s*((?:--set )?'?\w+)", problem)[1] for problem in problems]
    assert sorted(keys) == sorted([
        "--set TEST_BATCHES", "--set 'TEST", "--set TEST_CRFF", "--set GPUS", "--set EXP_NAME",
        "DATA_AUG", "GPU", "TRAIN_POWER",
    ])  # fmt: skip
