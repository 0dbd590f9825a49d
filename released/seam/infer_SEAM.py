"""SEAM's infer_SEAM.py; --out_crf gets crf/crf_10_4/ and crf/crf_10_24/. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.ppc.contrast_infer import SCRIPT, SHARED, in_our_words
from released.table import Row, run_words

ROWS = [
    Row("--method", "seam", "--method"),
    *SHARED,
    Row("--network", "network.resnet38_SEAM", "--network"),
]


if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(ROWS, sys.argv[1:]))
