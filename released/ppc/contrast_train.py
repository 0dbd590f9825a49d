"""PPC's contrast_train.py; the net goes to exps/<session_name>/. --help says what each flag is here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import REQUIRED, Row, run_as

SCRIPT = "train_voc.py"
SHARED = [
    Row("--weights", REQUIRED, "--weights"),
    Row("--voc12_root", "VOC2012", "--data_root", "{}/JPEGImages"),
    Row("--batch_size", "8", "--batch_size"),
    Row("--max_epoches", "8", "--max_epoches"),
    Row("--lr", "0.01", "--lr"),
    Row("--wt_dec", "5e-4", "--wt_dec"),
    Row("--crop_size", "448", "--crop_size"),
    Row("--train_list", "voc12/train_aug.txt", "--train_list"),
    Row("--val_list", "voc12/val.txt", "--val_list"),
    Row("--num_workers", "8", "--num_workers"),
    Row("--tblog_dir", "./tblog"),
]
ROWS = [
    Row("--method", "ppc", "--method"),
    *SHARED,
    Row("--session_name", "resnet38_contrast", "--session_name"),
    Row("--network", "network.resnet38_contrast", "--network"),
    Row("--bg_threshold", "0.20", "--bg_threshold"),
]


if __name__ == "__main__":
    run_as(SCRIPT, ROWS)
