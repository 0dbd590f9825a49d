"""MSA's train_cls_image.py; the net goes to exps/<tag>/<tag>.pth. --help says what each flag is here."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from released.msa.layout import layout_named
from released.table import Row, run_words, translate
from tool.cli import boolean, script_parser

SCRIPT = "train_voc.py"
DEFAULTS = {"threshold": "0.1", "patches": "9", "tag": "train_MSA_VOC_image"}


def words_for(words: Sequence[str], method: str, *, threshold: str, patches: str, tag: str) -> list[str]:
    """Our flags for the released command line `words` of a training with these defaults."""
    parser = script_parser("", add_help=False)  # of what is not one flag here
    parser.add_argument("--min_image_size", default="320")
    parser.add_argument("--max_image_size", default="640")
    parser.add_argument("--wd", default="4e-5")
    parser.add_argument("--SP_CAM", type=boolean, default=True)
    parser.add_argument("--Qmodelpath", default="./models_ckpt/Q_model_final.pth")
    given, _ = parser.parse_known_args(words)
    layout = layout_named(words)
    rows = [
        Row("--method", method, "--method"),
        *layout.rows(layout.seeds),
        Row("--labels", layout.labels, "--labels"),
        Row("--saliency_root", layout.saliency if method == "msa_sal" else None, "--saliency_root"),
        Row("--num_workers", "8", "--num_workers"),
        Row("--image_size", "480", "--crop_size"),
        Row("--min_image_size", "320", note="--resize_size, the first number"),
        Row("--max_image_size", "640", note="--resize_size, the second number"),
        Row("--seed", "0", "--seed"),
        Row("--backbone", "resnet50", "--backbone"),
        Row("--batch_size", "16", "--batch_size"),
        Row("--max_epoch", "12", "--max_epoches"),
        Row("--lr", "0.1", "--lr"),
        Row("--wd", "4e-5", note="--wt_dec and --momentum, in whose place it stands"),
        Row("--nesterov", "True", "--nesterov"),
        Row("--alpha", "0.3", "--alpha"),
        Row("--ig_th", threshold, "--ig_th"),
        Row("--patch_number", patches, "--patch_number"),
        Row("--beta", "8", "--beta"),
        Row("--th", "0.6", "--th"),
        Row("--SP_CAM", "True", note="--sp_cam"),
        Row("--Qmodelpath", "./models_ckpt/Q_model_final.pth", note="--scn, unless --SP_CAM is False"),
        Row("--tag", tag, "--session_name"),
        Row("--print_ratio", "0.1"),
        Row("--clamp_rate"),
    ]
    description = f"The released command, run by {SCRIPT}, whose other flags may stand here too (its --help)."
    sizes = ["--resize_size", given.min_image_size, given.max_image_size]
    # **Q** The decay landed in the momentum's argument.
    optimiser = ["--wt_dec", given.wd, "--momentum", given.wd]
    superpixels = ["--scn", given.Qmodelpath] if given.SP_CAM else ["--sp_cam", "False"]
    return [*sizes, *optimiser, *superpixels, *translate(rows, words, description=description)]


if __name__ == "__main__":
    run_words(SCRIPT, words_for(sys.argv[1:], "msa_image", **DEFAULTS))
