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

from tool.cli import UserError, run_script

ROOT = Path(__file__).resolve().parent

# A ResNet-38 an eighth as wide, from random weights: it needs batch norm and momentum, unlike the released recipe.
NET = ["--width", "0.125"]
RECIPE = [
    *["--weights", "none", "--from_scratch", "--momentum", "0.9", "--lr", "0.02", "--iter_size", "1"],
    *["--batch_size", "12", "--crop_size", "128", "--resize_size", "112", "176", "--view2_size", "64"],
    *["--save_every", "100"],
]
# method -> (network, steps); the epochs over which the rate decays follow from the steps.
RUNS = {"cls": ("resnet38_cls", 400), "eps": ("resnet38_hsc", 400), "hsc": ("resnet38_hsc", 500)}
TRAIN_IMAGES = 480


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Generate, train, infer and score, in minutes on a CPU.")
    parser.add_argument("--out", type=Path, default=Path("exps/demo"), help="everything goes there (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the data and of training (%(default)s)")
    parser.add_argument("--methods", nargs="+", choices=[*RUNS, "eps_seam"], default=list(RUNS), help="to compare")
    return parser.parse_args()


def run(*command: object) -> None:
    """Run one of the project's commands and show it; the first that fails ends the demo with its exit code."""
    words = [str(word) for word in command]
    print(f"\n$ python {' '.join(words)}", flush=True)
    code = subprocess.run([sys.executable, *words], cwd=ROOT).returncode
    if code != 0:
        raise UserError(f"demo: {words[0]} ended with exit code {code}; what it said stands above")


def make_data(out: Path, seed: int) -> Path:
    """Generate the data set and its lists; the VOC root."""
    voc = out / "data" / "VOC2012"
    run("-m", "voc12.mini", "--out", out / "data", "--seed", seed)
    run("-m", "voc12.prepare", "--voc12_root", voc, "--saliency_root", voc / "saliency", "--out", out / "data")
    return voc
