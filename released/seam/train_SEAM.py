"""SEAM's train_SEAM.py; the net goes to exps/<session_name>/. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.ppc.contrast_train import SCRIPT, SHARED
from released.table import Row, run_as

ROWS = [
    Row("--method", "seam", "--method"),
    *SHARED,
    Row("--session_name", "resnet38_SEAM", "--session_name"),
    Row("--network", "network.resnet38_SEAM", "--network"),
]


if __name__ == "__main__":
    run_as(SCRIPT, ROWS)
