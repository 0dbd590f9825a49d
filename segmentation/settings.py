"""The configuration of stage 3: what its keys may be, and how `config_dict` and `--set` make one.

A relative path of `config_dict` is taken from the repository's root, so that the scripts start anywhere; one given with
`--set` from the current folder, as the shell completes it.
"""

import argparse
import ast
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from tool.cli import UserError, path_value, raise_problems, require_file, require_folder
from tool.flags import AMP
from tool.lists import id_problem
from tool.weights_file import require_weights

ROOT = Path(__file__).resolve().parent.parent
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet38d", "mobilenet_v2")
MAX_FOUND_SHOWN = 80
MAX_RATE, MAX_STEPS = 1e30, 10**9  # what float32 holds, ten and twenty times too; what anybody could want
# What messages say of files.
NOT_THERE = "the configuration names what is not there, or is something else; set these keys in config.py or with --set"
LIST = "one id a line; python -m voc12.prepare makes it"
CHECKPOINT = "a checkpoint that train.py wrote"


# -- what a value may be -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """What a field asks beyond its type: in words that follow the type's in a message, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def at_least(low: float) -> Rule:
    return Rule(f"of at least {low}", lambda value: value >= low)


def above(low: float, at_most: float) -> Rule:
    return Rule(f"above {low}, at most {at_most:g}", lambda value: low < value <= at_most)


def between(low: float, high: float) -> Rule:
    """Both bounds included."""
    return Rule(f"from {low} to {high}", lambda value: low <= value <= high)


def only(value: int, reason: str) -> Rule:
    return Rule(f"that is {value} ({reason})", lambda found: found == value)


def one_of(*names: str) -> Rule:
    return Rule(f"that is one of {', '.join(names)}", lambda name: name in names)


SHARE = between(0, 1)
FILE_NAME = Rule("that is a plain name, as it becomes part of a path", lambda text: id_problem(text) is None)
CHANNEL_MEANS = Rule(
    "in 0..1, one each for red, green, blue", lambda means: len(means) == 3 and all(0 <= mean <= 1 for mean in means)
)
CHANNEL_DEVIATIONS = Rule(
    "above 0, one each for red, green, blue", lambda stds: len(stds) == 3 and all(std > 0 for std in stds)
)
BOUNDS = Rule(
    "[low, high] with 0 < low <= high <= 8", lambda bounds: len(bounds) == 2 and 0 < bounds[0] <= bounds[1] <= 8
)
SCALES = Rule(
    "(at least one) above 0, at most 8", lambda scales: len(scales) > 0 and all(0 < scale <= 8 for scale in scales)
)


@dataclass(frozen=True)
class Config:
    """Every setting of stage 3, checked; `segmentation/experiment/config.py` says what each means. Paths are absolute,
    whole numbers are floats where the field is a float, and lists are tuples."""

    EXP_NAME: Annotated[str, FILE_NAME]
    EXP_ROOT: Path
    GPUS: Annotated[int, at_least(0)]

    DATA_NAME: Annotated[str, FILE_NAME]
    DATA_YEAR: Annotated[int, between(2007, 2012)]  # of the VOC challenges with segmentation
    DATA_ROOT: Path
    DATA_LISTS: Path
    DATA_AUG: bool
    DATA_PSEUDO_GT: Path
    DATA_WORKERS: Annotated[int, at_least(0)]
    DATA_MEAN: Annotated[tuple[float, ...], CHANNEL_MEANS]
    DATA_STD: Annotated[tuple[float, ...], CHANNEL_DEVIATIONS]
    DATA_RANDOMCROP: Annotated[int, between(1, 4096)]
    DATA_RANDOMSCALE: Annotated[tuple[float, ...], BOUNDS]
    DATA_RANDOM_H: Annotated[int, between(0, 90)]  # half of OpenCV's circle of 180 hues, so every hue
    DATA_RANDOM_S: Annotated[int, between(0, 255)]
    DATA_RANDOM_V: Annotated[int, between(0, 255)]
    DATA_RANDOMFLIP: Annotated[float, SHARE]

    MODEL_NAME: Annotated[str, one_of("deeplabv2", "deeplabv1")]
    MODEL_BACKBONE: Annotated[str, one_of(*BACKBONES)]
    MODEL_BACKBONE_WIDTH: Annotated[float, above(0, at_most=8)]
    MODEL_BACKBONE_PRETRAIN: bool
    MODEL_BACKBONE_WEIGHTS: Path | None
    MODEL_NUM_CLASSES: Annotated[int, only(21, "VOC's label maps hold 21 labels: background and 20 classes")]
    MODEL_BACKBONE_DILATED: bool
    MODEL_BACKBONE_MULTIGRID: bool
    MODEL_BACKBONE_DEEPBASE: bool
    MODEL_ASPP_OUTDIM: Annotated[int, between(1, 4096)]
    MODEL_ASPP_HASGLOBAL: bool
    MODEL_FREEZEBN: bool

    TRAIN_LR: Annotated[float, above(0, at_most=MAX_RATE)]
    TRAIN_MOMENTUM: Annotated[float, SHARE]
    TRAIN_WEIGHT_DECAY: Annotated[float, between(0, MAX_RATE)]
    TRAIN_BN_MOM: Annotated[float, SHARE]
    TRAIN_POWER: Annotated[float, between(0, 1000)]
    TRAIN_BATCHES: Annotated[int, at_least(1)]
    TRAIN_SHUFFLE: bool
    TRAIN_ITERATION: Annotated[int, between(1, MAX_STEPS)]
    TRAIN_MINEPOCH: Annotated[int, between(0, MAX_STEPS)]
    TRAIN_TBLOG: bool
    TRAIN_AMP: Annotated[str, one_of("off", "bf16")]
    TRAIN_SEED: Annotated[int, between(0, 2**32 - 1)]
    TRAIN_SAVE_EVERY: Annotated[int, at_least(1)]

    TEST_CKPT: Path | None
    TEST_SPLIT: Annotated[str, one_of("val", "test", "train")]
    TEST_MULTISCALE: Annotated[tuple[float, ...], SCALES]
    TEST_FLIP: bool
    TEST_CRF: bool
    TEST_BATCHES: Annotated[int, only(1, "images differ in size")]
    TEST_CRF_WORKERS: Annotated[int | None, at_least(1)]
    TEST_AMP: Annotated[str, one_of(*AMP)]


