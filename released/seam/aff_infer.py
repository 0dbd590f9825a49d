"""SEAM's aff_infer.py: a background of (1 - max)^alpha. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.ppc.aff_infer import ROWS as PPC_ROWS
from released.ppc.aff_infer import SCRIPT
from released.table import Row, run_as

ROWS = [*PPC_ROWS[:-1], Row("--bg", "none", "--bg")]


if __name__ == "__main__":
    run_as(SCRIPT, ROWS)
