"""PPC's aff_infer.py: a background of 0.27, whatever --alpha says. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import REQUIRED, Row, run_as

SCRIPT = "refine/affinity/infer.py"
ROWS = [
    Row("--weights", REQUIRED, "--weights"),
    Row("--cam_dir", REQUIRED, "--cam_dir"),
    Row("--infer_list", "voc12/val.txt", "--infer_list"),
    Row("--voc12_root", "VOC2012", "--img_root", "{}/JPEGImages"),
    Row("--network", "network.resnet38_aff"),
    Row("--out_rw", "out_rw", "--out_rw"),
    Row("--beta", "8", "--beta"),
    Row("--logt", "6", "--logt"),
    Row("--alpha", "6", "--alpha"),
    Row("--crf", "False", "--crf", count="*"),  # or bare
    Row("--bg", "0.27", "--bg"),
]


if __name__ == "__main__":
    run_as(SCRIPT, ROWS)
