"""The settings of CRT's localisation, its YAML and the KEY VALUE pairs behind it, as words of a command line."""

from collections.abc import Sequence
from typing import Any

from released.table import Row
from released.yaml_file import SHOWN, meant, read_yaml
from tool.cli import path_value, raise_problems, script_parser

# By key: our flags of training and of test; "" where it decides nothing there, or cannot be another.
KEYS: dict[str, tuple[str, str]] = {
    "BASIC.SEED": ("--seed", ""),
    "BASIC.NUM_WORKERS": ("--num_workers", "--num_workers"),
    "DATA.DATADIR": ("--cub_root", "--cub_root"),
    "DATA.RESIZE_SIZE": ("--resize_size", ""),
    "MODEL.ARCH": ("--transformer", "--transformer"),
    "MODEL.CAM_THR": ("--cam_thr", "--cam_thr"),
    "SOLVER.NUM_EPOCHS": ("--max_epoches", ""),
    "SOLVER.LR_STEPS": ("--lr_epochs", ""),
    "SOLVER.LR_FACTOR": ("--lr_factor", ""),
    "TRAIN.BATCH_SIZE": ("--batch_size", ""),
    "TEST.BATCH_SIZE": ("--test_batch_size", "--batch_size"),
    # The rate and the decay are flags, or fixed; the released code reads neither of these.
    **dict.fromkeys(("SOLVER.START_LR", "SOLVER.WEIGHT_DECAY", "SOLVER.MUMENTUM"), ("", "")),
    **dict.fromkeys(("BASIC.DISP_FREQ", "BASIC.GPU_ID", "BASIC.SAVE_DIR", "BASIC.TIME", "BASIC.ROOT_DIR"), ("", "")),
    **dict.fromkeys(("BASIC.BACKUP_CODES", "BASIC.BACKUP_LIST", "MODEL.LOCALIZER_DIR", "MODEL.TOP_K"), ("", "")),
    **dict.fromkeys(("CUDNN.BENCHMARK", "CUDNN.DETERMINISTIC", "CUDNN.ENABLE"), ("", "")),
    **dict.fromkeys(("DATA.DATASET", "DATA.NUM_CLASSES", "DATA.CROP_SIZE"), ("", "")),
    **dict.fromkeys(("DATA.IMAGE_MEAN", "DATA.IMAGE_STD", "DATA.TRAIN_AUG_PATH", "DATA.VAL_PATH"), ("", "")),
    **dict.fromkeys(("TEST.TEN_CROPS", "TEST.SAVE_BOXED_IMAGE", "TEST.SAVE_CAMS"), ("", "")),
}
ONLY = {"DATA.DATASET": ("CUB",), "DATA.CROP_SIZE": ("224",)}


def rows(which: int) -> list[Row]:
    """Those of training (0) or of test (1): each key as a flag onto ours."""
    many = {"SOLVER.LR_STEPS": "+"}
    return [Row(f"--{key}", None, ours[which] or None, count=many.get(key)) for key, ours in KEYS.items()]


def in_words(words: Sequence[str]) -> list[str]:
    """A released command line's words, `--config_file FILE` and the KEY VALUE pairs made flags of their keys.

    Raises `UserError` with every key that is unknown or has a value that it cannot have here.
    """
    parser = script_parser("", add_help=False)
    parser.add_argument("--config_file", "--config-file", type=path_value)
    given, others = parser.parse_known_args(words)
    pairs: dict[str, Any] = {}
    while len(others) > 1 and others[-2].partition(".")[0].isupper() and "." in others[-2]:
        *others, key, value = others
        pairs.setdefault(key, value)  # the last of several holds
    found = {**({} if given.config_file is None else read_yaml(given.config_file, "--config_file")), **pairs}
    problems = [f"{key}: unknown key{meant(key, KEYS)}" for key in found if key not in KEYS]
    problems += [
        f"{key}: expected {' or '.join(only)}, found {str(found[key])[:SHOWN]!r}"
        for key, only in ONLY.items()
        if key in found and str(found[key]) not in only
    ]
    raise_problems(f"--config_file {given.config_file}, or the KEY VALUE pairs: keys to correct", problems)
    return [*others, *(word for key, value in found.items() for word in (f"--{key}", *_texts(key, value)))]


def _texts(key: str, value: Any) -> list[str]:
    """A value as words: a list, or the text of one as `[30, 60]`, as several."""
    if key == "MODEL.ARCH":  # timm's names have no word for what the released class adds
        return [str(value).replace("deit_tscam_", "deit_")]
    if key == "SOLVER.LR_STEPS":
        parts = value if isinstance(value, list) else str(value).strip("[]()").replace(",", " ").split()
        return [str(part) for part in parts]
    return [str(value)]
