"""The configuration of stage 3: what its keys may be, and how `config_dict` and `--set` make one.

A relative path of `config_dict` is taken from the repository's root, so that the scripts start anywhere; one given with
`--set` from the current folder, as the shell completes it.
"""

import argparse
import ast
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from data import DATASETS
from data.descriptions import find_data_set
from network import CAFFE_RESNET101, TIMM
from segmentation.fields import (
    MAX_RATE,
    MAX_STEPS,
    Backbone,
    Bounds,
    Deviation,
    FileName,
    Scale,
    Share,
    above,
    at_least,
    between,
    only,
)
from tool.cli import UserError, did_you_mean, first_few, path_value, raise_problems, require_file, require_folder
from tool.dataset import DataSet
from tool.flags import AMP
from tool.lists import folder_of, read_ids
from tool.places import ROOT
from tool.weights_file import require_weights

MAX_FOUND_SHOWN = 80
# ImageNet's: what config.py has for the released backbones.
RELEASED_STATISTICS = {"DATA_MEAN": [0.485, 0.456, 0.406], "DATA_STD": [0.229, 0.224, 0.225]}
# What messages say of files.
NOT_THERE = "the configuration names what is not there, or is something else; set these keys in config.py or with --set"
LIST = "one id a line; python -m voc12.prepare makes it"
CHECKPOINT = "a checkpoint that train.py wrote"


# Strict: True is no number, 1.0 no whole one, and no text is either.
@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, allow_inf_nan=False))
class Config:
    """Every setting of stage 3, checked; `segmentation/experiment/config.py` says what each means. Paths are absolute,
    whole numbers are floats where the field is a float, and lists are tuples. MODEL_NUM_CLASSES is a number."""

    EXP_NAME: FileName
    EXP_ROOT: Path
    GPUS: int = at_least(0)

    DATA_SET: str
    DATA_NAME: FileName
    DATA_YEAR: int = between(2007, 2012)  # of the VOC challenges with segmentation
    DATA_ROOT: Path
    DATA_LISTS: Path
    DATA_AUG: bool
    DATA_PSEUDO_GT: Path
    DATA_WORKERS: int = at_least(0)
    DATA_MEAN: tuple[Share, Share, Share] | None = Field(description="in 0..1, one each for red, green, blue")
    DATA_STD: tuple[Deviation, Deviation, Deviation] | None = Field(
        description="above 0, one each for red, green, blue"
    )
    DATA_RANDOMCROP: int = between(1, 4096)
    DATA_RANDOMSCALE: Bounds = Field(description="[low, high] with 0 < low <= high <= 8")
    DATA_SCALES: tuple[Scale, ...] | None = Field(min_length=1, description="(at least one) above 0, at most 8")
    DATA_RANDOM_H: int = between(0, 90)  # half of OpenCV's circle of 180 hues, so every hue
    DATA_RANDOM_S: int = between(0, 255)
    DATA_RANDOM_V: int = between(0, 255)
    DATA_RANDOMFLIP: Share

    MODEL_NAME: Literal["deeplabv2", "deeplabv1", "deeplabv2_msc"]
    MODEL_BACKBONE: Backbone
    MODEL_BACKBONE_WIDTH: float = above(0, at_most=8)
    MODEL_BACKBONE_PRETRAIN: bool
    MODEL_BACKBONE_WEIGHTS: Path | None
    MODEL_NUM_CLASSES: int | None
    MODEL_BACKBONE_DILATED: bool
    MODEL_BACKBONE_MULTIGRID: bool
    MODEL_BACKBONE_DEEPBASE: bool
    MODEL_BACKBONE_BN_MOM: float | None = between(0, 1)
    MODEL_ASPP_OUTDIM: int = between(1, 4096)
    MODEL_ASPP_HASGLOBAL: bool
    MODEL_FREEZEBN: bool

    TRAIN_LR: float = above(0, at_most=MAX_RATE)
    TRAIN_MOMENTUM: Share
    TRAIN_WEIGHT_DECAY: float = between(0, MAX_RATE)
    TRAIN_BN_MOM: Share
    TRAIN_POWER: float = between(0, 1000)
    TRAIN_LR_DECAY: int | None = at_least(1)
    TRAIN_BATCHES: int = at_least(1)
    TRAIN_ITER_SIZE: int = between(1, 1000)
    TRAIN_SHUFFLE: bool
    TRAIN_ITERATION: int = between(1, MAX_STEPS)
    TRAIN_MINEPOCH: int = between(0, MAX_STEPS)
    TRAIN_TBLOG: bool
    TRAIN_AMP: Literal["off", "bf16"]
    TRAIN_SEED: int = between(0, 2**32 - 1)
    TRAIN_SAVE_EVERY: int = at_least(1)

    TEST_CKPT: Path | None
    TEST_SPLIT: Literal["val", "test", "train"]
    TEST_MULTISCALE: tuple[Scale, ...] = Field(min_length=1, description="(at least one) above 0, at most 8")
    TEST_FLIP: bool
    TEST_CRF: bool
    TEST_CRF_IMAGE: Literal["rgb", "bgr", "wrapped"]
    TEST_LOGITS: Path | None
    TEST_SCORES: Path | None
    TEST_BATCHES: int = only(1, "images differ in size")
    TEST_CRF_WORKERS: int | None = at_least(1)
    TEST_AMP: Literal[AMP]

    @property
    def images_a_step(self) -> int:
        return self.TRAIN_BATCHES * self.TRAIN_ITER_SIZE

    @cached_property
    def data_set(self) -> DataSet:
        """Raises `UserError` for a name that is none, and for a file that describes none."""
        return find_data_set(self.DATA_SET, "DATA_SET")


