"""DHR's training, by the released command line; the net goes to experiments/models/<tag>/last.pth.

python released/dhr/train.py --gpus 0 --root ../ --data VOC2012 --wss MARS --uss CAUSE --tag "ResNet-101@VOC2012@DHR"
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.dhr.places import BACKBONES, description_of, domain_folder, given, released_parser
from released.table import run_words

SCRIPT = "rebalance/train.py"
SAME = {
    "--seed": "1",
    "--tau": "0.8",
    "--lr": "1e-3",
    "--momentum": "0.9",
    "--ema": "0.999",
    "--min_image": "320",
    "--max_image": "640",
    "--b_factor": "0.3",
    "--c_factor": "0.3",
    "--s_factor": "0.3",
    "--h_factor": "0.1",
}
RENAMED = {
    "--cpus": ("--num_workers", "8"),
    "--image": ("--crop_size", "512"),
    "--batch": ("--batch_size", "16"),
    "--epochs": ("--max_epoches", "100"),
    "--wd": ("--wt_dec", "4e-5"),
}
WITHOUT_EFFECT = ("--valid", "--valid_domain", "--train_transform", "--test_transform")


def in_our_words(words: Sequence[str]) -> list[str]:
    """Our flags for the released command line `words`; words that are no released flag's stay, behind them."""
    parser = released_parser(SCRIPT)
    parser.add_argument("--gpus", help="its number (0); for several: torchrun")
    parser.add_argument(
        "--train", "--train_domain", dest="domain", default="train_aug", help="the images (%(default)s)"
    )
    parser.add_argument("--backbone", default="resnet101", help="wide_resnet38: resnet38d (%(default)s)")
    parser.add_argument("--decoder", default="deeplabv3+", choices=["deeplabv3+"], help="the only one (%(default)s)")
    parser.add_argument("--wss", default="MARS", help="masks: <root>/WSS/<data>/<wss>/<domain> (%(default)s)")
    parser.add_argument("--uss", default="CAUSE", help="features: <root>/<data>/<domain>/<uss> (%(default)s)")
    parser.add_argument("--tag", default="ResNet-101@VOC2012@DeepLabv3+@DHR", help="--session (%(default)s)")
    parser.add_argument("--optimizer", default="SGD", choices=["SGD"], help="the only one (%(default)s)")
    parser.add_argument("--scheduler", default="PolyLR", choices=["PolyLR"], help="the only one (%(default)s)")
    for flag, default in SAME.items():
        parser.add_argument(flag, default=default, help=f"{flag} ({default})")
    for flag, (ours, default) in RENAMED.items():
        parser.add_argument(flag, default=default, help=f"{ours} ({default})")
    for flag in WITHOUT_EFFECT:
        parser.add_argument(flag, help="decides nothing here")
    parser.add_argument("--weights", default="pretrained", help="of the backbone, ImageNet's (%(default)s)")
    args, others = parser.parse_known_args(words)
    if args.gpus is not None and not args.gpus.isdecimal():
        parser.error(f"--gpus {args.gpus}: expected one number; leave it out and start several by torchrun")
    folder = domain_folder(args)
    masks = Path(args.root) / "WSS" / args.data / args.wss / args.domain
    own = {flag: flag for flag in SAME} | {flag: ours for flag, (ours, _) in RENAMED.items()}
    return [
        *description_of(args),
        *("--data_root", str(folder / "image"), "--xml_dir", str(folder / "xml")),
        *("--wss_masks", str(masks), "--uss_features", str(folder / args.uss)),
        *("--work_dir", "experiments/models", "--session", args.tag, "--weights", args.weights),
        *("--backbone", BACKBONES.get(args.backbone, args.backbone)),
        *(word for flag, ours in own.items() for word in (ours, getattr(args, flag.removeprefix("--")))),
        *given("--device", args.gpus and f"cuda:{args.gpus}"),
        *others,
    ]


if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(sys.argv[1:]))
