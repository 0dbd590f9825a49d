"""Does each level of HSC pay? Baselines, HSC and its ablations on photographs, over several seeds, with intervals.

    python -m benchmark.real --voc12_root VOC2012 --weights mobilenet_v2.pth

Each run trains on the training list, infers the seeds and CRF seeds of `train.txt` and is scored there; `--refine` adds
refinements that are trained on each run's own CAMs, and their label maps of `train.txt`; `--segmentation` adds DeepLab
on the best CRF seeds of HSC and of a baseline, and on masks, scored on `val.txt`.
A run is a folder, OUT/seed_<seed>/<name>; the same command goes on after a stop, and several at once with other
`--seeds` or `--runs` share an OUT. After each run the table is written anew, from all runs that are there.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from benchmark.real_refine import REFINEMENTS, changes_of, refine
from benchmark.real_table import (
    AFTER_EPS,
    CURVE_FILE,
    MASKS,
    Protocol,
    check_table,
    write_table,
)
from method import METHODS
from method.hsc.config import ABLATIONS, SANE
from network import BACKBONE_HELP, backbone_name
from recipes import common
from tool.artifact import atomic_file, reported_unwritable
from tool.cli import (
    FILE,
    UserError,
    add_switch,
    brief,
    path_value,
    positive,
    raise_problems,
    require_file,
    require_folder,
    run_script,
    script_parser,
    what_is_at,
)
from tool.flags import AMP, check_scales
from tool.folder import changed_settings
from tool.lists import read_ids
from tool.lock import turn_in
from tool.recipe import Setup, Stage
from tool.run_recipe import run_stages
from tool.weights_file import require_weights
from voc12.classes import VOC12

# crt's pair of nets is no backbone that others have too; MSA's nets ask a superpixel network.
OF_MSA = sorted(name for name, method in METHODS.items() if method.helper_flags)
BASELINES = sorted(METHODS.keys() - {"hsc", "crt", *OF_MSA})
# Part by part: the baseline; maps rebuilt by their neighbours; spread by affinity; whose prototypes rebuild a target.
MSA = {
    "msa_image_cam": {"method": "msa_image", "sp_cam": False, "alpha": 0},
    "msa_image_dcr": {"method": "msa_image", "beta": 0, "alpha": 0},
    "msa_image_ap": {"method": "msa_image", "alpha": 0},
    **{name: {"method": name} for name in OF_MSA},
}
# The flags of train_voc.py that make each run what it is: methods and ablations; the oddities one by one, and HSC's
# ablations without them.
CLAIM = {
    **{method: {"method": method} for method in (*BASELINES, "hsc")},
    **{f"hsc_without_{term}": {"method": "hsc", "without": term} for term in ABLATIONS},
}
MENDED = {f"hsc_sane_{name}": {"method": "hsc", "sane": name} for name in (*SANE, "all")}
FROM_IMAGENET = {
    **CLAIM,
    **MENDED,
    **{f"{run}_without_{term}": {**MENDED[run], "without": term} for run in MENDED for term in ABLATIONS},
}
# The same from the weights of the seed's eps, which have no place in cls's net, with as many steps again.
FROM_EPS = {f"{run}{AFTER_EPS}": flags for run, flags in FROM_IMAGENET.items() if run != "cls"}
RUNS = {**FROM_IMAGENET, **FROM_EPS, **MSA}
SAVE_EVERY = 50  # steps
EXAMPLES = """\
  # VOC, with what voc12.prepare made, in half precision
  python -m benchmark.real --voc12_root VOC2012 --labels voc12/cls_labels.npy --lists voc12 \\
      --weights mobilenet_v2.pth --amp bf16
  # the paper's net and sizes
  python -m benchmark.real --voc12_root VOC2012 --labels voc12/cls_labels.npy --lists voc12 \\
      --weights network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params --backbone resnet38d \\
      --steps 20000 --epochs 15 --batch_size 12 --crop_size 448 --resize_size 448 768 \\
      --view2_size 128 --scales 0.5 1 1.5 2
  # photographs with labels of five classes, and sane values for the recipe's oddities
  python -m benchmark.real --voc12_root VOC2012 --weights mobilenet_v2.pth \\
      --classes background bus car cat person train --runs eps hsc hsc_sane_all
