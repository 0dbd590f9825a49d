"""Make unsupervised features of images, a file each: what DHR parts unlike classes by.

    python rebalance/features.py --uss CAUSE --backbone ViT-B --uss_weights weights/CAUSE_VOC2012.pt \\
        --img_root VOC2012/JPEGImages --infer_list voc12/train_aug.txt --out_dir exps/features

Runs again from where it stopped: an image is done when its features are there, whole, and of its size. --uss Backbone
takes a net that learnt ImageNet's labels, where no DINOv2 file can be had: its features are supervised.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python features.py` finds the packages from any folder
from data.descriptions import add_data_set_flag, find_data_set
from network import BACKBONES, DINOV2, PRETRAINED, TIMM, is_backbone
from rebalance.inputs import add_image_flags, find_listed, hash_of, own_checked
from tool.cli import UserError, path_text, path_value, positive, run_script, script_parser
from tool.flags import add_process_flags
from tool.folder import Claim, claim_folders
from tool.torchrun import is_first
from tool.weights_file import require_weights

USS = ("CAUSE", "STEGO", "DINOv2", "Backbone")
WITH_HEAD = USS[:2]
DIM = 90  # that PCA leaves
WEIGHTS = Path("weights")
# The backbones' files as they are handed on.
DINOV2_FILES = {name: f"dinov2_vit{name[-1].lower()}14_pretrain.pth" for name in DINOV2}
DINO_BACKBONE, DINO_FILE = "ViT-B/8", "dino_vitbase8_pretrain.pth"
EXAMPLES = """\
  # CAUSE on DINOv2's ViT-G, the published choice
  python rebalance/features.py --uss_weights weights/CAUSE_VOC2012.pt --out_dir exps/features \\
      --img_root VOC2012/JPEGImages --infer_list voc12/train_aug.txt
  # DINOv2 alone, and pictures of the first three components
  python rebalance/features.py --uss DINOv2 --backbone ViT-S --out_dir exps/features \\
      --img_root VOC2012/JPEGImages --infer_list voc12/train_aug.txt --pictures exps/pictures
  # where there is no such file: a supervised net
  python rebalance/features.py --uss Backbone --backbone resnet50 --out_dir exps/features \\
      --uss_backbone_weights pretrained --img_root VOC2012/JPEGImages
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Unsupervised features of images, for DHR.", examples=EXAMPLES)
    data = parser.add_argument_group("data")
    add_image_flags(data)
    data.add_argument("--out_dir", type=path_value, required=True, help="features, <id>.pt, go there")
    data.add_argument(
        "--pictures", type=path_value, metavar="DIR", help="<id>.png of the first three components go there (none)"
    )
    add_data_set_flag(data)

    net = parser.add_argument_group("network")
    net.add_argument("--uss", choices=USS, default="CAUSE", help="whose features (%(default)s)")
    net.add_argument(
        "--backbone", metavar="NAME",
        help=f"{', '.join(DINOV2)} (ViT-G); of STEGO {DINO_BACKBONE}; of Backbone {', '.join(BACKBONES)} or {TIMM}NAME",
    )  # fmt: skip
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    net.add_argument(
        "--uss_backbone_weights", type=path_text, metavar="FILE",
        help=f"the backbone's (weights/<its released name>); of Backbone ImageNet's, or {PRETRAINED} (downloaded)",
    )  # fmt: skip
    net.add_argument("--uss_weights", type=path_text, metavar="FILE", help="the head's, of CAUSE and STEGO")
    net.add_argument(
        "--uss_dim", type=positive, metavar="DIM", help=f"channels that PCA leaves of DINOv2 and Backbone ({DIM})"
    )
    add_process_flags(parser.add_argument_group("run"))
    return parser.parse_args()


