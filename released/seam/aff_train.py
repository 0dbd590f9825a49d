"""SEAM's aff_train.py, which is PPC's. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.ppc.aff_train import ROWS, SCRIPT
from released.table import run_as

if __name__ == "__main__":
    run_as(SCRIPT, ROWS)