"""
# What DeepLab is trained on the best of: a baseline, HSC with all its terms.
COMPARED = [
    {f"{name}{start}" for name in names for start in ("", AFTER_EPS)} for names in (BASELINES, ("hsc", *MENDED))
]
# What all runs of an OUT share, beside the content of the weights, labels and lists.
RECIPE = (
    *("backbone", "steps", "epochs", "batch_size", "crop_size", "resize_size", "view2_size", "scales", "amp"),
    "segmentation_steps",
)
# DeepLab: small images, and a small rate, since norms are folded into the ImageNet weights of the small benchmark.
SEGMENTATION = {
    **{"GPUS": 1, "MODEL_ASPP_OUTDIM": 64, "MODEL_FREEZEBN": True},
    **{"DATA_RANDOMCROP": 192, "DATA_RANDOMSCALE": "[0.35,0.75]", "TRAIN_BATCHES": 8, "TRAIN_LR": 0.0005},
    **{"TRAIN_BN_MOM": 0.1, "TEST_MULTISCALE": "[0.35,0.5,0.75]", "TRAIN_SAVE_EVERY": SAVE_EVERY},
}


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "Baselines, HSC and its ablations on photographs.",
        examples=EXAMPLES,
        prog="python -m benchmark.real",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--voc12_root", type=path_value, required=True, help="folder in VOC's layout, saliency/ in it")
    data.add_argument("--labels", type=path_value, help="image labels (<voc12_root>/cls_labels.npy)")
    data.add_argument(
        "--lists", type=path_value,
        help="folder of train_aug.txt or trainaug.txt, train.txt, val.txt (<voc12_root>/ImageSets/Segmentation)",
    )  # fmt: skip
    data.add_argument("--weights", type=path_value, required=True, help="the backbone's ImageNet weights")
    data.add_argument("--classes", nargs="+", default=VOC12.label_names, metavar="NAME", help="that mIoU is over (all)")

    runs = parser.add_argument_group("runs")
    runs.add_argument("--out", type=path_value, default=Path("exps/real"), help="(%(default)s)")
    runs.add_argument(
        "--runs", nargs="+", choices=RUNS, default=list(CLAIM), metavar="NAME",
        help=f"also hsc_sane_ODDITY, ODDITY as train_voc.py --sane takes it, hsc_sane_ODDITY_without_TERM, and any but "
        f"cls with {AFTER_EPS}; with --scn {' '.join(MSA)} ({' '.join(CLAIM)})",
    )  # fmt: skip
    runs.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="of training (0 1 2)")
    runs.add_argument("--scn", type=path_value, metavar="FILE", help="a superpixel network's weights, for MSA's runs")
    runs.add_argument(
        "--refine", nargs="+", choices=REFINEMENTS, default=[], help="refinements of each run's seeds (none)"
    )
    runs.add_argument(
        "--refine_list", type=path_value, help="ids whose CAMs the refinements are trained on (the training list)"
    )
    add_switch(runs, "--segmentation", default=False, help="DeepLab too, for the first seed (False)")
    runs.add_argument(
        "--table",
        type=path_value,
        help="Markdown file whose table of this benchmark is replaced; a figure is put beside it",
    )

    recipe = parser.add_argument_group("recipe, the same for all runs")
    recipe.add_argument("--backbone", type=backbone_name, default="mobilenet_v2", metavar="NAME", help=BACKBONE_HELP)
    recipe.add_argument("--steps", type=positive, default=885, help="of training (%(default)s)")
    recipe.add_argument("--epochs", type=positive, default=5, help="the rate decays over (%(default)s)")
    recipe.add_argument("--batch_size", type=positive, default=8, help="(%(default)s)")
    recipe.add_argument("--crop_size", type=positive, default=160, help="(%(default)s)")
    recipe.add_argument(
        "--resize_size", type=positive, nargs=2, default=[160, 272], metavar=("MIN", "MAX"), help="(160 272)"
    )
    recipe.add_argument("--view2_size", type=positive, default=96, help="(%(default)s)")
    recipe.add_argument(
        "--scales", type=float, nargs="+", default=[0.25, 0.5, 0.75, 1.0], metavar="SCALE",
        help="of inference; the paper's 0.5 to 2, less as training sizes are (0.25 0.5 0.75 1)",
    )  # fmt: skip
    recipe.add_argument("--segmentation_steps", type=positive, default=1000, help="of DeepLab (%(default)s)")
    recipe.add_argument("--amp", choices=AMP, default="off", help="of all nets (%(default)s)")
    recipe.add_argument("--num_workers", type=int, default=1, help="loader and CRF processes (%(default)s)")
    args = parser.parse_args()
    args.voc12_root, args.weights, args.out = (path.resolve() for path in (args.voc12_root, args.weights, args.out))
    args.labels = (args.labels or args.voc12_root / "cls_labels.npy").resolve()
    args.lists = (args.lists or args.voc12_root / "ImageSets" / "Segmentation").resolve()
    spellings = [args.lists / f"{name}.txt" for name in ("train_aug", "trainaug")]
    args.splits = ("train", "val") if args.segmentation else ("train",)
    args.runs = sorted(set(args.runs), key=list(RUNS).index)  # what starts from eps comes after it
    args.training = next((path for path in spellings if what_is_at(path) == FILE), spellings[0])
    args.refine_list = (args.refine_list or args.training).resolve()
    args.scn = None if args.scn is None else args.scn.resolve()
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for what is missing or wrong, before the first run."""
    for name in ("JPEGImages", "SegmentationClass", "saliency"):
        require_folder(args.voc12_root / name, "--voc12_root", f"{name} of the data")
    require_weights(args.weights, "--weights", "ImageNet weights")
    require_file(args.labels, "--labels", "image labels, which voc12.prepare makes")
    for path in (args.training, *(args.lists / f"{split}.txt" for split in args.splits)):
        require_file(path, "--lists", "a list of ids, trainaug.txt or train_aug.txt for training")
    require_file(args.refine_list, "--refine_list", "a list of ids")
    if args.scn is not None:
        require_weights(args.scn, "--scn", "weights of a superpixel network")
    if min(args.seeds) < 0:
        raise UserError(f"--seeds {min(args.seeds)}: expected whole numbers of at least 0")
    check_scales(args.scales)
    if args.table is not None:
        check_table(args.table)


