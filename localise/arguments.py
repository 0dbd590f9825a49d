"""The flags that training and test share, and what tells their data from others."""

import argparse
import hashlib

from data.cub import Cub
from tool.cli import check_bounds, path_text, positive
from tool.training_flags import add_device_flags, add_sane_flag

SANE = ("half",)
DATA_HASH = "the images, classes and boxes of --cub_root (sha256)"
SIDE = 224  # pixels, of the nets' input
AMP = ("off", "bf16")


def add_test_flags(parser: argparse.ArgumentParser, *, batch_flag: str) -> argparse._ArgumentGroup:
    """What is tested, and how: data, device, boxes; the group of the data's."""
    data = parser.add_argument_group("data")
    data.add_argument("--cub_root", type=path_text, required=True, help="CUB_200_2011, with images.txt in it")
    data.add_argument("--num_workers", type=int, default=8, help="loader processes (%(default)s)")

    test = parser.add_argument_group("test")
    test.add_argument(
        "--cam_thr", type=float, default=0.1, help="of a map for its box, share of its maximum (%(default)s)"
    )
    test.add_argument(batch_flag, type=positive, default=64, help="images tested at once (%(default)s)")
    add_sane_flag(test, SANE)
    add_device_flags(test, amp=AMP)
    return data


def add_net_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The transformer, which training and test have in common; the group that it is in."""
    nets = parser.add_argument_group("nets")
    nets.add_argument(
        "--transformer",
        default="deit_small_patch16_224",
        metavar="NAME",
        help="a plain ViT of timm with patches of 16 pixels (%(default)s)",
    )
    return nets


def check_test_flags(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags of `add_test_flags` that are wrong."""
    check_bounds(args, {"cam_thr": (0, 1), "num_workers": (0, 4096)})


def hash_of_data(cub: Cub) -> str:
    """The SHA-256 of the ids, classes and boxes of the images, wherever these lie."""
    lines = [
        f"{image_id} {label} {box}"
        for part in (cub.train, cub.test)
        for image_id, label, box in zip(part.ids, part.labels, part.boxes, strict=True)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
