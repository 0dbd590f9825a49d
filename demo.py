"""From nothing to a segmentation net learnt from image labels, in minutes, on a CPU: `make demo`.

Runs the stages of `python run.py NAME --mini` for several recipes, side by side where they do not need each other: the
data is generated once, each method is trained, its seeds are inferred and scored; then DeepLab is trained on the last
method's CRF seeds and, to compare, on the true masks. Run again, it does what is missing.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes import cls, eps, eps_seam, hsc, mini
from tool.artifact import write_json
from tool.cli import add_switch, path_value, run_script, script_parser
from tool.recipe import Setup, SideBySide, Stage
from tool.run_recipe import Record, run_stages

# In the order of the table; hsc and eps_seam start from what eps learnt.
RECIPES = {"cls": cls, "eps": eps, "eps_seam": eps_seam, "hsc": hsc}
START = {"eps_seam": "eps", "hsc": "eps"}
SEEDS = ("train", "infer", "eval", "eval_crf")  # the stages up to the seeds' scores
QUICK_STEPS = 2
QUICK = {
    **{("data", name): number for name, number in {"train": 8, "train_aug": 24, "val": 4, "test": 2}.items()},
    **{("train", flag): number for flag, number in mini.length(QUICK_STEPS).items()},
    ("deeplab", "TRAIN_ITERATION"): QUICK_STEPS,
}
EXAMPLES = """\
  # in earnest: minutes
  python demo.py
  # see that all of it runs
  python demo.py --quick
  # every method on another data set
  python demo.py --methods cls eps eps_seam hsc --seed 1 --out exps/demo_1
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Generate, train, infer and score, in minutes on a CPU.", examples=EXAMPLES)
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=path_value, help="everything goes there (exps/demo; with --quick exps/demo_quick)")
    run.add_argument("--seed", type=int, default=0, help="random seed of the data and of training (%(default)s)")
    add_switch(run, "--quick", default=False, help="few images and steps, to see that all of it runs (False)")
    run.add_argument(
        "--methods",
        nargs="+",
        choices=RECIPES,
        default=["cls", "eps", "hsc"],
        help="to compare (cls eps hsc)",
    )
    args = parser.parse_args()
    args.out = args.out or Path("exps/demo_quick" if args.quick else "exps/demo")
    return args


def stages_of(method: str, out: Path, changes: dict[tuple[str, str], Any]) -> dict[str, Stage]:
    """The stages of a method's recipe at `--mini`, by name, with `changes` of their flags."""
    voc = out / "data" / "VOC2012"
    setup = Setup(out, voc, voc / "saliency", mini=True, changes=changes)
    return {stage.name: stage for stage in RECIPES[method].stages(setup)}


def deeplab(method: str, out: Path, name: str, changes: dict[tuple[str, str], Any]) -> list[Stage]:
    """DeepLab as the method's recipe trains and tests it, with its files in OUT/deeplab_<name>."""
    stages = stages_of(method, out, {**changes, ("deeplab", "EXP_NAME"): f"deeplab_{name}"})
    return [stages[stage]._replace(name=f"{name}_{stage}") for stage in ("deeplab", "test")]


def plan(methods: Sequence[str], out: Path, *, seed: int, quick: bool) -> tuple[list, list]:
    """The steps up to the seeds' scores; then DeepLab on the last method's seeds and on the masks, and a report."""
    changes = {("data", "seed"): seed, ("train", "seed"): seed, ("deeplab", "TRAIN_SEED"): seed}
    changes |= QUICK if quick else {}
    of_method = {method: stages_of(method, out, changes) for method in methods}
    chains = {
        method: [stages[name]._replace(name=f"{method}_{name}") for name in SEEDS]
        for method, stages in of_method.items()
    }
    best = methods[-1]
    first = of_method[best]
    # What others start from comes first; cls and eps side by side, HSC with all cores.
    waves = [{name: chain for name, chain in chains.items() if (name in START) is late} for late in (False, True)]
    seeds = [first["data"], first["prepare"], *(SideBySide(wave) for wave in waves if wave)]
    masks = {("deeplab", "DATA_PSEUDO_GT"): out / "data" / "VOC2012" / "SegmentationClassAug"}
    segmentation = SideBySide({
        "seeds": [first["infer_aug"], *deeplab(best, out, "seeds", changes)],
        "masks": deeplab(best, out, "masks", {**changes, **masks}),
    })  # fmt: skip
    return seeds, [segmentation, first["report"]]


