"""The main.py of CRT's deeplab-pytorch: what its YAML says in our settings, and our train.py or test.py with them.

    python released/deeplab/main.py train -c configs/voc12_resnet_dplv2.yaml
    python released/deeplab/main.py test -c configs/voc12_resnet_dplv2.yaml -m data/models/.../checkpoint_final.pth
    python released/deeplab/main.py crf -c configs/voc12_resnet_dplv2.yaml

Paths start at the current folder, lists lie in data/datasets/voc12/ there. Training's files go to
<OUTPUT_DIR>/models/<ID>/<model>/<TRAIN>/, its weights also as checkpoint_final.pth, logits to
<OUTPUT_DIR>/features/<ID>/<model>/<VAL>/logit/, scores.json and scores_crf.json to
<OUTPUT_DIR>/scores/<ID>/<model>/<VAL>/. True masks are those of ROOT's SegmentationClass.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import copy_files, run_words
from released.yaml_file import SHOWN, meant, read_yaml
from tool.cli import UserError, path_value, raise_problems, run_script, script_parser

TRAIN, TEST = "segmentation/experiment/train.py", "segmentation/experiment/test.py"
CONFIGURATION = "CRT_deeplabv2_resnet101_msc"
LISTS = "data/datasets/voc12"
PSEUDO_LABELS = "pseudo_seg_labels"  # below ROOT, where the list does not name masks
TRUTHS = ("SegmentationClass", "SegmentationClassAug")  # what is scored, and the masks that the released list names
BASENAME = "deeplabv2_msc_caffe_resnet101_VOCDataset_itr{}_all.pth"  # of the weights that train.py ends with
FINAL = "checkpoint_final.pth"  # their released name, to which they are copied


class Entry(NamedTuple):
    """An entry of the released YAML.

    ours: our key, which takes its value as it is; None: it decides nothing here, or `settings` below reads it. only:
    the values that are possible here.
    """

    ours: str | None = None
    only: Sequence[Any] = ()


ENTRIES = {
    "EXP.ID": Entry(),
    "EXP.OUTPUT_DIR": Entry(),
    "DATASET.NAME": Entry(),
    "DATASET.ROOT": Entry("DATA_ROOT"),
    "DATASET.LABELS": Entry(),
    "DATASET.N_CLASSES": Entry("MODEL_NUM_CLASSES"),
    "DATASET.IGNORE_LABEL": Entry(only=[255]),
    "DATASET.SCALES": Entry("DATA_SCALES"),
    "DATASET.SPLIT.TRAIN": Entry(only=["train_aug", "train"]),
    "DATASET.SPLIT.VAL": Entry("TEST_SPLIT", only=["val", "train"]),
    "DATASET.SPLIT.TEST": Entry(),
    "DATALOADER.NUM_WORKERS": Entry("DATA_WORKERS"),
    "IMAGE.MEAN.R": Entry(),
    "IMAGE.MEAN.G": Entry(),
    "IMAGE.MEAN.B": Entry(),
    "IMAGE.SIZE.BASE": Entry(only=[None]),
    "IMAGE.SIZE.TRAIN": Entry("DATA_RANDOMCROP"),
    "IMAGE.SIZE.TEST": Entry(),
    "MODEL.NAME": Entry(only=["DeepLabV2_ResNet101_MSC"]),
    "MODEL.N_BLOCKS": Entry(),
    "MODEL.ATROUS_RATES": Entry(),
    "MODEL.INIT_MODEL": Entry("MODEL_BACKBONE_WEIGHTS"),
    "SOLVER.BATCH_SIZE.TRAIN": Entry("TRAIN_BATCHES"),
    "SOLVER.BATCH_SIZE.TEST": Entry("TEST_BATCHES"),
    "SOLVER.ITER_MAX": Entry("TRAIN_ITERATION"),
    "SOLVER.ITER_SIZE": Entry("TRAIN_ITER_SIZE"),
    "SOLVER.ITER_SAVE": Entry("TRAIN_SAVE_EVERY"),
    "SOLVER.ITER_TB": Entry(),
    "SOLVER.LR_DECAY": Entry("TRAIN_LR_DECAY"),
    "SOLVER.LR": Entry("TRAIN_LR"),
    "SOLVER.MOMENTUM": Entry("TRAIN_MOMENTUM"),
    "SOLVER.OPTIMIZER": Entry(only=["sgd"]),
    "SOLVER.POLY_POWER": Entry("TRAIN_POWER"),
    "SOLVER.WEIGHT_DECAY": Entry("TRAIN_WEIGHT_DECAY"),
    "SOLVER.AVERAGE_LOSS": Entry(),
    # The CRF's numbers are fixed in segmentation/crf.py.
    "CRF.ITER_MAX": Entry(only=[10]),
    "CRF.POS_W": Entry(only=[3]),
    "CRF.POS_XY_STD": Entry(only=[1]),
    "CRF.BI_W": Entry(only=[4]),
    "CRF.BI_XY_STD": Entry(only=[67]),
    "CRF.BI_RGB_STD": Entry(only=[3]),
}


def read_entries(path: Path) -> dict[str, Any]:
    """Every entry of the YAML file at `path`. Raises `UserError` unless it has all of `ENTRIES` and no others."""
    found = read_yaml(path, "-c")
    problems = [f"{name}: unknown entry{meant(name, ENTRIES)}" for name in found if name not in ENTRIES]
    problems += [f"{name}: expected this entry, found none" for name in ENTRIES if name not in found]
    problems += [
        f"{name}: expected {' or '.join(map(_shown, entry.only))}, found {_shown(found[name])}"
        for name, entry in ENTRIES.items()
        if name in found and entry.only and found[name] not in entry.only
    ]
    problems += [
        f"{name}: expected a number, found {_shown(found[name])}"
        for name in (f"IMAGE.MEAN.{channel}" for channel in "RGB")
        if name in found and not isinstance(found[name], int | float)
    ]
    raise_problems(f"-c {path}: entries to correct", problems)
    return found


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:SHOWN]


def named_folder(split: str) -> str | None:
    """The folder below ROOT that the second paths of a list's lines name; None where they have none."""
    try:
        with open(f"{LISTS}/{split}.txt", encoding="utf-8") as file:
            words = file.readline().split()
    except (OSError, UnicodeDecodeError):
        return None  # which train.py and test.py name
    return str(Path(words[1]).parent).lstrip("/") if len(words) == 2 else None


