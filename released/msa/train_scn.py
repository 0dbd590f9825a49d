"""MSA's train_scn.py; the net goes to exps/<tag>/<tag>.pth. --help says what each flag is here."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.msa.layout import layout_named
from released.table import Row, run_as

SCRIPT = "superpixel/train.py"


def rows_for(words: Sequence[str]) -> list[Row]:
    layout = layout_named(words)
    return [
        *layout.rows(layout.superpixels),
        Row("--num_workers", "2", "--num_workers"),
        Row("--image_size", "512", "--crop_size"),
        Row("--min_image_size", "320", "--min_image_size"),
        Row("--max_image_size", "640", "--max_image_size"),
        Row("--batch_size", "16", "--batch_size"),
        Row("--max_epoch", "50", "--max_epoches"),
        Row("--pretrain", "./models_ckpt/SpixelNet_bsd_ckpt.tar"),
        Row("--lr", "5e-5", "--lr"),
        Row("--wd", "4e-5"),
        Row("--nesterov", "True"),
        Row("--print_ratio", "0.1"),
        Row("--tag", "train_Q_oriimg_lab", "--session_name"),
        Row("--downsize", "16"),
        *(Row(flag) for flag in ("--cam_npy_path", "--th_bg", "--th_step", "--th_fg", "--relu_t", "--curtime")),
    ]


if __name__ == "__main__":
    run_as(SCRIPT, rows_for(sys.argv[1:]))