def complete_arguments(args: argparse.Namespace) -> None:
    """Put the defaults in that depend on --uss. Raises `UserError` for flags that do not go together."""
    expected = {"STEGO": (DINO_BACKBONE,)}.get(args.uss, tuple(DINOV2))
    if args.uss == "Backbone":
        if args.backbone is None or not is_backbone(args.backbone):
            raise UserError(f"--backbone {args.backbone}: expected one of {', '.join(BACKBONES)}, or {TIMM}NAME")
        if args.uss_backbone_weights is None:
            raise UserError(f"--uss_backbone_weights: expected a file of {args.backbone}'s weights, or {PRETRAINED}")
    else:
        if args.width != 1:
            raise UserError(f"--width {args.width}: of resnet38d alone, --uss Backbone; leave it out")
        args.backbone = args.backbone or expected[-1]
        if args.backbone not in expected:
            raise UserError(f"--backbone {args.backbone}: --uss {args.uss} takes {', '.join(expected)}")
        name = DINO_FILE if args.uss == "STEGO" else DINOV2_FILES[args.backbone]
        args.uss_backbone_weights = args.uss_backbone_weights or str(WEIGHTS / name)
    if args.uss in WITH_HEAD:
        if args.uss_dim is not None:
            raise UserError(f"--uss_dim {args.uss_dim}: --uss {args.uss} has its own number of channels; leave it out")
        if args.uss_weights is None:
            raise UserError(f"--uss_weights: expected the file of {args.uss}'s head, as weights/{args.uss}_VOC2012.pt")
    else:
        if args.uss_weights is not None:
            raise UserError(f"--uss_weights {args.uss_weights}: --uss {args.uss} has no head; leave it out")
        args.uss_dim = args.uss_dim or DIM


def open_outputs(args: argparse.Namespace) -> None:
    """Create the folders and keep others out; refuse those with features of other nets."""
    settings = {name: getattr(args, name) for name in ("uss", "backbone", "width", "uss_dim", "amp")}
    settings["uss_backbone_weights_sha256"] = hash_of(args.uss_backbone_weights)
    settings["uss_weights_sha256"] = hash_of(args.uss_weights)
    folders = {"--out_dir": args.out_dir, "--pictures": args.pictures}
    claim_folders([Claim(folder, flag, settings) for flag, folder in folders.items() if folder is not None])


def main() -> None:
    args = parse_arguments()
    complete_arguments(args)
    data_set = find_data_set(args.data_set)
    if args.uss_backbone_weights != PRETRAINED:
        require_weights(args.uss_backbone_weights, "--uss_backbone_weights")
    if args.uss_weights is not None:
        require_weights(args.uss_weights, "--uss_weights")
    images = find_listed(args, data_set)
    folders = {path.parent.resolve() for path in images.values()}
    for flag in ("out_dir", "pictures"):
        if (folder := getattr(args, flag)) is not None and folder.resolve() in folders:
            raise UserError(f"--{flag} {folder}: expected another folder than the images'")
    own = own_checked(images, args.img_root)
    # Not at the top: they import torch, which takes seconds; a mistake in a flag or a file has been named by now.
    import torch

    from rebalance.featuring import draw_missing, fit_missing_pca, load_net, make_missing_features
    from tool.distributed import first_alone
    from tool.per_image import joined_processes

    with joined_processes(args) as processes:
        with first_alone(args.uss_backbone_weights == PRETRAINED):  # which one process downloads
            net = load_net(args)
        if is_first():
            open_outputs(args)
            if args.uss_dim is not None:  # PCA's
                fit_missing_pca(net, images, args, device=torch.device(processes.devices[0]))
    dim, patch = args.uss_dim or net.dim, net.patch
    del net  # of up to 4.5 GB, which the processes load
    if torch.cuda.is_initialized():  # the PCA was fitted there, and torch keeps what the net had
        torch.cuda.empty_cache()
    make_missing_features(own, args, processes, dim=dim, patch=patch)
    if args.pictures is not None:
        draw_missing(own, args)
    print(f"  {args.out_dir}")


if __name__ == "__main__":
    run_script(main)
