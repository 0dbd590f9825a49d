"""CRT's run_sample.py, its steps and flags said as stages and changes of `run.py crt`. --help says what each is here.

    python released/crt/run_sample.py --voc12_root VOC2012 --train_cam_pass False --cam2_weights_name deits_cam.pth

A flag that is not given is the recipe's, which has the released values. All files go to --out (exps/crt) but for the
folders that are named: weights to crt/ and crt/irn/, CAM dicts, labels and masks to crt/, a log a stage to logs/. At
the end, trained weights and the logs are copied to the released names, sess/deits_cam.pth and the like, which are read
where their training is switched off, no flag names others, and --out has none.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import ROOT, copy_files, run_words
from tool.cli import (
    FOLDER,
    add_switch,
    path_text,
    path_value,
    require_file,
    run_script,
    script_parser,
    what_is_at,
)

IRN_FRAME = 512  # pixels a side that the release lays images on for their edges, whatever IRN was trained at
LISTS = ("train_aug", "train", "val")  # that voc12.prepare makes, which the release has in voc12/


class Step(NamedTuple):
    """A pass of the release.

    stage: the recipe's, that does it. needs: the steps that make what it reads. flag, file: what names its own result,
    and where that lies in --out unless it does; what: it is. is_default: whether the release does it unasked.
    """

    stage: str
    needs: Sequence[str] = ()
    flag: str | None = None
    file: str = ""
    what: str = ""
    is_default: bool = True


# In their order.
STEPS = {
    "train_cam": Step("train", (), "cam2_weights_name", "crt/crt.pth", "trained branches"),
    "make_cam": Step("infer_aug", ("train_cam",), "cam_out_dir", "crt/cam", "CAM dicts"),
    "eval_cam": Step("eval", ("make_cam",)),
    "cam_to_ir_label": Step("irn_labels", ("make_cam",), "ir_label_out_dir", "crt/ir_label", "label maps"),
    "train_irn": Step("irn_train", ("cam_to_ir_label",), "irn_weights_name", "crt/irn/irn.pth", "a trained IRN"),
    "make_ins_seg": Step(
        "irn_infer", ("make_cam", "train_irn"), "ins_seg_out_dir", "crt/ins_seg", "instances", is_default=False
    ),
    "eval_ins_seg": Step("eval_ins", ("make_ins_seg",), is_default=False),
    "make_sem_seg": Step("irn_infer", ("make_cam", "train_irn"), "sem_seg_out_dir", "crt/sem_seg", "masks"),
    "eval_sem_seg": Step("eval_irn", ("make_sem_seg",)),
}


class Weights(NamedTuple):
    """What a flag names: written by the pass `step`, as `file` in --out; `default`: the released name of the copy."""

    step: str
    file: str
    default: str


WEIGHTS = {
    "cam1_weights_name": Weights("train_cam", "crt/crt_cnn.pth", "sess/res152_cam.pth"),
    "cam2_weights_name": Weights("train_cam", "crt/crt_transformer.pth", "sess/deits_cam.pth"),
    "irn_weights_name": Weights("train_irn", "crt/irn/irn.pth", "sess/res50_irn.pth"),
}


class Row(NamedTuple):
    """A released flag: its default; the STAGE.FLAG that take its value; the one value that it may have here; what
    --help says in their place."""

    default: object
    ours: Sequence[str] = ()
    only: str | None = None
    note: str | None = None


VALUES = {
    "num_workers": Row("theirs", ("train.num_workers", "irn_train.num_workers")),
    "cam_network_branch1": Row("net.resnet50_cam", only="net.resnet50_cam"),
    "cam_network_branch2": Row("net.deit_cam", only="net.deit_cam"),
    "cam_crop_size": Row(336, ("train.crop_size",)),
    "cam_batch_size": Row(16, ("train.batch_size",)),
    "cam_num_epoches": Row(10, ("train.max_epoches",)),
    "cam_learning_rate": Row(0.1, ("train.lr",)),
    "cam_weight_decay": Row(1e-4, ("train.wt_dec",)),
    "cam_lambda": Row(0.1, ("train.cam_lambda",)),
    "cam_eval_thres": Row(0.15, ("eval.t",)),
    "cam_scales": Row((1.0, 0.5, 1.5, 2.0, 0.75, 1.25, 1.75), ("infer_aug.scales",)),
    "conf_fg_thres": Row(0.35, ("irn_labels.conf_fg_thres",)),
    "conf_bg_thres": Row(0.15, ("irn_labels.conf_bg_thres",)),
    "irn_network": Row("net.resnet50_irn", only="net.resnet50_irn"),
    "irn_crop_size": Row(512, ("irn_train.crop_size",)),
    "irn_batch_size": Row(32, ("irn_train.batch_size",)),
    "irn_num_epoches": Row(3, ("irn_train.max_epoches",)),
    "irn_learning_rate": Row(0.1, ("irn_train.lr",)),
    "irn_weight_decay": Row(1e-4, ("irn_train.wt_dec",)),
    "beta": Row(10, ("irn_infer.beta",)),
    "exp_times": Row(8, ("irn_infer.exp_times",)),
    "ins_seg_bg_thres": Row(0.25, ("irn_infer.ins_seg_bg_thres",)),
    "sem_seg_bg_thres": Row(0.25, ("irn_infer.sem_seg_bg_thres",)),
    "log_name": Row("sample_train_eval", note="the stages' logs, at the end, in <log_name>.log"),
}
# Of files and folders. Weights are read by the later steps where their training is switched off.
PATHS = {
    "train_list": Row(
        "voc12/train_aug.txt",
        ("train.train_list", "infer_aug.infer_list", "irn_labels.infer_list", "irn_train.train_list"),
    ),
    "val_list": Row("voc12/val.txt", ("train.val_list",)),
    "infer_list": Row("voc12/train.txt", ("irn_train.infer_list", "irn_infer.infer_list")),
    "cam1_weights_name": Row(WEIGHTS["cam1_weights_name"].default, note="written by --train_cam_pass"),
    "cam2_weights_name": Row(
        WEIGHTS["cam2_weights_name"].default,
        ("infer_aug.weights",),
        note="written by --train_cam_pass; without it infer_aug.weights, if --out has no crt/crt.pth",
    ),
    "irn_weights_name": Row(
        WEIGHTS["irn_weights_name"].default,
        ("irn_infer.weights",),
        note="written by --train_irn_pass; without it irn_infer.weights, if --out has no crt/irn/irn.pth",
    ),
    "cam_out_dir": Row("--out's crt/cam", ("infer_aug.cam_out_dir", "eval.predict_dir")),
    "ir_label_out_dir": Row("--out's crt/ir_label", ("irn_labels.ir_label_out_dir",)),
    "sem_seg_out_dir": Row("--out's crt/sem_seg", ("irn_infer.sem_seg_out_dir",)),
    "ins_seg_out_dir": Row("--out's crt/ins_seg", ("irn_infer.ins_seg_out_dir",)),
}


def make_parser() -> argparse.ArgumentParser:
    parser = script_parser("CRT's released command, run by run.py crt.")
    parser.add_argument("--voc12_root", type=path_text, default="../../VOC2012", help="VOC 2012 (%(default)s)")
    parser.add_argument(
        "--chainer_eval_set",
        default="train",
        help="the list of VOC's ImageSets/Segmentation that is scored (%(default)s)",
    )
    for name, row in {**VALUES, **PATHS}.items():
        what = row.note or ", ".join(row.ours) or f"{row.only} alone"
        words = {"nargs": "+"} if isinstance(row.default, tuple) else {}
        default = " ".join(map(str, row.default)) if words else row.default
        parser.add_argument(f"--{name}", type=path_value if name in PATHS else str, help=f"{what} ({default})", **words)
    for name, step in STEPS.items():
        add_switch(parser, f"--{name}_pass", default=step.is_default, help=f"stage {step.stage} ({step.is_default})")
    ours = parser.add_argument_group("of run.py")
    ours.add_argument("--out", type=path_value, help="all files go there (exps/crt; at --mini exps/crt_mini)")
    ours.add_argument(
        "--set", nargs="+", default=[], metavar="STAGE.FLAG=VALUE", help="other changes, the last to hold"
    )
    add_switch(ours, "--list", default=False, help="print the stages' commands and run none (False)")
    add_switch(ours, "--mini", default=False, help="generated data and narrow nets, without --voc12_root (False)")
    return parser


def chosen_steps(args: argparse.Namespace) -> list[str]:
    return [name for name in STEPS if getattr(args, f"{name}_pass")]


def problem_of(args: argparse.Namespace) -> str | None:
    """What is wrong with a flag, or missing for a step, in a line; None where nothing is."""
    given, steps = vars(args), chosen_steps(args)
    if not steps:
        return f"every pass is switched off; expected one of {', '.join(f'--{name}_pass' for name in STEPS)}"
    for name, row in VALUES.items():
        if row.only is not None and given[name] not in (None, row.only):
            return f"--{name} {given[name]}: expected {row.only}; other nets are --set's, as train.backbone=resnet50"
    for name, weights in WEIGHTS.items():
        if weights.step in steps and what_is_at(copy := copy_of(args, name)) == FOLDER:
            return f"--{name} {copy}: expected a file to write, found a folder"
    for name in steps:
        for other in STEPS[name].needs:
            step = STEPS[other]
            path = input_of(args, step)
            if other not in steps and not (any(path.iterdir()) if path.is_dir() else path.exists()):
                flag = f"--{step.flag} {path}" if given[step.flag] else path
                return f"--{name}_pass: {flag}: expected {step.what}, found none; --{other}_pass True makes them"
    return None


def copy_of(args: argparse.Namespace, name: str) -> Path:
    """Where what the flag `name` names is copied to; of small nets nothing replaces unasked what other runs made."""
    default = WEIGHTS[name].default if name in WEIGHTS else VALUES[name].default
    return Path(getattr(args, name) or (args.out if args.mini else Path()) / default)


def input_of(args: argparse.Namespace, step: Step) -> Path:
    """Where the steps after `step` find what an earlier call's made: where it is named, else in --out, and weights that
    are not there under their released name."""
    if (named := getattr(args, step.flag)) is not None:
        return named
    places = [args.out / step.file, *([copy_of(args, step.flag)] if step.flag in WEIGHTS else [])]
    return next((path for path in places if path.exists()), places[0])


def located(path: Path) -> Path:
    """A path of the command line for commands that start in the clone's folder."""
    return path if Path.cwd() == ROOT else Path.cwd() / path


