"""PPC's aff_prepare.py; both alphas unless --alpha says otherwise. --help says what each flag is here."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import REQUIRED, Row, run_words, translate

SCRIPT = "refine/affinity/prepare.py"
WORKERS = "--crf_workers"
ROWS = [
    Row("--cam_dir", REQUIRED, "--cam_dir"),
    Row("--out_crf", REQUIRED, "--out_crf"),
    Row("--infer_list", REQUIRED, "--infer_list"),
    Row("--voc12_root", "VOC2012", "--img_root", "{}/JPEGImages"),
    Row("--alpha", None, "--alpha", count="+"),
    Row("--crf_iters", "10", "--crf_iters"),
    Row("--num_workers", None, WORKERS),
]


def in_our_words(rows: Sequence[Row], words: Sequence[str]) -> list[str]:
    """prepare.py's flags for the released command line `words`, where no worker beside the command is one of ours."""
    about = f"The released command, run by {SCRIPT}, whose other flags may stand here too (its --help)."
    found = translate(rows, words, description=about)
    return ["1" if pair == (WORKERS, "0") else pair[1] for pair in zip(["", *found], found, strict=False)]


if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(ROWS, sys.argv[1:]))
