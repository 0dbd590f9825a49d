"""MSA's train_cls_sal.py; the net goes to exps/<tag>/<tag>.pth. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.msa.train_cls_image import SCRIPT, words_for
from released.table import run_words

DEFAULTS = {"threshold": "0.01", "patches": "1", "tag": "train_MSA_VOC_sal"}


if __name__ == "__main__":
    run_words(SCRIPT, words_for(sys.argv[1:], "msa_sal", **DEFAULTS))
