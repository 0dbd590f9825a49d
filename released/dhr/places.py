"""What DHR's released commands have in common: where files lie below --root, and which GPUs compute."""

import argparse
from pathlib import Path

from tool.cli import path_text, script_parser

VOC, COCO = "VOC2012", "COCO2014"
BACKBONES = {"resnet50": "resnet50", "resnet101": "resnet101", "resnet152": "resnet152", "wide_resnet38": "resnet38d"}


def released_parser(script: str) -> argparse.ArgumentParser:
    """A parser of the flags that all of them have; `script` is ours, whose flags may stand beside them."""
    parser = script_parser(f"The released command, run by {script}, whose other flags may stand here.")
    parser.add_argument(
        "--root", type=path_text, default="../", help="of <data>/<data>.json, <data>/<domain>/image (%(default)s)"
    )
    parser.add_argument("--data", "--dataset", default=VOC, help="the data set (%(default)s)")
    return parser


def description_of(args: argparse.Namespace) -> list[str]:
    """The file that has the data set's labels, as our flag."""
    return ["--data_set", str(Path(args.root) / args.data / f"{args.data}.json")]


def domain_folder(args: argparse.Namespace) -> Path:
    """The folder of image/, mask/, xml/ and features."""
    return Path(args.root) / args.data / args.domain


def on_gpus(numbers: str | None, parser: argparse.ArgumentParser) -> list[str]:
    """Our flags for GPUs by number, as 0 or 0,1: one by its number, of several the first ones.

    Ends with one line and 2 where several are others than these, since our --n_gpus counts from 0.
    """
    found = (numbers or "").replace(",", " ").split()
    if len(found) < 2:
        return [word for number in found for word in ("--device", f"cuda:{number}")]
    first = [str(number) for number in range(len(found))]
    if sorted(found, key=lambda number: (len(number), number)) != first:
        said, meant = ",".join(found), ",".join(first)
        parser.error(f"--gpus {said}: several start at 0 here; set CUDA_VISIBLE_DEVICES={said} and --gpus {meant}")
    return ["--n_gpus", str(len(found))]


def given(flag: str, value: object) -> list[str]:
    """A flag with its value, if it has one."""
    return [] if value is None else [flag, str(value)]
