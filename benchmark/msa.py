"""MSA's classifier: affinity propagation by products, by squarings and as released, and what a step computes beside its
convolutions against the plain way.

    python -m benchmark.msa

All give what the plain way gives, with gradients, or the command fails.
"""

import argparse

from tool.cli import positive, run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time MSA's propagation and a step's terms against the plain way.")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    parser.add_argument("--batch_size", type=positive, default=2, help="images (%(default)s)")
    parser.add_argument("--grid", type=positive, default=30, help="cells of a map's side, 480 / 16 (%(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.msa_times import propagation_times, step_times
    from tool.device import resolve_device

    torch.set_num_threads(1)
    device = resolve_device(args.device)
    for num_labels in (21, 81):
        for side in (6, 12, args.grid):
            propagation_times(args.batch_size, side, num_labels, device)
    step_times(args.batch_size, args.grid, device)


if __name__ == "__main__":
    run_script(main)
