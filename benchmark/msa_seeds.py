"""MSA's seeds of an image against the plain loop, and the sweep of thresholds against reading every file for every one.

    python -m benchmark.msa_seeds

Both ways give the same CAMs and the same mIoUs, or the command fails. Processor time on a CPU, one thread.
"""

import argparse

from tool.cli import positive, run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time MSA's seeds and its sweep of thresholds against the plain ways.")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    parser.add_argument("--size", type=positive, nargs=2, default=[375, 500], help="of the image, pixels (375 500)")
    parser.add_argument("--backbone", default="resnet50", help="of the classifier (%(default)s)")
    parser.add_argument("--images", type=positive, default=20, help="files to sweep (%(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.msa_seeds_times import seed_times, sweep_times
    from tool.device import resolve_device

    torch.set_num_threads(1)
    sweep_times(args.images)
    seed_times(tuple(args.size), args.backbone, resolve_device(args.device))


if __name__ == "__main__":
    run_script(main)
