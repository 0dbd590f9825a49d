"""The configuration: the spec's defaults, values from the command line, what is refused, and how paths are read."""

import argparse
import dataclasses
import json
import re
from pathlib import Path

import pytest

from data.normalisation import IMAGENET
from segmentation import settings  # not its names: pytest would take `test_list` for a test
from segmentation.experiment.config import config_dict
from segmentation.settings import Config, add_config_arguments, read_config, settings_record
from tool.cli import UserError
from voc12.classes import VOC12

ROOT = Path(__file__).resolve().parents[2]

# The table of paper/method.md, Stage 3.
RELEASED = {
    "EXP_NAME": "Ours_deeplabv2_resnet101", "GPUS": 1,
    "DATA_YEAR": 2012, "DATA_AUG": True, "DATA_WORKERS": 4,
    "DATA_MEAN": list(IMAGENET.mean), "DATA_STD": list(IMAGENET.std),
    "DATA_RANDOMCROP": 448, "DATA_RANDOMSCALE": [0.5, 1.5],
    "DATA_RANDOM_H": 10, "DATA_RANDOM_S": 10, "DATA_RANDOM_V": 10, "DATA_RANDOMFLIP": 0.5,
    "MODEL_NAME": "deeplabv2", "MODEL_BACKBONE": "resnet101", "MODEL_BACKBONE_PRETRAIN": True,
    "MODEL_NUM_CLASSES": None,
    "MODEL_BACKBONE_DILATED": True, "MODEL_BACKBONE_MULTIGRID": False, "MODEL_BACKBONE_DEEPBASE": True,
    "MODEL_ASPP_OUTDIM": 256, "MODEL_ASPP_HASGLOBAL": True, "MODEL_FREEZEBN": False,
    "TRAIN_LR": 0.001, "TRAIN_MOMENTUM": 0.9, "TRAIN_WEIGHT_DECAY": 5e-4, "TRAIN_BN_MOM": 3e-4, "TRAIN_POWER": 0.9,
    "TRAIN_BATCHES": 10, "TRAIN_SHUFFLE": True, "TRAIN_ITERATION": 20000, "TRAIN_MINEPOCH": 0, "TRAIN_TBLOG": True,
    "TEST_MULTISCALE": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75], "TEST_FLIP": True, "TEST_CRF": True, "TEST_BATCHES": 1,
}  # fmt: skip
# What the spec names without a value, or what is ours.
OURS = {
    "EXP_ROOT": "exps", "DATA_SET": "voc12", "DATA_NAME": "VOCDataset", "DATA_ROOT": "VOC2012", "DATA_LISTS": "voc12",
    "DATA_PSEUDO_GT": "exps/crf/crf_8_7", "MODEL_BACKBONE_WIDTH": 1.0, "MODEL_BACKBONE_WEIGHTS": None,
    "MODEL_BACKBONE_BN_MOM": None, "DATA_SCALES": None, "TRAIN_LR_DECAY": None, "TRAIN_ITER_SIZE": 1,
    "TRAIN_AMP": "off", "TRAIN_SEED": 0, "TRAIN_SAVE_EVERY": 500,
    "TEST_CKPT": None, "TEST_SPLIT": "val", "TEST_CRF_WORKERS": None, "TEST_AMP": "off",
    "TEST_CRF_IMAGE": "rgb", "TEST_LOGITS": None, "TEST_SCORES": None,
}  # fmt: skip
PATHS = [
    *("EXP_ROOT", "DATA_ROOT", "DATA_LISTS", "DATA_PSEUDO_GT", "MODEL_BACKBONE_WEIGHTS", "TEST_CKPT", "TEST_LOGITS"),
    "TEST_SCORES",
]


# -- defaults ----------------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_specs_and_of_its_types():
    assert config_dict == RELEASED | OURS
    assert {key: type(value) for key, value in config_dict.items()} == {
        key: type(value) for key, value in (RELEASED | OURS).items()
    }