def check_runs(args: argparse.Namespace, protocol: Protocol) -> None:
    """Raise `UserError` for runs that would miss what they start from or are compared with."""
    if args.scn is None and (of_msa := [name for name in args.runs if name in MSA and name != "msa_image_cam"]):
        raise UserError(f"--runs {of_msa[0]}: it asks a superpixel network; name its weights, --scn")
    for seed in args.seeds:
        late = [name for name in args.runs if name.endswith(AFTER_EPS)]
        if late and "eps" not in args.runs and what_is_at(eps_weights(args, seed)) != FILE:
            raise UserError(
                f"--runs {late[0]}: it starts from eps, which seed {seed} has not in {args.out}; name eps too"
            )
    if args.segmentation:
        names = {*args.runs, *(run.name for run in protocol.runs() if run.seed == args.seeds[0])}
        if not all(names & kind for kind in COMPARED):
            raise UserError("--segmentation: expected hsc and a baseline, or the like from eps, in --runs")
        num_masks = len(read_ids(args.lists / "train.txt", "--lists"))
        if num_masks < SEGMENTATION["TRAIN_BATCHES"]:
            raise UserError(
                f"--segmentation: expected masks of a batch of {SEGMENTATION['TRAIN_BATCHES']} images or more in "
                f"train.txt, found {num_masks}"
            )


