"""DHR's scores, by the released command line: mIoU, mFPR, mFNR.

python released/dhr/evaluate.py --root ../ --data VOC2012 --pred ./results/ --tag ResNet-101@DHR@last
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import run_words
from tool.cli import script_parser

SCRIPT = "rebalance/evaluate.py"


def in_our_words(words: Sequence[str]) -> list[str]:
    """Our flags for the released command line `words`; words that are no released flag's stay, behind them."""
    parser = script_parser(
        f"The released command, run by {SCRIPT}, whose other flags may stand here.", allow_abbrev=False
    )
    parser.add_argument("--root", default="../", help="of <data>/<data>.json, which has the labels (%(default)s)")
    parser.add_argument("--data", default="VOC2012", help="the data set (%(default)s)")
    parser.add_argument("--domain", default="validation", help="the images; VOC2012's train: train_aug (%(default)s)")
    parser.add_argument("--pred", default="./results/", help="of <data>/<tag>/<domain>/, label maps (%(default)s)")
    parser.add_argument("--gt", default="../", help="of <data>/<domain>/mask/ (%(default)s)")
    parser.add_argument("--tag", default="DHR", help="of the label maps (%(default)s)")
    parser.add_argument("--fix", action="store_true", help="--pred and --gt are the folders themselves")
    parser.add_argument("--cpus", help="--num_workers")
    given, others = parser.parse_known_args(words)
    domain = "train_aug" if (given.data, given.domain) == ("VOC2012", "train") else given.domain
    pred, gt = Path(given.pred), Path(given.gt)
    if not given.fix:
        pred, gt = pred / given.data / given.tag / domain, gt / given.data / domain / "mask"
    found = ["--data_set", str(Path(given.root) / given.data / f"{given.data}.json")]
    found += ["--pred_dir", str(pred), "--gt_dir", str(gt), "--tag", given.tag]
    found += ["--count_empty"] if given.data == "COCO2014" else []
    return [*found, *(["--num_workers", given.cpus] if given.cpus else []), *others]


if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(sys.argv[1:]))
