"""From nothing to scored seeds in minutes, on a CPU: `make demo`.

Generates a small data set, trains HSC on image labels alone and the classifiers it is compared with, infers CAM and
CRF seeds and scores them. It runs the commands of the README and prints each; run again, it does what is missing.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tool.artifact import atomic_file
from tool.cli import UserError, add_switch, run_script

ROOT = Path(__file__).resolve().parent

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
    "cls": Run("resnet38_cls", 400, None),
    "eps": Run("resnet38_hsc", 500, None),
    "eps_seam": Run("resnet38_hsc", 500, "eps"),
    "hsc": Run("resnet38_hsc", 500, "eps"),
}
QUICK_STEPS = 4
QUICK_DATA = ["--train", "8", "--train_aug", "24", "--val", "4", "--test", "2"]
IMAGE_SIZE = 96


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Generate, train, infer and score, in minutes on a CPU.")
    parser.add_argument("--out", type=Path, help="everything goes there (exps/demo; with --quick exps/demo_quick)")
    parser.add_argument("--seed", type=int, default=0, help="of the data and of training (%(default)s)")
    add_switch(parser, "--quick", default=False, help="few images and steps, to see that all of it runs (False)")
    parser.add_argument(
        "--methods", nargs="+", choices=RUNS, default=["cls", "eps", "hsc"], help="to train and compare (cls eps hsc)"
    )
    args = parser.parse_args()
    args.out = args.out or Path("exps/demo_quick" if args.quick else "exps/demo")
    return args


def run(*command: object) -> None:
    """Run one of the project's commands and show it; the first that fails ends the demo."""
    words = [str(word) for word in command]
    print(f"\n$ python {' '.join(words)}", flush=True)
    code = subprocess.run([sys.executable, *words], cwd=ROOT).returncode
    if code != 0:
        name = words[1] if words[0] == "-m" else words[0]
        raise UserError(f"demo: {name} ended with exit code {code}; what it said stands above")


def make_data(out: Path, *, seed: int, quick: bool) -> Path:
    """Generate the data set and its lists; the VOC root."""
    data = out / "data"
    voc = data / "VOC2012"
    run("-m", "voc12.mini", "--out", data, "--seed", seed, "--size", IMAGE_SIZE, *(QUICK_DATA if quick else []))
    run("-m", "voc12.prepare", "--voc12_root", voc, "--saliency_root", voc / "saliency", "--out", data)
    return voc


def train_and_infer(method: str, voc: Path, out: Path, *, seed: int, quick: bool) -> Path:
    """Train one method on trainaug and infer its CAM and CRF seeds of train; the run's folder."""
    network, steps, start = RUNS[method]
    steps = QUICK_STEPS if quick else steps
    weights = "none" if start is None else out / start / f"{start}.pth"
    data, folder = voc.parent, out / method
    inputs = ["--data_root", voc / "JPEGImages", "--labels", data / "cls_labels.npy", *NET]
    run(
        *["train_voc.py", "--method", method, "--work_dir", out, "--seed", seed, *inputs, *RECIPE],
        *["--saliency_root", voc / "saliency", "--train_list", data / "train_aug.txt"],
        *["--max_iters", steps, "--max_epoches", max(steps // STEPS_PER_EPOCH, 1)],
        *["--weights", weights],
    )
    run(
        *["inference.py", "--network", network, "--weights", folder / f"{method}.pth", *inputs],
        *["--infer_list", data / "train.txt", "--work_dir", folder],
    )
    return folder


def score(method: str, voc: Path, folder: Path) -> dict[str, float]:
    """Score a run's seeds over the background thresholds, and its CRF seeds; the table's figures, mIoU in per cent."""
    common = ["--list", voc.parent / "train.txt", "--gt_dir", voc / "SegmentationClassAug"]
    common += ["--logfile", folder / "evallog.txt"]
    curve, crf = folder / "curve.json", folder / "crf.json"
    seeds = ["--predict_dir", folder / "cam_npy", "--type", "npy", "--curve", "--plot", folder / "curve.png"]
    run("eval.py", *common, *seeds, "--json", curve, "--comment", f"{method}: seeds")
    labels = ["--predict_dir", folder / "crf" / "crf_8_7", "--type", "png"]
    run("eval.py", *common, *labels, "--json", crf, "--comment", f"{method}: CRF seeds")
    seed_scores, crf_scores = json.loads(curve.read_text()), json.loads(crf.read_text())
    return {
        "seed": seed_scores["best_mIoU"],
        "threshold": seed_scores["best_threshold"],
        "crf": crf_scores["mIoU"],
    }


def print_files(out: Path, methods: list[str]) -> None:
    print(f"\neverything is in {out}:")
    print("  data/VOC2012   the generated images, masks and saliency maps")
    for method in methods:
        print(f"  {method + '/':<14} {method}.pth, cam_npy/, cam_png/, crf/crf_8_7/, curve.png, evallog.txt")


def main() -> None:
    args = parse_arguments()
    started = time.perf_counter()
    out = args.out.resolve()
    voc = make_data(out, seed=args.seed, quick=args.quick)
    # What a method starts from comes before it.
    methods = [name for name in RUNS if name in {*args.methods, *(RUNS[method].start for method in args.methods)}]
    rows, results = [], {}
    for method in methods:
        begin = time.perf_counter()
        folder = train_and_infer(method, voc, out, seed=args.seed, quick=args.quick)
        results[method] = score(method, voc, folder)
        results[method]["seconds"] = time.perf_counter() - begin
        rows.append(
            "{:<9} {seed:>10.1f} {threshold:>12.2f} {crf:>10.1f} {seconds:>9.0f} s".format(method, **results[method])
        )
    with atomic_file(out / "table.json") as file:
        file.write(json.dumps(results, indent=2).encode())

    print(f"\nseeds of {voc.parent / 'train.txt'}, mIoU in per cent over 21 labels\n")
    print(f"{'method':<9} {'seed mIoU':>10} {'at threshold':>12} {'with CRF':>10} {'time':>11}")
    print("\n".join(rows))
    print_files(out, methods)
    print(f"\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    run_script(main)