def check_recipe(args: argparse.Namespace) -> None:
    """Note the recipe in OUT, whose runs all share it; raise `UserError` if runs that are there had another."""
    files = {"--weights": args.weights, "--labels": args.labels}
    files |= {"the training list": args.training, "train.txt": args.lists / "train.txt"}
    files |= {"--refine_list": args.refine_list} if args.refine else {}
    files |= {} if args.scn is None else {"--scn": args.scn}
    now = {f"--{name}": getattr(args, name) for name in RECIPE}
    now |= {f"{name} (sha256)": hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    record = args.out / "recipe.json"
    if what_is_at(record) == FILE and any(args.out.glob("seed_*/*/last.ckpt")):
        try:
            then = json.loads(record.read_text())
        except (OSError, ValueError) as error:
            then = error
        if not isinstance(then, dict):
            raise UserError(f"{record}: expected what this benchmark writes ({brief(then)}); name another --out")
        now = {**then, **now}  # a command without --refine or --scn leaves what they name there
        then = {**now, **then}  # and the first with them notes it
        raise_problems(f"--out {args.out} has runs of another recipe; name another folder", changed_settings(then, now))
    with atomic_file(record) as file:
        file.write(json.dumps(now, indent=1).encode())


def recipe(args: argparse.Namespace) -> str:
    """A line on what all runs share."""
    sizes = ", ".join(f"{name} {value}" for name, value in {
        "crop": args.crop_size,
        "second view": args.view2_size,
        "longer side": " to ".join(map(str, args.resize_size)),
        "inference at": ", ".join(map(str, args.scales)),
        "precision": args.amp,
    }.items())  # fmt: skip
    return (
        f"{args.backbone}, {args.steps} steps of batch {args.batch_size} (the rate decays over {args.epochs} epochs),"
        f" {sizes}; mIoU in per cent over {', '.join(args.classes)}: mean ± standard deviation over seeds of training"
        " [95 % bootstrap interval over the images]; processor time of the training."
    )


def eps_weights(args: argparse.Namespace, seed: int) -> Path:
    return args.out / f"seed_{seed}" / "eps" / "eps.pth"


def stages_of(
    args: argparse.Namespace, name: str, seed: int, changes: dict[str, dict[str, Any]]
) -> tuple[Stage, Setup]:
    """The training of a run, and what the stages after it are made for: the flags that all runs share, those of this
    one, and `changes`, by stage."""
    out = args.out / f"seed_{seed}"
    net = {"backbone": args.backbone, "amp": args.amp}
    data = {"labels": args.labels}
    of_kind = {"view2_size": args.view2_size}
    if name in MSA:  # the last weights, so that no mask is seen; labels alone are scored
        of_kind = {"scn": None if name == "msa_image_cam" else args.scn, "val_list": args.lists / "train.txt"}
    flags = {
        "train": {
            **{**RUNS[name], **net, **data, "session": name, "seed": seed, "train_list": args.training},
            "weights": out / "eps" / "eps.pth" if name.endswith(AFTER_EPS) else args.weights,
            **{"batch_size": args.batch_size, "crop_size": args.crop_size, "resize_size": args.resize_size},
            **{"max_iters": args.steps, "iter_size": 1, "max_epoches": args.epochs},
            **{"num_workers": args.num_workers, "save_every": SAVE_EVERY, **of_kind},
        },
    }
    lists = {"infer": args.lists / "train.txt", "infer_aug": args.training}
    lists |= dict.fromkeys(("infer_refine", "infer_irn"), args.refine_list)
    for stage, ids in lists.items():
        flags[stage] = {**net, **data, "infer_list": ids, "scales": args.scales, "crf_workers": args.num_workers}
    flags["eval"] = {"list": args.lists / "train.txt", "classes": args.classes, "num_workers": args.num_workers}
    merged = {
        (stage, flag): value
        for stage in {*flags, *changes}
        for flag, value in {**flags.get(stage, {}), **changes.get(stage, {})}.items()
    }
    setup = Setup(out, args.voc12_root, args.voc12_root / "saliency", changes=merged)
    return common.training(setup, RUNS[name]["method"], mini_flags={}), setup


def run_one(args: argparse.Namespace, name: str, seed: int) -> None:
    """Train a run, infer the seeds of train.txt and score them: the curve's file says that the run is whole."""
    train, setup = stages_of(args, name, seed, {})
    infer = common.inference(setup, train, name="infer", ids="train")
    run_stages([train, infer, common.scores(setup, train)[0]], train.makes.parent)


def refine_one(args: argparse.Namespace, name: str, seed: int, kind: str) -> None:
    """Refine the seeds of a run that is there."""
    changes = changes_of(
        ids=args.refine_list,
        scored=args.lists / "train.txt",
        net={"backbone": args.backbone, "amp": args.amp},
        weights=args.weights,
        classes=args.classes,
        num_workers=args.num_workers,
    )
    refine(kind, *stages_of(args, name, seed, changes))


def segment(args: argparse.Namespace, name: str, learnt_from: str, seed: int) -> None:
    """Train DeepLab, as deeplab_<name>, on the CRF seeds of the run `learnt_from`, or on the masks of `train.txt`, and
    score it on `val.txt`."""
    on_masks = name == MASKS
    keys = {
        **SEGMENTATION,
        **{"EXP_NAME": f"deeplab_{name}", "DATA_LISTS": args.lists, "DATA_AUG": not on_masks, "TRAIN_SEED": seed},
        **{"DATA_WORKERS": args.num_workers, "TRAIN_AMP": args.amp, "TEST_CRF_WORKERS": args.num_workers},
        **{"MODEL_BACKBONE": args.backbone, "MODEL_BACKBONE_WEIGHTS": args.weights},
        "TRAIN_ITERATION": args.segmentation_steps,
    }
    train, setup = stages_of(args, learnt_from, seed, {"deeplab": keys})
    infer = common.inference(setup, train, name="infer_aug", ids="train_aug")
    masks = args.voc12_root / "SegmentationClass" if on_masks else common.crf_seeds(train)
    stages = common.deeplab(setup, masks, train)
    run_stages(stages if on_masks else [infer, *stages], setup.out / f"deeplab_{name}")


def compare_segmentation(args: argparse.Namespace, protocol: Protocol) -> None:
    """DeepLab for the first seed: on the best CRF seeds of HSC, with all its terms, and of a baseline; and on masks."""
    seed = args.seeds[0]
    there = {run.name: run for run in protocol.runs() if run.seed == seed}
    best = []
    for names in COMPARED:
        runs = [there[name] for name in there if name in names]
        best.append(max(runs, key=lambda run: protocol.figures([run]).crf.mean).name)
    for name in (*best, MASKS):
        if what_is_at(args.out / f"seed_{seed}" / f"deeplab_{name}" / "results" / "val_score.json") != FILE:
            segment(args, name, best[0] if name == MASKS else name, seed)


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    protocol = Protocol(args.out, args.lists, args.voc12_root / "SegmentationClass", tuple(args.classes), recipe(args))
    protocol.check(args.splits)
    check_runs(args, protocol)
    with reported_unwritable(f"--out {args.out}"):
        args.out.mkdir(parents=True, exist_ok=True)
    with turn_in(args.out):
        check_recipe(args)
    runs = [(seed, name) for seed in args.seeds for name in args.runs]
    for number, (seed, name) in enumerate(runs, start=1):
        folder = args.out / f"seed_{seed}" / name
        if what_is_at(folder / CURVE_FILE) != FILE:
            print(f"\nrun {number} of {len(runs)}: {name}, seed {seed}")
            run_one(args, name, seed)
        for kind in args.refine:
            if what_is_at(folder / REFINEMENTS[kind].score) != FILE:
                refine_one(args, name, seed, kind)
        write_table(protocol, args.table)
    if args.segmentation:
        compare_segmentation(args, protocol)
        write_table(protocol, args.table)
    print(f"{len(runs)} runs are there; the table and its figure: {args.out / 'table.md'}, figure.png")


if __name__ == "__main__":
    run_script(main)
