"""CRT's train_cam.py for CUB-200-2011; the files go to exps/crt_cub/. --help says what each key of the YAML is here.

    python released/crt_cub/train_cam.py --config_file configs/CUB/deit_tscam_small_patch16_224.yaml --lr 5e-5 \\
        MODEL.CAM_THR 0.1

ImageNet's weights are downloaded, as there; with files: --transformer_weights FILE --weights FILE.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.crt_cub.config import in_words, rows
from released.table import Row, run_as
from tool.cli import run_script

SCRIPT = "localise/train.py"
ROWS = [
    Row("--lr", "5e-5", "--lr"),
    Row("--transformer_weights", "pretrained", "--transformer_weights"),
    Row("--weights", "pretrained", "--weights"),
    *rows(0),
]


def main() -> None:
    sys.argv[1:] = in_words(sys.argv[1:])
    run_as(SCRIPT, ROWS)


if __name__ == "__main__":
    run_script(main)
