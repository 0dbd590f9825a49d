"""CRT's test_cam.py for CUB-200-2011. --help says what each key of the YAML is here.

    python released/crt_cub/test_cam.py --config_file configs/CUB/deit_tscam_small_patch16_224.yaml \\
        --resume model_best_top1_loc.pth MODEL.CAM_THR 0.1
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.crt_cub.config import in_words, rows
from released.table import REQUIRED, Row, run_as
from tool.cli import run_script

SCRIPT = "localise/test.py"
ROWS = [Row("--resume", REQUIRED, "--weights"), *rows(1)]


def main() -> None:
    sys.argv[1:] = in_words(sys.argv[1:])
    run_as(SCRIPT, ROWS)


if __name__ == "__main__":
    run_script(main)