# -- from what was given to fields -------------------------------------------------------------------------------------

_FIELDS = Config.__pydantic_fields__
_WORDS = {
    bool: "True or False", int: "a whole number", float: "a finite number", tuple: "a list of finite numbers",
    str: "text", Path: "a path",
}  # fmt: skip


def _kinds(key: str) -> tuple[Any, ...]:
    """The type of a field, and None's where it may be that."""
    hint = _FIELDS[key].annotation
    kinds = get_args(hint) if type(None) in get_args(hint) else (hint,)
    return tuple(get_origin(kind) or kind for kind in kinds)


def _expected(key: str) -> str:
    """What a field takes, in words."""
    kind, *optional = _kinds(key)
    names = f"text that is one of {', '.join(get_args(_FIELDS[key].annotation))}" if kind is Literal else _WORDS[kind]
    return " ".join(filter(None, [names, _FIELDS[key].description])) + (", or None" if optional else "")


def _parsed(key: str, text: str) -> Any:
    """The value that `text` means on the command line; `text` itself where it is no literal of Python."""
    kind, *optional = _kinds(key)
    if kind in (str, Path, Literal):
        return None if optional and text == "None" else text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _in_form(key: str, value: Any, folder: Path) -> Any:
    """`value` in the form that its field checks: a list as a tuple, a path from `folder` where it is relative, with its
    home folder in place of `~`. Raises `argparse.ArgumentTypeError` for a path that cannot be."""
    if key == "DATA_SET" and isinstance(value, str):  # a name or a path
        return value if value in DATASETS else str(folder / path_value(value))
    if _kinds(key)[0] is Path and isinstance(value, str | Path) and value != "":
        return folder / path_value(str(value))
    return tuple(value) if isinstance(value, list) else value


def _unknown(key: object) -> str:
    """What to say of a key that is none, with the key that was probably meant."""
    advice = did_you_mean(str(key).upper(), _FIELDS) or "; segmentation/experiment/config.py has all that there are"
    return f"{str(key)[:MAX_FOUND_SHOWN]}: unknown key{advice}"


