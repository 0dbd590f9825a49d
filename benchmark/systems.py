"""Which method should I use? Every method, refinement and segmentation on one data set, over several seeds, with
intervals.

    python -m benchmark.systems --voc12_root VOC2012 --weights mobilenet_v2.pth

Each run trains on the training list, infers the seeds and CRF seeds of `train.txt` and is scored there; `--refine` adds
refinements that are trained on each run's own CAMs, and their label maps of `train.txt`; `--segment` adds segmentations
that learn from the label maps of a run, or from masks, scored on `val.txt`.
A run is a folder, OUT/seed_<seed>/<name>; the same command goes on after a stop, and several at once with other
`--seeds` share an OUT. After each run the table is written anew, from all runs that are there.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from benchmark.system_counts import Measured, read_counts
from benchmark.system_figures import Protocol
from benchmark.system_page import write_page
from benchmark.system_refine import REFINEMENTS
from benchmark.system_runs import (
    AFTER_EPS,
    BASELINES,
    CAM,
    CRT,
    CURVE_FILE,
    LONGER,
    NEEDS_SCN,
    in_order,
    reads_saliency,
    refine_one,
    run_named,
    run_one,
    weights_of,
)
from benchmark.system_seeds import ALONG, ALPHA, AND, MEAN, RESIZED, net_of, parts_of, trainings_of
from benchmark.system_segment import check_segmented, is_there, segment_one, segmented
from benchmark.system_table import check_table, write_table
from network import BACKBONE_HELP, NO_FILES, backbone_name
from tool.artifact import atomic_file, reported_unwritable, write_json
from tool.cli import (
    FILE,
    UserError,
    add_switch,
    brief,
    path_text,
    path_value,
    positive,
    raise_problems,
    require_file,
    require_folder,
    run_script,
    script_parser,
    what_is_at,
)
from tool.file_hash import sha256_of
from tool.flags import AMP, check_scales
from tool.folder import changed_settings
from tool.lock import turn_in
from tool.weights_file import require_weights
from voc12.classes import VOC12

EXAMPLES = """\
  # VOC, with what voc12.prepare made, in half precision
  python -m benchmark.systems --voc12_root VOC2012 --labels voc12/cls_labels.npy --lists voc12 \\
      --weights mobilenet_v2.pth --amp bf16
  # the paper's net and sizes
  python -m benchmark.systems --voc12_root VOC2012 --labels voc12/cls_labels.npy --lists voc12 \\
      --weights network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params --backbone resnet38d \\
      --steps 20000 --epochs 15 --batch_size 12 --crop_size 448 --resize_size 448 768 \\
      --view2_size 128 --scales 0.5 1 1.5 2
  # photographs with labels of five classes: three methods from the same start, each with both refinements
  python -m benchmark.systems --voc12_root VOC2012 --weights mobilenet_v2.pth \\
      --classes background bus car cat person train \\
      --runs eps eps_after_eps ppc_eps_after_eps hsc_after_eps --refine affinity irn
  # DHR on the CRF seeds of one of them, and its net on the same label maps
  python -m benchmark.systems --voc12_root VOC2012 --weights mobilenet_v2.pth \\
      --classes background bus car cat person train --runs eps hsc_after_eps \\
      --segment hsc_after_eps+crf+dhr hsc_after_eps+crf+deeplabv3plus
