"""Superpixels: pool and up against the plain nine-fold way, the network's time for an image; and, with weights and
masks, how well its superpixels keep to them beside SLIC's and a grid's.

    python -m benchmark.superpixel
    python -m benchmark.superpixel --weights exps/scn/scn.pth --img_root VOC2012/JPEGImages \\
        --list voc12/train.txt --gt_dir VOC2012/SegmentationClass

The fast ways give what the plain ones give, with their gradients, or the command fails. The table needs scikit-image.
"""

import argparse
from pathlib import Path

from data.descriptions import add_data_set_flag, find_data_set
from tool.cli import UserError, path_text, positive, require_folder, run_script
from tool.lists import Source, find_images, find_masks, read_ids
from tool.weights_file import require_weights


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time superpixels' operators and network; score its superpixels.")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    parser.add_argument("--size", type=positive, nargs=2, default=[375, 500], help="of the image, pixels (375 500)")
    parser.add_argument("--crop_size", type=positive, default=208, help="of the operators' maps, pixels (%(default)s)")
    parser.add_argument("--batch_size", type=positive, default=4, help="images of the operators (%(default)s)")
    parser.add_argument("--weights", type=path_text, help="a superpixel network's: score it instead, on masks")
    parser.add_argument("--img_root", type=path_text, help="folder of <id>.jpg")
    parser.add_argument("--list", type=path_text, default="voc12/train.txt", help="ids to score (%(default)s)")
    parser.add_argument("--gt_dir", type=path_text, help="folder of masks, <id>.png")
    add_data_set_flag(parser)
    return parser.parse_args()


def read_data(args: argparse.Namespace) -> tuple[dict[str, Path], dict[str, Path]]:
    """The images and masks to score on, by id."""
    if args.img_root is None or args.gt_dir is None:
        raise UserError("--weights: expected --img_root and --gt_dir, the images and masks to score on")
    require_weights(args.weights, "--weights")
    data_set, source = find_data_set(args.data_set), Source("--list", args.list)
    ids = read_ids(args.list, "--list")
    images, masks = (
        find(ids, require_folder(root, flag, what), data_set, flag=flag, source=source)
        for find, root, flag, what in (
            (find_images, args.img_root, "--img_root", "<id>.jpg"),
            (find_masks, args.gt_dir, "--gt_dir", "<id>.png"),
        )
    )
    return images, masks


def main() -> None:
    args = parse_arguments()
    if args.crop_size % 16:
        raise UserError(f"--crop_size {args.crop_size}: expected a multiple of 16")
    data = read_data(args) if args.weights is not None else None
    # Not at the top: they import torch, which takes seconds.
    import torch

    from tool.device import resolve_device

    torch.set_num_threads(1)
    device = resolve_device(args.device)
    if data is not None:
        from benchmark.superpixel_table import print_table

        print_table(*data, weights=Path(args.weights), data_set=find_data_set(args.data_set), device=device)
        return
    from benchmark.superpixel_times import network_time, operator_times

    operator_times(args.batch_size, args.crop_size, device)
    network_time(tuple(args.size), device)


if __name__ == "__main__":
    run_script(main)