def test_config_dict_and_config_have_the_same_keys():
    assert set(config_dict) == {field.name for field in dataclasses.fields(Config)}


def test_what_a_user_sets_first_comes_first():
    assert list(config_dict)[:5] == ["EXP_NAME", "GPUS", "DATA_ROOT", "DATA_PSEUDO_GT", "TEST_CKPT"]


def test_the_configuration_holds_the_defaults_with_tuples_and_absolute_paths():
    config = read_config(config_dict, [])
    for key, value in config_dict.items():
        if isinstance(value, list):
            value = tuple(value)
        if key in PATHS and value is not None:
            value = ROOT / value
        if key == "MODEL_NUM_CLASSES":
            value = VOC12.num_labels
        assert (getattr(config, key), type(getattr(config, key))) == (value, type(value)), key


@pytest.mark.parametrize("number", [None, 3])
def test_a_data_set_of_a_file_gives_the_number_of_labels(tmp_path, monkeypatch, number):
    """The file's path is a path as others: from the current folder with --set, from the repository in config.py."""
    (tmp_path / "shapes.json").write_text('{"names": ["background", "disc", "bar"]}')
    monkeypatch.chdir(tmp_path)
    config = read_config(config_dict, ["DATA_SET=shapes.json", f"MODEL_NUM_CLASSES={number}"])
    assert (config.DATA_SET, config.data_set.classes) == (str(tmp_path / "shapes.json"), ("disc", "bar"))
    assert config.MODEL_NUM_CLASSES == settings_record(config)["MODEL_NUM_CLASSES"] == 3
    with pytest.raises(UserError, match=f"DATA_SET {ROOT / 'shapes.json'}"):
        read_config({**config_dict, "DATA_SET": "shapes.json"}, [])
    with pytest.raises(UserError, match=r"--set MODEL_NUM_CLASSES: .* that is 3 \(shapes's label maps .*, found 21"):
        read_config(config_dict, ["DATA_SET=shapes.json", "MODEL_NUM_CLASSES=21"])


def test_the_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_config(config_dict, []).GPUS = 2


# -- values from the command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("EXP_NAME=mine", "mine"),
        ("EXP_NAME=12", "12"),  # a text as it is, whatever it looks like
        ("EXP_NAME=True", "True"),
        ("EXP_NAME=None", "None"),
        ("EXP_NAME='a = b'", "'a = b'"),
        ("GPUS=0", 0),
        ("TRAIN_SEED=4294967295", 2**32 - 1),
        ("TRAIN_LR=1e-3", 1e-3),
        ("TRAIN_LR=2", 2.0),
        ("TRAIN_WEIGHT_DECAY=0", 0.0),
        ("DATA_RANDOMFLIP=1", 1.0),
        ("TEST_FLIP=False", False),
        ("TEST_FLIP=false", False),
        ("MODEL_FREEZEBN=TRUE", True),
        ("TEST_MULTISCALE=[0.5, 1, 8]", (0.5, 1.0, 8.0)),
        ("TEST_MULTISCALE=(1,)", (1.0,)),
        ("DATA_RANDOMSCALE=1,1", (1.0, 1.0)),
        ("TEST_SPLIT=test", "test"),
        ("MODEL_BACKBONE=mobilenet_v2", "mobilenet_v2"),
        ("MODEL_BACKBONE=resnet38", "resnet38d"),
        ("DATA_RANDOM_H=90", 90),
        ("DATA_RANDOM_S=255", 255),
        ("TEST_CRF_WORKERS=3", 3),
        ("TEST_CRF_WORKERS=None", None),
        ("TEST_CKPT=None", None),
        ("DATA_MEAN=None", None),
        ("DATA_STD=None", None),
    ],
)
def test_a_value_from_the_command_line_is_what_it_says(assignment, value):
    key = assignment.partition("=")[0]
    before = read_config({**config_dict, "TEST_CRF_WORKERS": 1, "TEST_CKPT": "a.pth"}, [])
    after = read_config(settings_record(before), [assignment])
    found = getattr(after, key)
    assert (found, type(found)) == (value, type(value))
    assert after == dataclasses.replace(before, **{key: value})  # and nothing else changed


