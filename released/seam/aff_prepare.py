"""SEAM's aff_prepare.py, which is PPC's. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.ppc.aff_prepare import ROWS, SCRIPT, in_our_words
from released.table import run_words

if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(ROWS, sys.argv[1:]))
