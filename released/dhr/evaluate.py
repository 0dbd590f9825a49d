"""DHR's scores, by the released command line: mIoU, mFPR, mFNR.

python released/dhr/evaluate.py --root ../ --data VOC2012 --pred ./results/ --tag ResNet-101@DHR@last
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.dhr.places import COCO, VOC, description_of, given, released_parser
from released.table import run_words
from tool.cli import path_text

SCRIPT = "rebalance/evaluate.py"


def in_our_words(words: Sequence[str]) -> list[str]:
    """Our flags for the released command line `words`; words that are no released flag's stay, behind them."""
    parser = released_parser(SCRIPT)
    parser.add_argument("--domain", default="validation", help="the images; VOC2012's train: train_aug (%(default)s)")
    parser.add_argument(
        "--pred", type=path_text, default="./results/", help="of <data>/<tag>/<domain>/, label maps (%(default)s)"
    )
    parser.add_argument("--gt", type=path_text, default="../", help="of <data>/<domain>/mask/ (%(default)s)")
    parser.add_argument("--tag", default="DHR", help="of the label maps (%(default)s)")
    parser.add_argument("--fix", action="store_true", help="--pred and --gt are the folders themselves")
    parser.add_argument("--cpus", help="--num_workers")
    args, others = parser.parse_known_args(words)
    domain = "train_aug" if (args.data, args.domain) == (VOC, "train") else args.domain
    pred, gt = Path(args.pred), Path(args.gt)
    if not args.fix:
        pred, gt = pred / args.data / args.tag / domain, gt / args.data / domain / "mask"
    found = [*description_of(args), "--pred_dir", str(pred), "--gt_dir", str(gt), "--tag", args.tag]
    found += ["--count_empty"] if args.data == COCO else []
    return [*found, *given("--num_workers", args.cpus), *others]


if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(sys.argv[1:]))
