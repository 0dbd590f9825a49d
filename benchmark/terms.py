"""HSC's terms in a training step: their share of it, and their speed against plain loops.

    python -m benchmark.terms
    python -m benchmark.terms --device cuda --width 1 --crop_size 448 --amp bf16 --steps 10

The share: a step of the ResNet-38 against rsc, csc and psc alone, pseudo labels and CRF included, forward and backward,
on the same outputs of the net. The plain loops are those of benchmark/plain.py, on a small grid.
"""

import argparse

from tool.cli import positive, run_script
from tool.flags import AMP


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time HSC's terms against a step and against plain loops.")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    parser.add_argument("--width", type=float, default=0.25, help="channel multiplier of resnet38d (%(default)s)")
    parser.add_argument("--crop_size", type=positive, default=224, help="pixels (%(default)s)")
    parser.add_argument("--batch_size", type=positive, default=12, help="images (%(default)s)")
    parser.add_argument("--amp", choices=AMP, default="off", help="as of train_voc.py (%(default)s)")
    parser.add_argument("--steps", type=positive, default=2, help="steps to time, after one to warm up (%(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.term_times import against_plain_loops, share_of_a_step
    from tool.device import resolve_device

    torch.manual_seed(0)
    share_of_a_step(args, resolve_device(args.device))
    against_plain_loops()


if __name__ == "__main__":
    run_script(main)
