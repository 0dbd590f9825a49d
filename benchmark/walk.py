"""AffinityNet's and IRN's walks against the squarings of a full matrix, a step's pair loss against a loop over the
offsets, and IRN's affinities against copies of all paths.

    python -m benchmark.walk

AffinityNet's walk is that of an image of 500 x 375 with two classes. IRN's is of one of 250 x 188, since its cells are
half as large: of 500 x 375 the full matrix has 552 MB, and its squarings take 60 times as long. The loss is that of a
batch of training at crop 448, from the net's features and back to them; IRN's affinities those of as many crops of 512.
All give what the plain way gives, or the command fails.
"""

import argparse

from tool.cli import positive, run_script

IRN_CROP = 512


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time stage 2's walk and pairs against the plain way.")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    parser.add_argument("--size", type=positive, nargs=2, default=[375, 500], help="of the image, pixels (375 500)")
    parser.add_argument("--irn_size", type=positive, nargs=2, default=[188, 250], help="of IRN's walk (188 250)")
    parser.add_argument("--batch_size", type=positive, default=2, help="images of the loss (%(default)s)")
    parser.add_argument("--crop_size", type=positive, default=448, help="of the loss, pixels (%(default)s)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.walk_times import irn_walk_times, pair_loss_times, path_times, walk_times
    from tool.device import resolve_device

    torch.set_num_threads(1)
    device = resolve_device(args.device)
    walk_times(tuple(args.size), device)
    irn_walk_times(tuple(args.irn_size), device)
    pair_loss_times(args.batch_size, args.crop_size, device)
    path_times(args.batch_size, IRN_CROP, device)


if __name__ == "__main__":
    run_script(main)
