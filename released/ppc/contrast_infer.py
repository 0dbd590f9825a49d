"""PPC's contrast_infer.py; --out_crf gets crf/crf_<iterations>_thr<alpha>/. --help says what each flag is here."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import REQUIRED, Row, run_as

SCRIPT = "inference.py"
SHARED = [
    Row("--weights", REQUIRED, "--weights"),
    Row("--infer_list", "voc12/train.txt", "--infer_list"),
    Row("--voc12_root", "VOC2012", "--img_root", "{}/JPEGImages"),
    Row("--num_workers", "8"),
    Row("--out_cam", None, "--cam_npy"),
    Row("--out_cam_pred", None, "--cam_png"),
    Row("--out_cam_pred_alpha", "0.26", "--thr"),
    Row("--out_crf", None, "--work_dir"),
]


def with_crf_if_asked_for(rows: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """`rows`, and without --out_crf among `words` one that leaves the CRF out."""
    if any(word.split("=")[0] == "--out_crf" for word in words):
        return list(rows)
    return [
        *(row._replace(ours=None) if row.ours == "--crf_t" else row for row in rows),
        Row("--crf", "none", "--crf_t"),
    ]


ROWS = [
    Row("--method", "ppc", "--method"),
    *SHARED,
    Row("--network", "network.resnet38_contrast", "--network"),
    Row("--crf_iters", "10", "--crf_t"),
]


if __name__ == "__main__":
    run_as(SCRIPT, with_crf_if_asked_for(ROWS, sys.argv[1:]))