def read_seeds(methods: Sequence[str], out: Path, record: Record, *, quick: bool) -> dict[str, dict]:
    """A row of the table for each method: steps, mIoU in per cent, and the seconds of its stages."""
    rows = {}
    for method in methods:
        curve, crf = (json.loads((out / method / name).read_text()) for name in ("curve.json", "crf.json"))
        rows[method] = {
            "steps": stages_of(method, out, QUICK if quick else {})["train"].flags["max_iters"],
            "seed": curve["best_mIoU"],
            "threshold": curve["best_threshold"],
            "crf": crf["mIoU"],
            "seconds": sum(record.seconds(f"{method}_{stage}") for stage in SEEDS),
        }
    return rows


def print_seeds(voc: Path, results: dict[str, dict]) -> None:
    print(f"\nseeds of {voc.parent / 'train.txt'}, mIoU in per cent over 21 labels\n")
    print(f"{'method':<9} {'steps':>6} {'seed mIoU':>10} {'at threshold':>12} {'with CRF':>10} {'time':>11}")
    row = "{:<9} {steps:>6} {seed:>10.1f} {threshold:>12.2f} {crf:>10.1f} {seconds:>9.0f} s"
    print("\n".join(row.format(method, **results[method]) for method in results), flush=True)


def print_segmentation(voc: Path, method: str, results: dict[str, float]) -> None:
    seeds, masks = results["seeds"], results["masks"]
    print(f"\nDeepLab on {voc.parent / 'val.txt'}, mIoU in per cent over 21 labels\n")
    print(f"{'trained on ' + method + ' CRF seeds':<26} {seeds:>6.1f}")
    print(f"{'trained on the true masks':<26} {masks:>6.1f}")
    print(f"{'share of full supervision':<26} {100 * seeds / masks if masks else 0:>6.1f} %")


def print_files(out: Path, methods: list[str]) -> None:
    print(f"\neverything is in {out}:")
    print("  data/VOC2012   the generated images, masks and saliency maps")
    for method in methods:
        print(f"  {method + '/':<14} {method}.pth, cam_npy/, cam_png/, crf/crf_8_7/, curve.png, evallog.txt")
    for name in ("deeplab_seeds/", "deeplab_masks/"):
        print(f"  {name:<14} the net's weights, results/")


def main() -> None:
    args = parse_arguments()
    started = time.perf_counter()
    out = args.out.resolve()
    wanted = {*args.methods, *(START[method] for method in args.methods if method in START)}
    methods = [name for name in RECIPES if name in wanted]
    best, voc = methods[-1], out / "data" / "VOC2012"
    seeds, segmentation = plan(methods, out, seed=args.seed, quick=args.quick)
    rows = read_seeds(methods, out, run_stages(seeds, out, then=segmentation), quick=args.quick)
    print_seeds(voc, rows)
    print(f"\n{time.perf_counter() - started:.0f} s until here")
    run_stages(segmentation, out, before=seeds)
    scores = {
        name: json.loads((out / f"deeplab_{name}" / "results" / "val_score.json").read_text())["mIoU"]
        for name in ("seeds", "masks")
    }
    write_json(out / "table.json", {"seeds": rows, "segmentation": scores})
    print_seeds(voc, rows)
    print_segmentation(voc, best, scores)
    print_files(out, methods)
    if args.quick:
        print("\nThe figures of a few steps mean nothing: python demo.py trains in earnest.")
    print(f"\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    run_script(main)
