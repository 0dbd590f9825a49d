"""PPC on EPS's pseudo_label_gen.py, of CRF dicts from anywhere. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import REQUIRED, Row, run_as

SCRIPT = "refine/label_maps.py"
ROWS = [
    Row("--datalist", REQUIRED, "--infer_list"),
    Row("--crf_pred", REQUIRED, "--crf_dir"),
    Row("--label_save_dir", REQUIRED, "--out_dir"),
]


if __name__ == "__main__":
    run_as(SCRIPT, ROWS)
