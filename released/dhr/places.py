"""What DHR's released commands have in common: where files lie below --root, and which GPUs compute."""

import argparse
from pathlib import Path

from tool.cli import script_parser

VOC, COCO = "VOC2012", "COCO2014"
BACKBONES = {"resnet50": "resnet50", "resnet101": "resnet101", "resnet152": "resnet152", "wide_resnet38": "resnet38d"}


def released_parser(script: str) -> argparse.ArgumentParser:
    """A parser of the flags that all of them have; `script` is ours, whose flags may stand beside them."""
    parser = script_parser(
        f"The released command, run by {script}, whose other flags may stand here.", allow_abbrev=False
    )
    parser.add_argument("--root", default="../", help="of <data>/<data>.json, <data>/<domain>/image (%(default)s)")
    parser.add_argument("--data", "--dataset", default=VOC, help="the data set (%(default)s)")
    return parser


def description_of(args: argparse.Namespace) -> list[str]:
    """The file that has the data set's labels, as our flag."""
    return ["--data_set", str(Path(args.root) / args.data / f"{args.data}.json")]


def domain_folder(args: argparse.Namespace) -> Path:
    """The folder of image/, mask/, xml/ and features."""
    return Path(args.root) / args.data / args.domain


def on_gpus(numbers: str | None) -> list[str]:
    """Our flags for GPUs by number, as 0 or 0,1: one by its number, of several the first ones."""
    found = (numbers or "").replace(",", " ").split()
    return (
        ["--n_gpus", str(len(found))] if len(found) > 1 else [word for n in found for word in ("--device", f"cuda:{n}")]
    )


def given(flag: str, value: object) -> list[str]:
    """A flag with its value, if it has one."""
    return [] if value is None else [flag, str(value)]
