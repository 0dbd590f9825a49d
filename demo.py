"""From nothing to a segmentation net learnt from image labels, in minutes, on a CPU: `make demo`.

Generates a small data set, trains HSC on image labels alone and the classifiers it is compared with, infers CAM and
CRF seeds and scores them; then trains DeepLab on HSC's CRF seeds and, for comparison, on the true masks. It runs the
commands of the README and prints each, side by side where they do not need each other; run again, it does what is
missing.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tool.artifact import atomic_file
from tool.cli import add_switch, path_value, run_script, script_parser
from tool.command import run_python, run_side_by_side

IMAGE_SIZE = 96

# A ResNet-38 an eighth as wide, from random weights: unlike the released recipe it needs batch norm and momentum, and
# single gradients hundreds of times the usual cut off.
NET = ["--width", "0.125"]
RECIPE = [
    *["--from_scratch", "--momentum", "0.9", "--lr", "0.05", "--clip_grad", "1"],
    *["--iter_size", "1", "--batch_size", "12", "--crop_size", "96", "--resize_size", "84", "132"],
    *["--view2_size", "72", "--save_every", "100", "--resume"],
]
STEPS_PER_EPOCH = 480 // 12


class Run(NamedTuple):
    """How a method trains: its network, its steps, and the method whose weights it starts from, or none."""

    network: str
    steps: int
    start: str | None


# HSC starts from what EPS learnt, for want of ImageNet weights: from random ones its first pseudo labels are noise.
RUNS = {
    "cls": Run("resnet38_cls", 300, None),
    "eps": Run("resnet38_hsc", 300, None),
    "eps_seam": Run("resnet38_hsc", 400, "eps"),
    "hsc": Run("resnet38_hsc", 400, "eps"),
}
# DeepLab on the classifier's backbone, from its weights, for want of ImageNet's.
SEGMENTATION = {
    "MODEL_BACKBONE": "resnet38d",
    "MODEL_BACKBONE_WIDTH": 0.125,
    "MODEL_ASPP_OUTDIM": 64,
    "DATA_RANDOMCROP": IMAGE_SIZE,
    "TRAIN_BN_MOM": 0.1,
    "TRAIN_LR": 0.01,
    "TRAIN_BATCHES": 12,
    "TRAIN_ITERATION": 300,
}
QUICK_STEPS = 4
EXAMPLES = """\
  # in earnest: minutes
  python demo.py
  # see that all of it runs
  python demo.py --quick
  # every method on another data set
  python demo.py --methods cls eps eps_seam hsc --seed 1 --out exps/demo_1
