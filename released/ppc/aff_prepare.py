"""PPC's aff_prepare.py; both alphas unless --alpha says otherwise. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import REQUIRED, Row, run_as

SCRIPT = "refine/affinity/prepare.py"
ROWS = [
    Row("--cam_dir", REQUIRED, "--cam_dir"),
    Row("--out_crf", REQUIRED, "--out_crf"),
    Row("--infer_list", REQUIRED, "--infer_list"),
    Row("--voc12_root", "VOC2012", "--img_root", "{}/JPEGImages"),
    Row("--alpha", None, "--alpha", count="+"),
    Row("--crf_iters", "10", "--crf_iters"),
    Row("--num_workers", None, "--crf_workers"),
]


if __name__ == "__main__":
    run_as(SCRIPT, ROWS)