def _read_assignments(assignments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values of `--set` by key, and what is wrong with its arguments' form."""
    texts: dict[str, str] = {}
    problems = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not (key and equals):
            problems.append(f"--set {assignment[:MAX_FOUND_SHOWN]!r}: expected KEY=VALUE, quoted if it has spaces")
        elif key not in _FIELDS:
            problems.append(f"--set {_unknown(key)}")
        elif key in texts:
            problems.append(f"--set {key}: expected one value, found {texts[key]} and {text}; leave one out")
        else:
            texts[key] = text
    return {key: _parsed(key, text) for key, text in texts.items()}, problems


def read_config(config_dict: Mapping[str, Any], assignments: Sequence[str]) -> Config:
    """The configuration that `config_dict` holds, changed by `assignments`, the command line's `--set KEY=VALUE`.

    Of a `VALUE` the text counts as it is for texts and paths (`None`: no path, where the key may have none), else it is
    a literal of Python (`4`, `1e-3`, `True` or `true`, `[0.5, 1.0]` or `0.5,1.0`). A relative path in `config_dict` is
    taken from the repository's root, one in `assignments` from the current folder. A value of `config_dict` that an
    assignment replaces is not looked at. No file is looked at but the description of the data set.

    Raises:
        UserError: lists every key that is unknown, missing, set twice or of a wrong type or value (with what was
            expected and found), and every assignment that is none; or what is wrong with the data set's description.
    """
    changes, problems = _read_assignments(assignments)
    problems += [_unknown(key) for key in config_dict if key not in _FIELDS]
    given = {key: value for key, value in {**config_dict, **changes}.items() if key in _FIELDS}
    if str(given.get("MODEL_BACKBONE")).startswith((TIMM, CAFFE_RESNET101)):  # which say their own, unless set
        released = {key for key, value in RELEASED_STATISTICS.items() if given.get(key) == value and key not in changes}
        given |= dict.fromkeys(released)
    wrong: dict[str, str] = {}
    values = dict(given)
    for key, value in given.items():
        try:
            values[key] = _in_form(key, value, Path.cwd() if key in changes else ROOT)
        except argparse.ArgumentTypeError as error:
            wrong[key] = str(error)
    try:
        config = Config(**values)
    except ValidationError as error:
        for key in {str(fault["loc"][0]) for fault in error.errors(include_url=False)}:
            found = repr(given[key])[:MAX_FOUND_SHOWN] if key in given else "no such key; add it to config_dict"
            wrong.setdefault(key, f"expected {_expected(key)}, found {found}")
    problems += [f"{'--set ' if key in changes else ''}{key}: {wrong[key]}" for key in _FIELDS if key in wrong]
    if not problems:
        why = _wrong_number_of_labels(config)
        problems = [f"{'--set ' if 'MODEL_NUM_CLASSES' in changes else ''}{line}" for line in why]
    raise_problems("the configuration cannot be used as it is", problems)
    return replace(config, MODEL_NUM_CLASSES=config.data_set.num_labels)


def _wrong_number_of_labels(config: Config) -> list[str]:
    """What is wrong with MODEL_NUM_CLASSES, if anything."""
    found, data_set = config.MODEL_NUM_CLASSES, config.data_set
    labels, classes = data_set.num_labels, data_set.num_classes
    if found in (None, labels):
        return []
    these = f"background and {classes} classes" if data_set.background else f"{classes} classes"
    why = f"{data_set.title}'s label maps hold {labels} labels: {these}"
    return [f"MODEL_NUM_CLASSES: expected a whole number that is {labels} ({why}), or None, found {found}"]


def add_config_arguments(parser: argparse._ActionsContainer, configurations: Collection[str]) -> None:
    """Add `--config`, one of `configurations`, and `--set KEY=VALUE [KEY=VALUE ...]`, which may come more than once."""
    names = ", ".join(configurations)
    parser.add_argument("--config", metavar="NAME", choices=configurations, help=f"of config.py, as released: {names}")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change keys of config.py for this run: --set GPUS=2 TEST_FLIP=False 'TEST_MULTISCALE=[0.5, 1.0]'; "
        "a relative path is taken from the current folder (in config.py: from the repository's root)",
    )


