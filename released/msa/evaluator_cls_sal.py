"""MSA's evaluator_cls_sal.py; files go to ./experiments/predictions. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.msa.evaluation import evaluate

if __name__ == "__main__":
    evaluate("msa_sal", "evaluate_SAL")