def list_path(path: Path, out: Path) -> Path:
    """A list; where the release's own is named, and no such file is there, the one that is prepared."""
    if not path.exists() and path.parent.name == "voc12" and path.stem in LISTS:
        path = out / "data" / path.name
    return located(path)


def changes(args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The recipe's flags, by STAGE.FLAG, that are other than it has them; None leaves one out."""
    given, steps = vars(args), chosen_steps(args)
    found: dict[str, Any] = {
        "eval.t": VALUES["cam_eval_thres"].default,
        "eval.curve": None,
        "eval.plot": None,
        "eval_irn.background_255": True,
    }
    for name, row in VALUES.items():
        if (value := given[name]) is not None:
            if isinstance(value, list):  # as numbers, or as Python writes a tuple of them
                value = re.findall(r"[^\s,()\[\]]+", " ".join(value))
            found.update(dict.fromkeys(row.ours, value))
    for name, row in PATHS.items():
        path = Path(row.default) if name == "infer_list" and given[name] is None else given[name]
        if name in WEIGHTS:
            path = None if WEIGHTS[name].step in steps else input_of(args, STEPS[WEIGHTS[name].step])
        if path is not None:
            path = list_path(path, out) if name.endswith("_list") else located(path)
            found.update(dict.fromkeys(row.ours, path))
    if args.chainer_eval_set != "train":
        root = out / "data" / "VOC2012" if args.mini else Path(args.voc12_root)
        scored = located(root / "ImageSets" / "Segmentation" / f"{args.chainer_eval_set}.txt")
        found.update({f"{STEPS[name].stage}.list": scored for name in steps if name.startswith("eval_")})
    if given["irn_crop_size"] is not None:
        found["irn_infer.crop_size"] = IRN_FRAME
    if "make_ins_seg" in steps:
        found["irn_train.displacement"] = True
    for make, score in (("make_ins_seg", "eval_ins_seg"), ("make_sem_seg", "eval_sem_seg")):
        key = f"irn_infer.{STEPS[make].flag}"
        folder = found.setdefault(key, located(out / STEPS[make].file))
        if make not in steps:  # what an earlier call made is scored
            found[key] = None
            if score in steps:
                found[f"{STEPS[score].stage}.predict_dir"] = folder
    return found


def in_words(value: Any) -> str:
    """A value as --set takes it."""
    return "" if value is None else shlex.join(map(str, value if isinstance(value, list) else [value]))


def read_words(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The released flags of a command line, and its other words.

    Ends with 2 after a line that says what is wrong with a flag, or which input a step lacks.
    """
    parser = make_parser()
    args, others = parser.parse_known_args(words)
    args.out = args.out or Path("exps", "crt_mini" if args.mini else "crt")
    if (problem := problem_of(args)) is not None:
        parser.error(problem)
    return args, others


def stages_of(args: argparse.Namespace) -> list[str]:
    return [
        *(["data"] if args.mini else []),
        "prepare",
        *dict.fromkeys(STEPS[name].stage for name in chosen_steps(args)),
    ]


def run_words_of(words: Sequence[str]) -> list[str]:
    """run.py's words for the released command line `words`; what is no released flag stays, behind the data.

    Ends as `read_words`.
    """
    args, others = read_words(words)
    data = ["--mini"] if args.mini else ["--voc12_root", args.voc12_root]
    listing = ["--list"] if args.list else []
    sets = [f"{key}={in_words(value)}" for key, value in changes(args, args.out).items()]
    run = ["crt", *data, "--out", str(args.out), *listing, *others]
    return [*run, "--stages", *stages_of(args), "--set", *sets, *args.set]


def copy_to_released_names(args: argparse.Namespace) -> None:
    """After a run: what was trained under the names of the flags, and its stages' logs as one, <log_name>.log.

    Raises `UserError` where a file cannot be written.
    """
    copies = {name: [args.out / file] for name, (step, file, _) in WEIGHTS.items() if step in chosen_steps(args)}
    for name, sources in copies.items():
        require_file(sources[0], f"--{name}: --set", "the trained weights; leave --set's names out")
        copy_files(sources, copy_of(args, name))
    logs = [args.out / "logs" / f"{name}.log" for name in stages_of(args)]
    copy_files(logs, Path(f"{copy_of(args, 'log_name')}.log"))


def main() -> None:
    words, here = sys.argv[1:], Path.cwd()
    run_words("run.py", run_words_of(words))
    os.chdir(here)  # which run.py leaves for the clone's folder
    args, _ = read_words(words)
    if not args.list:
        run_script(lambda: copy_to_released_names(args))


if __name__ == "__main__":
    main()
