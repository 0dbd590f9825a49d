"""One image's seeds by CRT's transformer, windows together, against the plain loop: a window, a mirror and a scale at a
time, whole attention matrices kept.

    python -m benchmark.crt

Both give the same CAMs, or the command fails. Processor time on a CPU, one thread.
"""

import argparse

from tool.cli import positive, run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time an image's seeds by CRT's transformer against the plain loop.")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    parser.add_argument("--size", type=positive, nargs=2, default=[375, 500], help="of the image, pixels (375 500)")
    parser.add_argument("--transformer", default="deit_small_patch16_224", help="of timm (%(default)s)")
    parser.add_argument("--times", type=positive, default=3, help="of which the least counts (%(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.crt_times import seed_times
    from tool.device import resolve_device

    torch.set_num_threads(1)
    seed_times(tuple(args.size), args.transformer, args.times, resolve_device(args.device))


if __name__ == "__main__":
    run_script(main)