def mask_folder(entries: Mapping[str, Any]) -> Path:
    """Where the label maps to train on lie."""
    return Path(entries["DATASET.ROOT"]) / (named_folder(entries["DATASET.SPLIT.TRAIN"]) or PSEUDO_LABELS)


def check_truth(split: str) -> None:
    """Raise `UserError` where the list of the scored split names masks of another folder than `TRUTHS`."""
    folder = named_folder(split)
    if folder not in (None, *TRUTHS):
        raise UserError(
            f"{LISTS}/{split}.txt: expected masks in {' or '.join(f'/{name}' for name in TRUTHS)}, found /{folder};"
            " the first are scored, whatever the list names; eval.py --gt_dir scores label maps against others"
        )


def settings(args: argparse.Namespace, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Our keys, with their values, for the released command."""
    names = str(entries["EXP.ID"]), str(entries["MODEL.NAME"]).lower()
    models, features, scores = (
        Path(str(entries["EXP.OUTPUT_DIR"]), kind, *names) for kind in ("models", "features", "scores")
    )
    train, val = entries["DATASET.SPLIT.TRAIN"], entries["DATASET.SPLIT.VAL"]
    found = {entry.ours: entries[name] for name, entry in ENTRIES.items() if entry.ours is not None}
    found |= {
        "GPUS": int(args.cuda),
        "DATA_LISTS": LISTS,
        "DATA_AUG": train == "train_aug",
        "DATA_MEAN": [entries[f"IMAGE.MEAN.{channel}"] / 255 for channel in "RGB"],
        "DATA_PSEUDO_GT": mask_folder(entries),
    }
    if args.command == "train":
        return {**found, "EXP_ROOT": models, "EXP_NAME": train}
    is_crf, logits = args.command == "crf", features / val / "logit"
    trained = None if is_crf and logits.is_dir() else models / train / BASENAME.format(entries["SOLVER.ITER_MAX"])
    found |= {
        "EXP_ROOT": scores,
        "EXP_NAME": f"{val}_crf" if is_crf else val,
        "TEST_CKPT": args.model_path or trained,
        "TEST_CRF": is_crf,
        "TEST_LOGITS": logits,
        "TEST_SCORES": scores / val / f"scores{'_crf' if is_crf else ''}.json",
    }
    if args.n_jobs is not None:
        found["TEST_CRF_WORKERS"] = args.n_jobs
    return found


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The released flags, and what remains, which is for our script."""
    parser = script_parser(
        f"The released command, run by {TRAIN} and {TEST}, whose flags may stand here too (their --help).",
    )
    parser.add_argument("command", choices=["train", "test", "crf"])
    parser.add_argument("-c", "--config-path", type=path_value, required=True, help="YAML with the released entries")
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--cuda", action="store_true", default=True, help="GPUS=1 (this)")
    device.add_argument("--cpu", action="store_false", dest="cuda", help="GPUS=0")
    parser.add_argument(
        "-m", "--model-path", help="TEST_CKPT of test and crf (what train wrote; crf: none, of test's logits)"
    )
    parser.add_argument("-j", "--n-jobs", help="TEST_CRF_WORKERS of crf (the cores there are)")
    return parser.parse_known_args()


def main() -> None:
    args, others = parse_arguments()
    entries = read_entries(args.config_path)
    if args.command != "train":
        check_truth(entries["DATASET.SPLIT.VAL"])
    given = dict(word.split("=", 1) for word in others if "=" in word)
    keys = {key: value for key, value in settings(args, entries).items() if key not in given}
    words = ["--config", CONFIGURATION, *others, "--set", *(f"{key}={value}" for key, value in keys.items())]
    run_words(TRAIN if args.command == "train" else TEST, words)
    if args.command == "train" and os.environ.get("RANK", "0") == "0":  # one of torchrun's processes
        keys |= given
        folder = path_value(str(keys["EXP_ROOT"])) / keys["EXP_NAME"]
        weights = max(folder.glob("*_all.pth"), key=lambda path: path.stat().st_mtime_ns)
        copy_files([weights], folder / FINAL)


if __name__ == "__main__":
    run_script(main)
