"""Which data set a command is about: the flag `--data_set`, and the JSON file that describes a user's own.

    {"names": ["background", "cat", "dog"], "palette": [[0, 0, 0], [200, 0, 0], [0, 0, 200]]}

`docs/your_data.md` says what else it may hold. A file of DHR's form, {"ignore": 255, "names": [...]}, is one.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data import DATASETS
from tool.cli import UserError, brief, did_you_mean, path_text, raise_problems, require_file
from tool.colour import shifted_palette, voc_palette
from tool.dataset import IGNORE, MAX_LABELS, DataSet

BACKGROUND = "background"
# What a table of scores has beside the labels' own (`data.score_table.summarise`): no label can be called so.
OF_SCORES = (
    "mIoU",
    "mIoU_of_occurring",
    "classes",
    "absent",
    "curve",
    "thresholds",
    "best_threshold",
    "best_mIoU",
    "best_first",
)
HELP = "its name, or a JSON file that describes it (%(default)s)"
DEFAULT = next(iter(DATASETS))


def add_data_set_flag(parser: argparse._ActionsContainer) -> None:
    """Add `--data_set NAME | FILE.json`, a text for `find_data_set`."""
    parser.add_argument("--data_set", type=data_set_text, default=DEFAULT, metavar="SET", help=HELP)


def data_set_text(text: str) -> str:
    """An argparse type: the name of a data set, or the whole path of its file, the same from any folder."""
    return text if text in DATASETS else str(Path(path_text(text)).absolute())


def find_data_set(text: str, flag: str = "--data_set") -> DataSet:
    """The data set that `text`, a name of `DATASETS` or the path of a JSON file, means.

    Raises `UserError` with everything that is wrong with the file, and for a name that is none.
    """
    if text in DATASETS:
        return DATASETS[text]
    path = Path(text)
    if path.suffix != ".json":
        known = f"expected {', '.join(DATASETS)} or a .json file that describes a data set"
        raise UserError(f"{flag} {path.name}: {known}{did_you_mean(path.name, DATASETS)}")
    require_file(path, flag, "the description of a data set")
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{flag} {path}: cannot be read as JSON ({error})") from error
    return replace(described(found, f"{flag} {path}"), name=str(path), title=path.stem)


def require_background(data_set: DataSet, flag: str = "--data_set") -> None:
    """Raise `UserError` for a data set without a background, where seeds mean nothing."""
    if not data_set.background:
        raise UserError(
            f"{flag} {data_set.name}: expected a data set with a background, found none: a seed's pixels are those that"
            f" score above the background; where there is one, put {BACKGROUND} first among the names"
        )


def described(found: Any, source: str) -> DataSet:
    """The data set that a description's JSON means, yet without a name. Raises `UserError`, naming `source`."""
    if not isinstance(found, dict) or "names" not in found:
        what = f"keys {brief(list(found))}" if isinstance(found, dict) else type(found).__name__
        raise UserError(f'{source}: expected an object with "names", found {what}')
    problems = [f"{key}: unknown key; expected {', '.join(KEYS)}" for key in found if key not in KEYS]
    problems += [
        f"{key}: expected {expected}, found {brief(found[key])}"
        for key, (expected, is_right) in KEYS.items()
        if key in found and not is_right(found[key])
    ]
    if not problems:
        problems = _disagreements(found)
    raise_problems(f"{source}: cannot be used as the description of a data set", problems)
    names = found["names"]
    background = names[0] == BACKGROUND
    own = {key: tuple(found[key]) for key in ("images", "suffixes") if key in found}
    own |= {"masks": (found["masks"],)} if "masks" in found else {}
    return DataSet("", "", tuple(names[background:]), background, _palette(found.get("palette", []), names), **own)


def _palette(colours: list[list[int]], names: list[str]) -> np.ndarray:
    """`colours` of the labels, uint8 (256, 3); where there are none those of the data set of ours that has these
    `names`, as DHR's descriptions have, else VOC's for as many."""
    if not colours:
        for data_set in DATASETS.values():
            if list(data_set.label_names) == names:
                return data_set.palette
    palette = voc_palette() if names[0] == BACKGROUND else shifted_palette()
    if colours:
        palette[: len(colours)] = colours
    return palette


def _disagreements(found: dict) -> list[str]:
    """What does not go together in a description whose values are right by themselves."""
    names, colours = found["names"], found.get("palette")
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    problems = [f"names: expected each once, found {name} again" for name in twice]
    if taken := [name for name in names if name in OF_SCORES]:
        problems.append(f"names: the table of scores needs {', '.join(taken)} for itself; choose another name")
    if BACKGROUND in names[1:]:
        number = names.index(BACKGROUND, 1) + 1
        problems.append(f"names: expected {BACKGROUND} to be the first, found it as number {number}")
    if names == [BACKGROUND]:
        problems.append(f"names: expected a class, found {BACKGROUND} alone")
    if colours is not None and len(colours) != len(names):
        problems.append(f"palette: expected a colour for each of the {len(names)} names, found {len(colours)}")
    return problems


def _is_list_of(is_item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(is_item, value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.strip() == value != "" and "," not in value and value.isprintable()


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)


def _is_folder(value: Any) -> bool:
    """Below the data set's own folder."""
    return isinstance(value, str) and value != "" and not Path(value).is_absolute() and ".." not in Path(value).parts


def _is_suffix(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 1 and value[0] == "." and "/" not in value


# What a description may hold: what is expected, in words and as a test.
KEYS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "names": (
        f"a list of 1 to {MAX_LABELS} texts without commas, the labels' names in their order",
        lambda value: _is_list_of(_is_name)(value) and len(value) <= MAX_LABELS,
    ),
    "ignore": (f"{IGNORE}, the label of pixels that are left out, no other", lambda value: value == IGNORE),
    "palette": ("a list of colours [red, green, blue] of 0 to 255, one a label", _is_list_of(_is_colour)),
    "images": ("a list of folders below the data set's, of its images", _is_list_of(_is_folder)),
    "masks": ("a folder below the data set's, of its masks", _is_folder),
    "suffixes": ('a list of endings, as ".jpg"', _is_list_of(_is_suffix)),
}
