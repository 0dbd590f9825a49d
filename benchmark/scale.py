"""Training by several processes on one machine: images a second against one process, one core each.

    python -m benchmark.scale --processes 2

The global batch is the same, so that the work is; each figure is the difference of a long run and a short one, which
takes the start out of it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tool.cli import UserError, cores, positive, run_script

ROOT = Path(__file__).resolve().parent.parent
BATCH = 12
SHORT = 2  # steps


def run(words: list[object], **options: object) -> None:
    subprocess.run([str(word) for word in words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL, **options)


def seconds_of(processes: int, steps: int, args: argparse.Namespace, scratch: Path) -> float:
    """Seconds of `steps` steps of HSC by so many processes, their start included."""
    voc, lists = scratch / "data" / "VOC2012", scratch / "lists"
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
    start = time.perf_counter()
    run(
        [
            *[*launcher, "train_voc.py", "--work_dir", scratch, "--session", f"by_{processes}_for_{steps}"],
            *["--weights", "none", "--width", args.width, "--data_root", voc / "JPEGImages"],
            *["--saliency_root", voc / "saliency", "--labels", lists / "cls_labels.npy"],
            *["--train_list", lists / "train_aug.txt", "--batch_size", BATCH, "--crop_size", args.crop_size],
            *["--resize_size", args.crop_size, args.crop_size, "--num_workers", 0],
            *["--max_iters", steps, "--iter_size", 1, "--device", "cpu"],
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training by several processes against one, a core each.")
    parser.add_argument("--processes", type=positive, default=2, help="(%(default)s)")
    parser.add_argument("--steps", type=positive, default=12, help="to time (%(default)s)")
    parser.add_argument("--width", type=float, default=0.25, help="channel multiplier of resnet38d (%(default)s)")
    parser.add_argument("--crop_size", type=positive, default=128, help="pixels (%(default)s)")
    args = parser.parse_args()
    if args.processes > cores() or BATCH % args.processes:
        raise UserError(f"--processes {args.processes}: expected at most {cores()}, the cores, and a part of {BATCH}")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        counts = ["--train", BATCH, "--train_aug", BATCH, "--val", 1, "--test", 1]
        run([sys.executable, "-m", "voc12.mini", "--out", scratch / "data", "--size", args.crop_size, *counts])
        voc = ["--voc12_root", scratch / "data" / "VOC2012"]
        run([sys.executable, "-m", "voc12.prepare", *voc, "--out", scratch / "lists"])
        speed = {}
        for processes in (1, args.processes):
            short, long = (seconds_of(processes, steps, args, scratch) for steps in (SHORT, SHORT + args.steps))
            speed[processes] = BATCH * args.steps / (long - short)
            print(f"{processes} process{'es' * (processes > 1)}: {speed[processes]:.2f} images/s", flush=True)
    efficiency = speed[args.processes] / speed[1] / args.processes
    print(f"efficiency {100 * efficiency:.0f} %, a batch of {BATCH} over {args.processes} processes")


if __name__ == "__main__":
    run_script(main)