"""
# What all runs of an OUT share, beside the content of the weights, labels and lists.
RECIPE = (
    "backbone",
    "from_scratch",
    "steps",
    "epochs",
    "batch_size",
    "crop_size",
    "resize_size",
    "view2_size",
    "scales",
    "amp",
    "transformer",
    "transformer_weights",
    "segmentation_steps",
)


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "Every method, refinement and segmentation on one data set, over several seeds.",
        examples=EXAMPLES,
        prog="python -m benchmark.systems",
    )
    add_data(parser)
    add_runs(parser)
    add_recipe(parser)
    args = parser.parse_args()
    complete_arguments(args)
    return args


def add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--voc12_root",
        type=path_value,
        required=True,
        help="folder in VOC's layout, with saliency/ for EPS and what reads it",
    )
    data.add_argument("--labels", type=path_value, help="image labels (<voc12_root>/cls_labels.npy)")
    data.add_argument(
        "--lists", type=path_value,
        help="folder of train_aug.txt or trainaug.txt, train.txt, val.txt (<voc12_root>/ImageSets/Segmentation)",
    )  # fmt: skip
    data.add_argument("--weights", type=path_value, required=True, help="the backbone's ImageNet weights")
    data.add_argument("--classes", nargs="+", default=VOC12.label_names, metavar="NAME", help="that mIoU is over (all)")


def add_runs(parser: argparse.ArgumentParser) -> None:
    runs = parser.add_argument_group("runs")
    runs.add_argument("--out", type=path_value, default=Path("exps/systems"), help="(%(default)s)")
    runs.add_argument(
        "--runs", nargs="+", type=run_named, default=[*BASELINES, "hsc"], metavar="NAME",
        help=f"also NAME{', NAME'.join(LONGER)}, of so many steps; hsc_without_TERM; hsc_sane_ODDITY, ODDITY as"
        f" train_voc.py --sane takes it, hsc_sane_ODDITY_without_TERM; each of these, but for cls, with {AFTER_EPS};"
        f" {', '.join(CRT)}; {CAM}, longer too; with --scn {', '.join(NEEDS_SCN)}, also with {RESIZED}, whose maps do"
        f" not follow superpixels, and a method's seeds with {ALONG}, whose do; {MEAN}NAME{AND}NAME, the mean of runs'"
        f" CAMs; any of these with {ALPHA}A, its CRF seeds at that exponent of background's score"
        f" ({' '.join([*BASELINES, 'hsc'])})",
    )  # fmt: skip
    runs.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="of training (0 1 2)")
    runs.add_argument("--scn", type=path_value, metavar="FILE", help="a superpixel network's weights, for MSA's runs")
    runs.add_argument(
        "--refine", nargs="+", choices=REFINEMENTS, default=[], help="refinements of each run's seeds (none)"
    )
    runs.add_argument(
        "--refine_list", type=path_value, help="ids whose CAMs the refinements are trained on (the training list)"
    )
    runs.add_argument(
        "--segment", nargs="+", type=segmented, default=[], metavar="RUN+REFINEMENT+SEGMENTATION",
        help="what learns from label maps, as eps+crf+dhr, of the parts that run.py takes; masks+SEGMENTATION: from the"
        " masks of train.txt (none)",
    )  # fmt: skip
    runs.add_argument(
        "--segment_list", type=path_value, help="ids whose label maps they learn from (the training list)"
    )
    runs.add_argument(
        "--table",
        type=path_value,
        help="Markdown file whose table of this benchmark is replaced; a figure and the counts are put beside it",
    )
    runs.add_argument(
        "--counts", nargs="+", type=path_value, default=[], metavar="FILE",
        help="counts.npz of other folders with this recipe: the table has their runs too (none)",
    )  # fmt: skip


def add_recipe(parser: argparse.ArgumentParser) -> None:
    recipe = parser.add_argument_group("recipe, the same for all runs")
    recipe.add_argument("--backbone", type=backbone_name, default="mobilenet_v2", metavar="NAME", help=BACKBONE_HELP)
    add_switch(recipe, "--from_scratch", default=False, help="train batch norm and first blocks too (False)")
    recipe.add_argument(
        "--transformer", default="deit_tiny_patch16_224", metavar="NAME", help="of crt, beside --backbone (%(default)s)"
    )
    recipe.add_argument(
        "--transformer_weights",
        type=path_text,
        default="none",
        metavar="FILE",
        help="its ImageNet weights (%(default)s)",
    )
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
    recipe.add_argument("--segmentation_steps", type=positive, default=1000, help="of segmentations (%(default)s)")
    recipe.add_argument("--amp", choices=AMP, default="off", help="of all nets (%(default)s)")
    recipe.add_argument("--num_workers", type=int, default=1, help="loader and CRF processes (%(default)s)")


def complete_arguments(args: argparse.Namespace) -> None:
    """Put in what follows from other flags, and make paths whole, as stages may run elsewhere."""
    args.voc12_root, args.weights, args.out = (path.resolve() for path in (args.voc12_root, args.weights, args.out))
    args.labels = (args.labels or args.voc12_root / "cls_labels.npy").resolve()
    args.lists = (args.lists or args.voc12_root / "ImageSets" / "Segmentation").resolve()
    spellings = [args.lists / f"{name}.txt" for name in ("train_aug", "trainaug")]
    args.splits = ("train", "val") if args.segment else ("train",)
    args.runs = in_order(args.runs)
    args.training = next((path for path in spellings if what_is_at(path) == FILE), spellings[0])
    args.refine_list = (args.refine_list or args.training).resolve()
    args.segment_list = (args.segment_list or args.training).resolve()
    args.scn = None if args.scn is None else args.scn.resolve()


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for what is missing or wrong, before the first run."""
    saliency = ["saliency"] if any(map(reads_saliency, args.runs)) else []
    for name in ("JPEGImages", "SegmentationClass", *saliency):
        require_folder(args.voc12_root / name, "--voc12_root", f"{name} of the data")
    require_weights(args.weights, "--weights", "ImageNet weights")
    require_file(args.labels, "--labels", "image labels, which voc12.prepare makes")
    for path in (args.training, *(args.lists / f"{split}.txt" for split in args.splits)):
        require_file(path, "--lists", "a list of ids, trainaug.txt or train_aug.txt for training")
    require_file(args.refine_list, "--refine_list", "a list of ids")
    require_file(args.segment_list, "--segment_list", "a list of ids")
    if args.transformer_weights not in NO_FILES:
        require_weights(Path(args.transformer_weights), "--transformer_weights", "a transformer's ImageNet weights")
    if args.scn is not None:
        require_weights(args.scn, "--scn", "weights of a superpixel network")
    if min(args.seeds) < 0:
        raise UserError(f"--seeds {min(args.seeds)}: expected whole numbers of at least 0")
    check_scales(args.scales)
    if args.table is not None:
        check_table(args.table)