def test_a_net_of_timm_says_its_normalisation_unless_another_is_set():
    released = read_config(config_dict, [])
    timms = read_config(config_dict, ["MODEL_BACKBONE=timm:resnet50.a1_in1k"])
    assert (timms.DATA_MEAN, timms.DATA_STD) == (None, None)
    assert read_config(settings_record(timms), []) == timms
    same = read_config(config_dict, ["MODEL_BACKBONE=timm:resnet50", "DATA_MEAN=[0.485, 0.456, 0.406]"])
    assert (same.DATA_MEAN, same.DATA_STD) == (released.DATA_MEAN, None)
    edited = read_config({**config_dict, "DATA_STD": [0.1, 0.2, 0.3]}, ["MODEL_BACKBONE=timm:resnet50"])
    assert (edited.DATA_MEAN, edited.DATA_STD) == (None, (0.1, 0.2, 0.3))


def test_tuples_count_as_lists_and_whole_numbers_as_numbers_in_config_dict_too():
    config = read_config({**config_dict, "TEST_MULTISCALE": (1, 2), "TRAIN_LR": 1, "DATA_RANDOMSCALE": [1, 2]}, [])
    assert (config.TEST_MULTISCALE, config.TRAIN_LR, config.DATA_RANDOMSCALE) == ((1.0, 2.0), 1.0, (1.0, 2.0))
    assert type(config.TRAIN_LR) is type(config.TEST_MULTISCALE[0]) is float


def test_an_assignment_may_stand_for_a_key_that_config_dict_lacks_or_has_wrong():
    without = {key: value for key, value in config_dict.items() if key != "TRAIN_AMP"}
    config = read_config({**without, "GPUS": "two"}, ["TRAIN_AMP=bf16", "GPUS=2"])
    assert (config.TRAIN_AMP, config.GPUS) == ("bf16", 2)