def settings_record(config: Config) -> dict[str, Any]:
    """The configuration as JSON holds it: paths as text, lists as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in asdict(config).items()}


def check_processes(config: Config, processes: int) -> None:
    """Raise `UserError` where the batch does not go round `processes`, or is one image, of which there are no
    statistics; several processes share theirs."""
    if config.TRAIN_BATCHES % processes:
        raise UserError(f"TRAIN_BATCHES {config.TRAIN_BATCHES}: expected a multiple of the {processes} processes")
    pooled = config.MODEL_NAME == "deeplabv2" and config.MODEL_ASPP_HASGLOBAL
    if pooled and config.TRAIN_BATCHES == 1:
        raise UserError(
            "TRAIN_BATCHES 1: expected at least two images, since the norm behind the image's mean has no statistics of"
            " one; or set MODEL_ASPP_HASGLOBAL=False"
        )


# -- the files that it names -------------------------------------------------------------------------------------------


def train_list(config: Config) -> Path:
    """The list to train on, there or not: with DATA_AUG train_aug.txt, or trainaug.txt where only that is there, as
    folders of VOC name it; else train.txt."""
    if not config.DATA_AUG:
        return config.DATA_LISTS / "train.txt"
    ours, usual = config.DATA_LISTS / "train_aug.txt", config.DATA_LISTS / "trainaug.txt"
    return usual if usual.is_file() and not ours.is_file() else ours


def test_list(config: Config) -> Path:
    """The list to test on, there or not."""
    return config.DATA_LISTS / f"{config.TEST_SPLIT}.txt"


# How a path is looked at (require_folder, ...), the path, its key, and what should be there.
_Requirement = tuple[Callable[[Path, str, str], Path], Path, str, str]


def _problems(requirements: Sequence[_Requirement]) -> list[str]:
    """A line for each requirement that is not met."""
    problems = []
    for require, path, key, what in requirements:
        try:
            require(path, key, what)
        except UserError as error:
            problems.append(str(error))
    return problems


def truth_folder(config: Config) -> Path:
    return folder_of(config.DATA_ROOT, config.data_set.masks)


def _images(config: Config) -> list[_Requirement]:
    folder = folder_of(config.DATA_ROOT, config.data_set.images)
    return [(require_folder, folder, "DATA_ROOT", f"images, <id>{config.data_set.suffixes[0]}")]


def require_training_paths(config: Config, *, fresh: bool = True) -> None:
    """Raise `UserError` with every folder and file that training reads and that is not there.

    The folders of images and pseudo labels, the list, and of a `fresh` run, which has no checkpoint, the backbone's
    weights where they come from a file; not what is in them.
    """
    requirements = [
        *_images(config),
        (require_file, train_list(config), "DATA_LISTS", LIST),
        (require_folder, config.DATA_PSEUDO_GT, "DATA_PSEUDO_GT", "label maps, <id>.png, as inference.py writes them"),
    ]
    if fresh and config.MODEL_BACKBONE_PRETRAIN and config.MODEL_BACKBONE_WEIGHTS is not None:
        requirements.append(
            (
                require_weights,
                config.MODEL_BACKBONE_WEIGHTS,
                "MODEL_BACKBONE_WEIGHTS",
                "weights that it starts from; MODEL_BACKBONE_PRETRAIN=False starts without any",
            )
        )
    raise_problems(NOT_THERE, _problems(requirements))


def _kept_of_several_passes(config: Config) -> list[str]:
    """What is wrong with TEST_LOGITS, if anything: logits are kept as the net gives them, once."""
    if config.TEST_LOGITS is None or (config.TEST_MULTISCALE == (1.0,) and not config.TEST_FLIP):
        return []
    return [
        "TEST_LOGITS: expected TEST_MULTISCALE=[1.0] and TEST_FLIP=False beside it, as it keeps the logits of one pass,"
        f" found {list(config.TEST_MULTISCALE)} and {config.TEST_FLIP}; or set it to None"
    ]


def _without_checkpoint(config: Config) -> list[str]:
    """What is wrong with no TEST_CKPT; nothing where TEST_LOGITS has a file for each image of the list, which is
    there."""
    problem = f"TEST_CKPT: expected a file ({CHECKPOINT}), found None"
    if config.TEST_LOGITS is None or not test_list(config).is_file():
        return [problem]
    ids = read_ids(test_list(config), "DATA_LISTS")
    lacking = [image_id for image_id in ids if not (config.TEST_LOGITS / f"{image_id}.npy").is_file()]
    there = f"{problem}; TEST_LOGITS {config.TEST_LOGITS} lacks those of {len(lacking)} of {len(ids)} images"
    return [f"{there}: {first_few(lacking)}"] if lacking else []


def require_test_paths(config: Config) -> None:
    """Raise `UserError` with every folder and file that the test reads and that is not there, or an unset `TEST_CKPT`
    where TEST_LOGITS has not all logits.

    The folder of images, the list, the checkpoint, and the folder of ground truth unless `TEST_SPLIT` is test, which
    has none; not what is in them. Or where TEST_LOGITS would keep logits of several passes.
    """
    requirements = [
        *_images(config),
        (require_file, test_list(config), "DATA_LISTS", LIST),
    ]
    if config.TEST_SPLIT != "test":
        requirements.append((require_folder, truth_folder(config), "DATA_ROOT", "ground truth, <id>.png"))
    if config.TEST_CKPT is None:
        problems = _without_checkpoint(config)
    else:
        problems = _problems([(require_weights, config.TEST_CKPT, "TEST_CKPT", CHECKPOINT)])
    problems += _problems(requirements)
    raise_problems(NOT_THERE, problems + _kept_of_several_passes(config))
