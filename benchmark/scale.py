"""Training by several processes on one machine: images a second against one process, one core each.

    python -m benchmark.scale --processes 2

The global batch is the same, so that the work is; each figure is the difference of a long run and a short one, which
takes the start out of it.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmark.generated import Generated, generate, run
from tool.cli import UserError, cores, positive, run_script

BATCH = 12
SHORT = 2  # steps


def seconds_of(processes: int, steps: int, args: argparse.Namespace, data: Generated, out: Path) -> float:
    """Seconds of `steps` steps of HSC by so many processes, their start included."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes] if processes > 1 else []
    start = time.perf_counter()
    run(
        *[*launcher, "train_voc.py", "--work_dir", out, "--session", f"by_{processes}_for_{steps}"],
        *["--weights", "none", "--width", args.width, "--data_root", data.images, "--saliency_root", data.saliency],
        *["--labels", data.labels, "--train_list", data.train_aug, "--batch_size", BATCH],
        *["--crop_size", args.crop_size, "--resize_size", args.crop_size, args.crop_size, "--num_workers", 0],
        *["--max_iters", steps, "--iter_size", 1, "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
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
        data = generate(scratch, size=args.crop_size, train=BATCH, train_aug=BATCH)
        speed = {}
        for processes in (1, args.processes):
            short, long = (seconds_of(processes, steps, args, data, scratch) for steps in (SHORT, SHORT + args.steps))
            speed[processes] = BATCH * args.steps / (long - short)
            print(f"{processes} process{'es' * (processes > 1)}: {speed[processes]:.2f} images/s", flush=True)
    efficiency = speed[args.processes] / speed[1] / args.processes
    print(f"efficiency {100 * efficiency:.0f} %, a batch of {BATCH} over {args.processes} processes")


if __name__ == "__main__":
    run_script(main)
