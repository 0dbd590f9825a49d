"""Seeds and CRF seeds of photographs: inference.py against the plain loop that public code runs, on the same images.

    python -m benchmark.infer
    python -m benchmark.infer --weights exps/hsc/hsc.pth --backbone mobilenet_v2 --data_root VOC2012/JPEGImages \\
        --labels VOC2012/cls_labels.npy --infer_list VOC2012/ImageSets/Segmentation/train.txt --images 20

The plain loop: one process in float32, an image, a scale and a mirror at a time, all classes' maps at the image's size,
then the CRF and the files. inference.py runs in float32 and in half precision. Without `--weights`: generated images
and a net trained on them for a minute. All times hold the start of the processes and the loading of the weights.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmark.generated import generate, run, train_eps
from network import BACKBONE_HELP, backbone_name
from tool.artifact import load_label_map
from tool.cli import UserError, path_text, path_value, positive, run_script
from tool.flags import AMP
from tool.lists import read_ids
from voc12.classes import VOC12


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time inference.py against a plain loop.")
    parser.add_argument("--images", type=positive, default=8, help="the first of the list (%(default)s)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    parser.add_argument(
        "--amp",
        choices=[name for name in AMP if name != "off"],
        default="bf16",
        help="the half precision (%(default)s)",
    )
    parser.add_argument("--processes", type=positive, default=1, help="network processes (%(default)s)")
    parser.add_argument("--weights", type=path_text, help="of a trained resnet38_hsc (default: trained here)")
    parser.add_argument("--backbone", type=backbone_name, default="resnet38d", metavar="NAME", help=BACKBONE_HELP)
    parser.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")
    for flag in ("--data_root", "--labels", "--infer_list"):
        parser.add_argument(flag, type=path_text, help="as of inference.py, with --weights")
    parser.add_argument("--plain_into", type=path_value, help="run the plain loop alone, into this folder")
    args = parser.parse_args()
    if (args.weights or args.plain_into) and None in (args.data_root, args.labels, args.infer_list):
        raise UserError("--weights: expected --data_root, --labels and --infer_list too, as inference.py takes them")
    return args


def train_here(args: argparse.Namespace, folder: Path) -> None:
    """Train eps at an eighth of the width on generated images of 384 pixels; fill in what `args` lacks."""
    count = max(args.images, 48)
    data = generate(folder, size=384, train=count, train_aug=count)
    args.data_root, args.labels, args.infer_list = data.images, data.labels, data.train
    length = ["--train_list", data.train, "--batch_size", 12, "--max_iters", 40, "--max_epoches", 15]
    _, args.weights, _, args.width = train_eps(data, folder, *length)


def plain_process(args: argparse.Namespace, ids: list[str], out: Path) -> None:
    """The plain loop in a process of its own, as inference.py is."""
    device = [] if args.device is None else ["--device", args.device]
    run(
        *["-m", "benchmark.infer", "--plain_into", out, "--images", len(ids), *device],
        *["--weights", args.weights, "--backbone", args.backbone, "--width", args.width],
        *["--data_root", args.data_root, "--labels", args.labels, "--infer_list", args.infer_list],
    )


def inference(args: argparse.Namespace, ids: list[str], out: Path, *, amp: str) -> None:
    """inference.py, as a user runs it."""
    infer_list = out / "list.txt"
    infer_list.write_text("".join(f"{image_id}\n" for image_id in ids))
    device = [] if args.device is None else ["--device", args.device]
    run(
        *["inference.py", "--weights", args.weights, "--backbone", args.backbone, "--width", args.width],
        *["--img_root", args.data_root, "--labels", args.labels, "--infer_list", infer_list, "--work_dir", out],
        *["--amp", amp, "--n_processes_per_gpu", args.processes, *device],
    )


def equal_share(ids: list[str], folder: Path, other: Path) -> float:
    """The share of all pixels whose labels are equal, 0..1."""
    same = total = 0
    for image_id in ids:
        labels, others = (load_label_map(path / f"{image_id}.png", VOC12) for path in (folder, other))
        same, total = same + int((labels == others).sum()), total + labels.size
    return same / total


def main() -> None:
    args = parse_arguments()
    if args.plain_into is not None:
        from benchmark.plain_loop import plain_loop  # it imports torch, which the other processes have no use for

        plain_loop(args, read_ids(args.infer_list, "--infer_list")[: args.images], args.plain_into)
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if args.weights is None:
            train_here(args, scratch / "data")
        ids = read_ids(args.infer_list, "--infer_list")[: args.images]
        ways = {
            "plain": plain_process,
            "off": partial(inference, amp="off"),
            args.amp: partial(inference, amp=args.amp),
        }
        seconds = {}
        for way, make in ways.items():
            (scratch / way).mkdir()
            start = time.perf_counter()
            make(args, ids, scratch / way)
            seconds[way] = time.perf_counter() - start
        print(f"{len(ids)} images, {args.backbone} x {args.width:g}")
        print(f"{'plain loop':<24}{seconds['plain'] / len(ids):6.2f} s an image")
        for way in ("off", args.amp):
            seeds = equal_share(ids, scratch / "plain" / "cam_png", scratch / way / "cam_png")
            crf = equal_share(ids, scratch / "plain" / "crf", scratch / way / "crf" / "crf_8_7")
            print(
                f"{'inference.py --amp ' + way:<24}{seconds[way] / len(ids):6.2f} s an image,"
                f" {seconds['plain'] / seconds[way]:.1f} times faster; labels equal: {100 * seeds:.2f} % of the seeds'"
                f" pixels, {100 * crf:.2f} % of the CRF seeds'"
            )
            assert way != "off" or min(seeds, crf) >= 0.995, "float32 does not give the plain loop's labels"


if __name__ == "__main__":
    run_script(main)
