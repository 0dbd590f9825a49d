"""PPC's contrast_infer.py; --out_crf gets crf/crf_<iterations>_thr<alpha>/. --help says what each flag is here.

Made is what is asked for, and the CAM dicts that it is made from: without --out_cam in <out_cam_pred>_cam/, or in
<out_crf>/cam_npy/.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.table import REQUIRED, Row, run_words, translate

SCRIPT = "inference.py"
SHARED = [
    Row("--weights", REQUIRED, "--weights"),
    Row("--infer_list", "voc12/train.txt", "--infer_list"),
    Row("--voc12_root", "VOC2012", "--img_root", "{}/JPEGImages"),
    Row("--num_workers", "8"),
    Row("--out_cam", None, "--cam_npy"),
    Row("--out_cam_pred", "none", "--cam_png"),
    Row("--out_cam_pred_alpha", "0.26", "--thr"),
    Row("--out_crf", None, "--work_dir"),
]


def in_our_words(rows: Sequence[Row], words: Sequence[str]) -> list[str]:
    """inference.py's flags for the released command line `words`; what it names no folder for is left out."""
    about = f"The released command, run by {SCRIPT}, whose other flags may stand here too (its --help)."
    given = {word.split("=")[0] for word in words}
    if "--out_crf" in given:
        return translate(rows, words, description=about)
    unused = "--crf_t VALUE, with --out_crf"
    rows = [row._replace(ours=None, note=unused) if row.ours == "--crf_t" else row for row in rows]
    found = ["--crf_t", "none", *translate(rows, words, description=about)]
    label_maps = found[found.index("--cam_png") + 1]
    is_beside = label_maps != "none" and "--out_cam" not in given
    return [*(["--cam_npy", f"{label_maps}_cam"] if is_beside else []), *found]


ROWS = [
    Row("--method", "ppc", "--method"),
    *SHARED,
    Row("--network", "network.resnet38_contrast", "--network"),
    Row("--crf_iters", "10", "--crf_t"),
]


if __name__ == "__main__":
    run_words(SCRIPT, in_our_words(ROWS, sys.argv[1:]))
