"""DHR's unsupervised features, by the released command line.

python released/dhr/produce_uss_features.py --gpus 0 --domain train_aug --uss CAUSE --backbone ViT-G
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.dhr.places import description_of, domain_folder, on_gpus, released_parser
from released.table import run_words

SCRIPT = "rebalance/features.py"
WITH_HEAD = ("CAUSE", "STEGO")


def in_our_words(words: Sequence[str]) -> list[str]:
    """Our flags for the released command line `words`; words that are no released flag's stay, behind them."""
    parser = released_parser(SCRIPT)
    parser.add_argument("--gpus", nargs="+", help="their numbers; several from 0 on (0)")
    parser.add_argument("--domain", default="train_aug", help="the images (%(default)s)")
    parser.add_argument("--uss", default="CAUSE", help="whose features, in <data>/<domain>/<uss>/ (%(default)s)")
    parser.add_argument("--backbone", default="ViT-G", help="of CAUSE (%(default)s); STEGO has one")
    args, others = parser.parse_known_args(words)
    folder = domain_folder(args)
    return [
        *description_of(args),
        *("--img_root", str(folder / "image"), "--out_dir", str(folder / args.uss), "--uss", args.uss),
        *([] if args.uss == "STEGO" else ["--backbone", args.backbone]),
        *(["--uss_weights", f"weights/{args.uss}_{args.data}.pt"] if args.uss in WITH_HEAD else []),
        *on_gpus(" ".join(args.gpus or []), parser),
        *others,
    ]


if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(sys.argv[1:]))