# -- from what was given to fields -------------------------------------------------------------------------------------


def _is_finite(value: Any) -> bool:
    """Whether `value` is a number, bool is none, that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _are_finite(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(map(_is_finite, values))


def _path_from(value: str | Path, folder: Path) -> Path:
    """A path with its home folder in place of `~`, from `folder` where it is relative. Raises `ValueError`."""
    try:
        return folder / path_value(str(value))
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class _Kind:
    """A type of field: its name in messages, which values it takes, and what it makes of one, given the folder that
    relative paths start from."""

    words: str
    takes: Callable[[Any], bool]
    make: Callable[[Any, Path], Any] = lambda value, folder: value


_KINDS = {
    bool: _Kind("True or False", lambda value: type(value) is bool),
    int: _Kind("a whole number", lambda value: type(value) is int),  # `type`, as a bool is an int too
    float: _Kind("a finite number", _is_finite, lambda value, folder: float(value)),
    tuple[float, ...]: _Kind("a list of finite numbers", _are_finite, lambda value, folder: tuple(map(float, value))),
    str: _Kind("text", lambda value: type(value) is str),
    Path: _Kind("a path", lambda value: isinstance(value, str | Path) and value != "", _path_from),
}


@dataclass(frozen=True)
class _Field:
    """How one field of `Config` is read."""

    python_type: Any
    optional: bool
    rule: Rule | None

    @classmethod
    def of(cls, hint: Any) -> "_Field":
        """From the field's annotation."""
        kind, rule = get_args(hint) if get_origin(hint) is Annotated else (hint, None)
        optional = type(None) in get_args(kind)
        return cls(get_args(kind)[0] if optional else kind, optional, rule)

    @property
    def expected(self) -> str:
        rule = "" if self.rule is None else f" {self.rule.words}"
        return _KINDS[self.python_type].words + rule + (", or None" if self.optional else "")

    def parse(self, text: str) -> Any:
        """The value that `text` means on the command line; `text` itself where it is no literal of Python."""
        if self.python_type in (str, Path):
            return None if self.optional and text == "None" else text
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text

    def convert(self, value: Any, folder: Path) -> Any:
        """`value` as the field holds it; relative paths start from `folder`. Raises `ValueError` if it may not be."""
        if value is None and self.optional:
            return None
        kind = _KINDS[self.python_type]
        if kind.takes(value):
            made = kind.make(value, folder)
            if self.rule is None or self.rule.holds(made):
                return made
        raise ValueError(f"expected {self.expected}, found {repr(value)[:MAX_FOUND_SHOWN]}")


_FIELDS = {key: _Field.of(hint) for key, hint in get_type_hints(Config, include_extras=True).items()}


def _unknown(key: object) -> str:
    """What to say of a key that is none, with the key that was probably meant."""
    near = get_close_matches(str(key).upper(), _FIELDS, n=1)
    advice = f"did you mean {near[0]}?" if near else "segmentation/experiment/config.py has all that there are"
    return f"{str(key)[:MAX_FOUND_SHOWN]}: unknown key; {advice}"


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
    return {key: _FIELDS[key].parse(text) for key, text in texts.items()}, problems