"""
QUICK_DATA = ["--train", "8", "--train_aug", "24", "--val", "4", "--test", "2"]


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Generate, train, infer and score, in minutes on a CPU.", examples=EXAMPLES)
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=path_value, help="everything goes there (exps/demo; with --quick exps/demo_quick)")
    run.add_argument("--seed", type=int, default=0, help="of the data and of training (%(default)s)")
    add_switch(run, "--quick", default=False, help="few images and steps, to see that all of it runs (False)")
    run.add_argument(
        "--methods", nargs="+", choices=RUNS, default=["cls", "eps", "hsc"], help="to train and compare (cls eps hsc)"
    )
    args = parser.parse_args()
    args.out = args.out or Path("exps/demo_quick" if args.quick else "exps/demo")
    return args


def make_data(out: Path, *, seed: int, quick: bool) -> Path:
    """Generate the data set and its lists; the VOC root."""
    data = out / "data"
    voc = data / "VOC2012"
    run_python("-m", "voc12.mini", "--out", data, "--seed", seed, "--size", IMAGE_SIZE, *(QUICK_DATA if quick else []))
    run_python("-m", "voc12.prepare", "--voc12_root", voc, "--saliency_root", voc / "saliency", "--out", data)
    return voc


def train_and_score(
    method: str, voc: Path, out: Path, results: dict[str, dict], *, seed: int, quick: bool
) -> Iterator[Sequence[object]]:
    """The commands that train one method on trainaug, infer its CAM and CRF seeds of the train list and score them over
    the background thresholds; then its row of the table is in `results`, mIoU in per cent."""
    begin = time.perf_counter()
    run = RUNS[method]
    steps = QUICK_STEPS if quick else run.steps
    data, folder = voc.parent, out / method
    yield [
        *["train_voc.py", "--method", method, "--work_dir", out, "--seed", seed, *inputs(voc), *RECIPE],
        *["--saliency_root", voc / "saliency", "--train_list", data / "train_aug.txt"],
        *["--max_iters", steps, "--max_epoches", max(steps // STEPS_PER_EPOCH, 1)],
        *["--weights", "none" if run.start is None else out / run.start / f"{run.start}.pth"],
    ]
    yield inference(method, voc, out, "train")
    common = ["--list", data / "train.txt", "--gt_dir", voc / "SegmentationClassAug"]
    common += ["--logfile", folder / "evallog.txt"]
    curve, crf = folder / "curve.json", folder / "crf.json"
    seeds = ["--predict_dir", folder / "cam_npy", "--type", "npy", "--curve", "--plot", folder / "curve.png"]
    yield ["eval.py", *common, *seeds, "--json", curve, "--comment", f"{method}: seeds"]
    labels = ["--predict_dir", folder / "crf" / "crf_8_7", "--type", "png"]
    yield ["eval.py", *common, *labels, "--json", crf, "--comment", f"{method}: CRF seeds"]
    seed_scores, crf_scores = json.loads(curve.read_text()), json.loads(crf.read_text())
    results[method] = {
        "steps": steps,
        "seed": seed_scores["best_mIoU"],
        "threshold": seed_scores["best_threshold"],
        "crf": crf_scores["mIoU"],
        "seconds": time.perf_counter() - begin,
    }


def inputs(voc: Path) -> list[object]:
    """What training and inference read, and their net."""
    return ["--data_root", voc / "JPEGImages", "--labels", voc.parent / "cls_labels.npy", *NET]


def inference(method: str, voc: Path, out: Path, name: str) -> list[object]:
    """The command that infers the list `name`, but for images that are done."""
    weights = out / method / f"{method}.pth"
    return [
        *["inference.py", "--network", RUNS[method].network, "--weights", weights, *inputs(voc)],
        *["--infer_list", voc.parent / f"{name}.txt", "--work_dir", out / method],
    ]


def segment(
    name: str, labels: Path, voc: Path, weights: Path, results: dict[str, float], *, seed: int, quick: bool
) -> Iterator[Sequence[object]]:
    """The commands that train DeepLab, from a classifier's weights, on the label maps in `labels`, and test it; then
    its mIoU on val is in `results`, in per cent."""
    out, steps = weights.parent.parent, QUICK_STEPS if quick else SEGMENTATION["TRAIN_ITERATION"]
    run = f"deeplab_{name}"
    common = {**SEGMENTATION, "EXP_NAME": run, "EXP_ROOT": out, "DATA_ROOT": voc, "DATA_LISTS": voc.parent}
    training = {
        **common,
        "DATA_PSEUDO_GT": labels,
        "MODEL_BACKBONE_WEIGHTS": weights,
        "TRAIN_ITERATION": steps,
        "TRAIN_SEED": seed,
    }
    testing = {**common, "TEST_CKPT": out / run / f"deeplabv2_resnet38d_VOCDataset_itr{steps}_all.pth"}
    for script, keys, flags in (("train", training, ["--resume"]), ("test", testing, [])):
        yield [f"segmentation/experiment/{script}.py", "--set", *(f"{key}={keys[key]}" for key in keys), *flags]
    results[name] = json.loads((out / run / "results" / "val_score.json").read_text())["mIoU"]


def compare_segmentation(method: str, voc: Path, out: Path, *, seed: int, quick: bool) -> dict[str, float]:
    """Train DeepLab on the method's CRF seeds of trainaug and on the true masks: both nets' mIoU on val."""
    results: dict[str, float] = {}
    weights = out / method / f"{method}.pth"

    def on(name: str, labels: Path) -> Iterator[Sequence[object]]:
        return segment(name, labels, voc, weights, results, seed=seed, quick=quick)

    seeds = chain([inference(method, voc, out, "train_aug")], on("seeds", out / method / "crf" / "crf_8_7"))
    run_side_by_side({"seeds": seeds, "masks": on("masks", voc / "SegmentationClassAug")})
    return results


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
    voc = make_data(out, seed=args.seed, quick=args.quick)
    # What a method starts from comes before it.
    methods = [name for name in RUNS if name in {*args.methods, *(RUNS[method].start for method in args.methods)}]
    best = methods[-1]
    results: dict[str, dict] = {}
    # What others start from comes first; cls and eps side by side, HSC with all cores.
    for together in ([name for name in methods if (RUNS[name].start is None) is first] for first in (True, False)):
        if together:
            run_side_by_side(
                {name: train_and_score(name, voc, out, results, seed=args.seed, quick=args.quick) for name in together}
            )
    results = {name: results[name] for name in methods}
    print_seeds(voc, results)
    print(f"\n{time.perf_counter() - started:.0f} s until here")
    segmentation = compare_segmentation(best, voc, out, seed=args.seed, quick=args.quick)
    with atomic_file(out / "table.json") as file:
        file.write(json.dumps({"seeds": results, "segmentation": segmentation}, indent=2).encode())
    print_seeds(voc, results)
    print_segmentation(voc, best, segmentation)
    print_files(out, methods)
    if args.quick:
        print("\nThe figures of a few steps mean nothing: python demo.py trains in earnest.")
    print(f"\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    run_script(main)