def check_runs(args: argparse.Namespace) -> None:
    """Raise `UserError` for runs that would miss what they start from."""
    asking = [name for name in args.runs if name.endswith(ALONG) or net_of(name) in NEEDS_SCN]
    if args.scn is None and asking:
        raise UserError(f"--runs {asking[0]}: it asks a superpixel network; name its weights, --scn")
    for seed in args.seeds:
        late = [name for name in args.runs if name.endswith(AFTER_EPS) and not parts_of(name)]
        if late and "eps" not in args.runs and what_is_at(weights_of(args, "eps", seed)) != FILE:
            raise UserError(
                f"--runs {late[0]}: it starts from eps, which seed {seed} has not in {args.out}; name eps too"
            )
        for name in args.runs:
            asked = [part for part in (*parts_of(name), *trainings_of(name)) if part not in args.runs]
            for part in asked:
                if part != name and what_is_at(args.out / f"seed_{seed}" / part / CURVE_FILE) != FILE:
                    raise UserError(f"--runs {name}: seed {seed} has no {part} in {args.out}; name it too")
    check_segmented(args)


def check_recipe(args: argparse.Namespace) -> dict[str, object]:
    """Note the recipe in OUT, whose runs all share it, and that the first has begun; raise `UserError` if runs that are
    there had another."""
    files = {"--weights": args.weights, "--labels": args.labels}
    files |= {"the training list": args.training, "train.txt": args.lists / "train.txt"}
    refined = args.refine or any(asked.refinement in REFINEMENTS for asked in args.segment)
    files |= {"--refine_list": args.refine_list} if refined else {}
    files |= {"--segment_list": args.segment_list} if args.segment else {}
    files |= {} if args.scn is None else {"--scn": args.scn}
    now = {f"--{name}": getattr(args, name) for name in RECIPE}
    now |= {f"{name} (sha256)": sha256_of(path) for name, path in files.items()}
    record = args.out / "recipe.json"
    if what_is_at(record) == FILE and any(args.out.glob("seed_*/*")):
        try:
            then = json.loads(record.read_text())
        except (OSError, ValueError) as error:
            then = error
        if not isinstance(then, dict):
            raise UserError(f"{record}: expected what this benchmark writes ({brief(then)}); name another --out")
        now = {**then, **now}  # a command without --refine, --segment or --scn leaves what they name there
        then = {**now, **then}  # and the first with them notes it
        raise_problems(
            f"--out {args.out} has runs of another recipe; name another folder, or remove its seed_* and start anew",
            changed_settings(then, now),
        )
    write_json(record, now)
    # Before the run's own files: other commands that ask now are to see that it has begun.
    first = args.out / f"seed_{args.seeds[0]}" / args.runs[0]
    with reported_unwritable(first):
        first.mkdir(parents=True, exist_ok=True)
    return now


def counts_of_others(args: argparse.Namespace, protocol: Protocol) -> Measured:
    """What the files of --counts hold; of what two have, the later one's."""
    runs, segmentations = [], {}
    for path in args.counts:
        found = read_counts(path, settings=protocol.settings, truth=protocol.mask_counts)
        runs += found.runs
        for asked, by_seed in found.segmentations.items():
            segmentations.setdefault(asked, {}).update(by_seed)
    return Measured(runs, segmentations)


def write_lists(args: argparse.Namespace) -> None:
    """The lists of segmentations where stage 3 looks for them, OUT/lists."""
    files = {"train_aug": args.segment_list, "train": args.lists / "train.txt", "val": args.lists / "val.txt"}
    (args.out / "lists").mkdir(exist_ok=True)
    for name, path in files.items():
        with atomic_file(args.out / "lists" / f"{name}.txt") as file:
            file.write(path.read_bytes())


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
        " [95 % bootstrap interval over the images]; processor time of the training, and of an image's inference and"
        " CRF; the largest process's memory."
    )


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    protocol = Protocol(args.out, args.lists, args.voc12_root / "SegmentationClass", tuple(args.classes), recipe(args))
    protocol.check(args.splits)
    check_runs(args)
    with reported_unwritable(f"--out {args.out}"):
        args.out.mkdir(parents=True, exist_ok=True)
    with turn_in(args.out):
        protocol = replace(protocol, settings=check_recipe(args))
        protocol = replace(protocol, others=counts_of_others(args, protocol))
        if args.segment:
            write_lists(args)
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
    for seed in args.seeds:
        for asked in args.segment:
            if not is_there(args, asked, seed):
                print(f"\n{asked}, seed {seed}")
                segment_one(args, asked, seed)
                write_table(protocol, args.table)
    write_page(protocol, args.voc12_root / "JPEGImages", num_workers=args.num_workers)
    print(f"{len(runs)} runs are there: {args.out / 'table.md'}, figure.png, systems.html")


if __name__ == "__main__":
    run_script(main)