def test_set_takes_several_assignments_and_may_be_repeated():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, ())
    assert parser.parse_args([]).set == []
    assert parser.parse_args(["--set", "GPUS=2", "TEST_CRF=False", "--set", "TRAIN_LR=0.1"]).set == [
        "GPUS=2",
        "TEST_CRF=False",
        "TRAIN_LR=0.1",
    ]
    assert parser.parse_args([]).set == []
    assert "--set KEY=VALUE" in parser.format_help()


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PATHS)
def test_a_path_of_config_dict_starts_at_the_repository_and_one_of_the_command_line_here(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert getattr(read_config({**config_dict, key: "some/where"}, []), key) == ROOT / "some/where"
    assert getattr(read_config({**config_dict, key: Path("some/where")}, []), key) == ROOT / "some/where"
    assert getattr(read_config(config_dict, [f"{key}=some/where"]), key) == tmp_path / "some/where"


@pytest.mark.parametrize("key", PATHS)
def test_an_absolute_path_stays(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path.parent / "a = b, 3"
    assert getattr(read_config({**config_dict, key: str(path)}, []), key) == path
    assert getattr(read_config(config_dict, [f"{key}={path}"]), key) == path


@pytest.mark.parametrize("key", PATHS)
def test_the_home_folder_stands_for_a_tilde_wherever_the_path_is_set(key, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert getattr(read_config(config_dict, [f"{key}=~/x"]), key) == tmp_path / "x"
    assert getattr(read_config({**config_dict, key: "~/x"}, []), key) == tmp_path / "x"
    assert getattr(read_config({**config_dict, key: Path("~")}, []), key) == tmp_path
    assert getattr(read_config(config_dict, [f"{key}=x~"]), key) == Path.cwd() / "x~"


def test_a_path_is_text_even_where_it_looks_like_a_literal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("2012", "True", "[1, 2]", "'quoted'"):
        found = read_config(config_dict, [f"DATA_ROOT={text}"]).DATA_ROOT
        assert found == tmp_path / text


def test_the_record_is_json_and_tells_the_configuration(tmp_path):
    config = read_config(config_dict, [f"TEST_CKPT={tmp_path}/a.pth", "DATA_RANDOMSCALE=1,2", "TRAIN_LR=1"])
    record = settings_record(config)
    assert json.loads(json.dumps(record)) == record
    assert set(record) == set(config_dict)
    assert (record["TEST_CKPT"], record["MODEL_BACKBONE_WEIGHTS"]) == (f"{tmp_path}/a.pth", None)
    assert (record["DATA_RANDOMSCALE"], record["TRAIN_LR"], record["TEST_CRF"]) == ([1.0, 2.0], 1.0, True)
    assert read_config(record, []) == config


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with everything that the configuration can name, and the assignments that name it."""
    monkeypatch.chdir(tmp_path)
    for folder in ("voc/JPEGImages", "voc/SegmentationClass", "lists", "pseudo"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("lists/train_aug.txt", "lists/train.txt", "lists/val.txt", "lists/test.txt", "resnet.pth", "net.pth"):
        (tmp_path / file).write_bytes(b"\x80\x02")  # as files of torch.save begin, and no text
    return [
        "DATA_ROOT=voc", "DATA_LISTS=lists", "DATA_PSEUDO_GT=pseudo", "MODEL_BACKBONE_WEIGHTS=resnet.pth",
        "TEST_CKPT=net.pth",
    ]  # fmt: skip


def path_problems(require, assignments):
    with pytest.raises(UserError) as raised:
        require(read_config(config_dict, assignments))
    return [problem.strip() for problem in str(raised.value).split("\n")[1:]]


def test_paths_that_are_there_are_not_refused(data):
    settings.require_training_paths(read_config(config_dict, data))
    for split in ("val", "test", "train"):
        settings.require_test_paths(read_config(config_dict, [*data, f"TEST_SPLIT={split}"]))


@pytest.mark.parametrize(
    ("gone", "key", "kind"),
    [
        ("voc/JPEGImages", "DATA_ROOT", "folder"),
        ("lists/train_aug.txt", "DATA_LISTS", "file"),
        ("pseudo", "DATA_PSEUDO_GT", "folder"),
        ("resnet.pth", "MODEL_BACKBONE_WEIGHTS", "file"),
    ],
)
def test_each_path_that_training_needs_is_missed(data, tmp_path, gone, key, kind):
    (tmp_path / gone).rename(tmp_path / "away")
    (problem,) = path_problems(settings.require_training_paths, data)
    assert re.fullmatch(
        rf"{key} {re.escape(str(tmp_path / gone))}: expected a {kind} \(.+\), found nothing there", problem
    )


def test_a_run_that_goes_on_needs_no_first_weights(data, tmp_path):
    (tmp_path / "resnet.pth").unlink()
    settings.require_training_paths(read_config(config_dict, data), fresh=False)


@pytest.mark.parametrize(
    ("gone", "key", "kind"),
    [
        ("voc/JPEGImages", "DATA_ROOT", "folder"),
        ("voc/SegmentationClass", "DATA_ROOT", "folder"),
        ("lists/val.txt", "DATA_LISTS", "file"),
        ("net.pth", "TEST_CKPT", "file"),
    ],
)
def test_each_path_that_the_test_needs_is_missed(data, tmp_path, gone, key, kind):
    (tmp_path / gone).rename(tmp_path / "away")
    (problem,) = path_problems(settings.require_test_paths, data)
    assert re.fullmatch(
        rf"{key} {re.escape(str(tmp_path / gone))}: expected a {kind} \(.+\), found nothing there", problem
    )


def test_all_missing_paths_are_named_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nowhere = ["DATA_ROOT=a", "DATA_LISTS=b", "DATA_PSEUDO_GT=c", "MODEL_BACKBONE_WEIGHTS=d"]
    assert [line.split()[0] for line in path_problems(settings.require_training_paths, nowhere)] == [
        "DATA_ROOT", "DATA_LISTS", "DATA_PSEUDO_GT", "MODEL_BACKBONE_WEIGHTS",
    ]  # fmt: skip
    problems = path_problems(settings.require_test_paths, [*nowhere, "TEST_CKPT=e"])
    assert sorted(line.split()[0] for line in problems) == ["DATA_LISTS", "DATA_ROOT", "DATA_ROOT", "TEST_CKPT"]


def test_a_checkpoint_must_be_set_for_the_test(data):
    (problem,) = path_problems(settings.require_test_paths, data[:-1])
    assert problem == "TEST_CKPT: expected a file (a checkpoint that train.py wrote), found None"


@pytest.mark.parametrize("other", ["TEST_FLIP=True", "TEST_MULTISCALE=1,2"])
def test_logits_are_kept_of_one_pass_alone(data, other):
    keys = [key for key in ("TEST_FLIP=False", "TEST_MULTISCALE=1,") if key[:8] != other[:8]]
    settings.require_test_paths(
        read_config(config_dict, [*data, "TEST_FLIP=False", "TEST_MULTISCALE=1,", "TEST_LOGITS=l"])
    )
    (problem,) = path_problems(settings.require_test_paths, [*data, *keys, other, "TEST_LOGITS=l"])
    assert problem.startswith("TEST_LOGITS: expected TEST_MULTISCALE=[1.0] and TEST_FLIP=False beside it")


def test_a_folder_is_no_checkpoint_and_a_file_no_folder(data):
    (problem,) = path_problems(settings.require_test_paths, [*data[:-1], "TEST_CKPT=pseudo"])
    assert problem.endswith("found a folder")
    (problem,) = path_problems(settings.require_training_paths, [*data[:2], "DATA_PSEUDO_GT=net.pth"])
    assert problem.endswith("found a file")


def test_paths_that_are_not_read_are_not_missed(data, tmp_path):
    (tmp_path / "resnet.pth").unlink()
    settings.require_training_paths(read_config(config_dict, [*data, "MODEL_BACKBONE_PRETRAIN=False"]))
    without_weights = [assignment for assignment in data if not assignment.startswith("MODEL_BACKBONE_WEIGHTS")]
    settings.require_training_paths(read_config(config_dict, without_weights))  # torchvision's download

    (tmp_path / "net.pth").unlink()
    settings.require_training_paths(read_config(config_dict, without_weights))
    (tmp_path / "net.pth").write_bytes(b"\x80\x02")
    (tmp_path / "pseudo").rmdir()
    (tmp_path / "voc/SegmentationClass").rmdir()
    settings.require_test_paths(read_config(config_dict, [*data, "TEST_SPLIT=test"]))


def test_the_training_list_is_the_augmented_one_under_either_name_or_train(data, tmp_path):
    config = read_config(config_dict, data)
    lists = tmp_path / "lists"
    (lists / "trainaug.txt").touch()
    assert settings.train_list(config) == lists / "train_aug.txt"
    (lists / "train_aug.txt").unlink()
    assert settings.train_list(config) == lists / "trainaug.txt"
    settings.require_training_paths(config)
    (lists / "trainaug.txt").unlink()
    assert settings.train_list(config) == lists / "train_aug.txt"
    assert settings.train_list(read_config(config_dict, [*data, "DATA_AUG=False"])) == lists / "train.txt"


@pytest.mark.parametrize("split", ["val", "test", "train"])
def test_the_list_to_test_on_is_the_splits(data, tmp_path, split):
    config = read_config(config_dict, [*data, f"TEST_SPLIT={split}"])
    assert settings.test_list(config) == tmp_path / "lists" / f"{split}.txt"
