"""DHR's label maps, by the released command line.

python released/dhr/produce_wss_masks.py --gpus 0 --domain validation --tag "ResNet-101@VOC2012@DeepLabv3+@DHR"
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.dhr.places import BACKBONES, description_of, domain_folder, given, on_gpus, released_parser
from released.table import run_words
from tool.cli import add_switch

SCRIPT = "rebalance/masks.py"


def in_our_words(words: Sequence[str]) -> list[str]:
    """Our flags for the released command line `words`; words that are no released flag's stay, behind them."""
    parser = released_parser(SCRIPT)
    parser.add_argument("--gpus", help="their numbers; several from 0 on (0)")
    parser.add_argument("--cpus", help="--crf_workers")
    parser.add_argument("--domain", default="train_aug", help="the images (%(default)s)")
    parser.add_argument("--backbone", default="resnet101", help="wide_resnet38: resnet38d (%(default)s)")
    parser.add_argument("--decoder", default="deeplabv3+", choices=["deeplabv3+"], help="the only one (%(default)s)")
    parser.add_argument("--tag", default="ResNet-101@VOC2012@DeepLabv3+@DHR", help="of the weights (%(default)s)")
    parser.add_argument("--checkpoint", default="last", help="experiments/models/<tag>/<checkpoint>.pth (%(default)s)")
    parser.add_argument("--threshold", default="0.05", help="--threshold (%(default)s)")
    parser.add_argument("--ot", action="store_true", help="decides nothing, as in the release")
    add_switch(parser, "--all_images", default=False, help="images without tags too (%(default)s)")
    args, others = parser.parse_known_args(words)
    folder, experiments = domain_folder(args), Path("experiments")
    weights = experiments / "models" / args.tag / f"{args.checkpoint}.pth"
    out = experiments / "results" / args.data / f"{args.tag}@{args.checkpoint}" / args.domain
    tags = folder / "xml"
    return [
        *description_of(args),
        *("--img_root", str(folder / "image"), "--weights", str(weights), "--out_dir", str(out)),
        *("--backbone", BACKBONES.get(args.backbone, args.backbone), "--threshold", args.threshold),
        *(["--xml_dir", str(tags)] if tags.is_dir() and not args.all_images else []),
        *on_gpus(args.gpus, parser),
        *given("--crf_workers", args.cpus),
        *others,
    ]


if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(sys.argv[1:]))