def read_config(config_dict: Mapping[str, Any], assignments: Sequence[str]) -> Config:
    """The configuration that `config_dict` holds, changed by `assignments`, the command line's `--set KEY=VALUE`.

    Of a `VALUE` the text counts as it is for texts and paths (`None`: no path, where the key may have none), else it is
    a literal of Python (`4`, `1e-3`, `True` or `true`, `[0.5, 1.0]` or `0.5,1.0`). A relative path in `config_dict` is
    taken from the repository's root, one in `assignments` from the current folder. A value of `config_dict` that an
    assignment replaces is not looked at. No file is looked at.

    Raises:
        UserError: lists every key that is unknown, missing, set twice or of a wrong type or value (with what was
            expected and found), and every assignment that is none.
    """
    changes, problems = _read_assignments(assignments)
    problems += [_unknown(key) for key in config_dict if key not in _FIELDS]
    values = {}
    for key, field in _FIELDS.items():
        try:
            if key in changes:
                values[key] = field.convert(changes[key], Path.cwd())
            elif key in config_dict:
                values[key] = field.convert(config_dict[key], ROOT)
            else:
                problems.append(f"{key}: expected {field.expected}, found no such key; add it to config_dict")
        except ValueError as error:
            problems.append(f"{'--set ' if key in changes else ''}{key}: {error}")
    raise_problems("the configuration cannot be used as it is", problems)
    return Config(**values)


def add_config_arguments(parser: argparse._ActionsContainer) -> None:
    """Add `--set KEY=VALUE [KEY=VALUE ...]`, which may come more than once; `set` is the list for `read_config`."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change keys of config.py for this run: --set GPUS=4 TEST_FLIP=False 'TEST_MULTISCALE=[0.5, 1.0]'; "
        "a relative path is taken from the current folder (in config.py: from the repository's root)",
    )


def settings_record(config: Config) -> dict[str, Any]:
    """The configuration as JSON holds it: paths as text, lists as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(getattr(config, key)) for key in _FIELDS}


def check_processes(config: Config, processes: int, *, shared: bool) -> None:
    """Raise `UserError` where the batch does not go round `processes`, whose norms' statistics are `shared` or not."""
    if config.TRAIN_BATCHES % processes:
        raise UserError(f"TRAIN_BATCHES {config.TRAIN_BATCHES}: expected a multiple of the {processes} processes")
    pooled = config.MODEL_NAME == "deeplabv2" and config.MODEL_ASPP_HASGLOBAL
    if pooled and config.TRAIN_BATCHES == processes and not shared:
        raise UserError(
            f"TRAIN_BATCHES {config.TRAIN_BATCHES}: expected at least two images a process, since the norm behind the"
            " image's mean has no statistics of one; or set MODEL_ASPP_HASGLOBAL=False"
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


def require_training_paths(config: Config) -> None:
    """Raise `UserError` with every folder and file that training reads and that is not there.

    The folders of images and pseudo labels, the list, and the backbone's weights where they come from a file; not what
    is in them.
    """
    requirements = [
        (require_folder, config.DATA_ROOT / "JPEGImages", "DATA_ROOT", "images, <id>.jpg"),
        (require_file, train_list(config), "DATA_LISTS", LIST),
        (require_folder, config.DATA_PSEUDO_GT, "DATA_PSEUDO_GT", "label maps, <id>.png, as inference.py writes them"),
    ]
    if config.MODEL_BACKBONE_PRETRAIN and config.MODEL_BACKBONE_WEIGHTS is not None:
        requirements.append(
            (
                require_weights,
                config.MODEL_BACKBONE_WEIGHTS,
                "MODEL_BACKBONE_WEIGHTS",
                "ImageNet weights of the backbone",
            )
        )
    raise_problems(NOT_THERE, _problems(requirements))


def require_test_paths(config: Config) -> None:
    """Raise `UserError` with every folder and file that the test reads and that is not there, or an unset `TEST_CKPT`.

    The folder of images, the list, the checkpoint, and the folder of ground truth unless `TEST_SPLIT` is test, which
    has none; not what is in them.
    """
    requirements = [
        (require_folder, config.DATA_ROOT / "JPEGImages", "DATA_ROOT", "images, <id>.jpg"),
        (require_file, test_list(config), "DATA_LISTS", LIST),
    ]
    if config.TEST_SPLIT != "test":
        requirements.append(
            (require_folder, config.DATA_ROOT / "SegmentationClass", "DATA_ROOT", "ground truth, <id>.png")
        )
    if config.TEST_CKPT is None:
        problems = [f"TEST_CKPT: expected a file ({CHECKPOINT}), found None"]
    else:
        problems = _problems([(require_weights, config.TEST_CKPT, "TEST_CKPT", CHECKPOINT)])
    raise_problems(NOT_THERE, problems + _problems(requirements))
