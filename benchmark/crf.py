"""The dense CRF: the tensor backend on the device against pydensecrf on one core, on the work of each stage.

    python -m benchmark.crf
    python -m benchmark.crf --image VOC2012/JPEGImages/2007_0003*.jpg
    python -m benchmark.crf --device cuda --images 64

Runs both on the same images, checks that the labels agree, and prints milliseconds an image and their ratio. Generated
images have noise that no photograph has, and a vertex of the lattice for nearly each of a pixel's six.
"""

import argparse
from contextlib import nullcontext

from tool.cli import path_value, positive, run_script
from tool.image import load_image

LABELS_EQUAL = 0.9999


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the tensor CRF against pydensecrf on one core.")
    parser.add_argument("--device", help="of the tensor CRF (default: a GPU where there is one)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--images", type=positive, default=2, help="generated ones of full size (default %(default)s)")
    size.add_argument("--image", type=path_value, nargs="+", metavar="FILE", help="photographs in their place")
    args = parser.parse_args()
    for file in args.image or ():
        load_image(file, "RGB")
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.crf_times import WORKS, lattices_counted, make_images, read_images, timed
    from tool.device import resolve_device

    device = resolve_device(args.device)
    torch.set_num_threads(1)  # core against core where the device is a CPU
    print(f"{'ms an image':<38} {'pydensecrf':>11} {'torch, ' + device.type:>12} {'ratio':>7} {'labels equal':>13}")
    for work in WORKS:
        photographs = args.image is not None and not work.from_labels
        images, probability = read_images(work, args.image) if photographs else make_images(work, args.images)
        shown = "photographs" if photographs else f"{work.size[0]} x {work.size[1]}"
        name = f"{work.name}, {shown}, {work.labels} labels"
        plain_ms, plain = timed(work, images, probability, "pydensecrf")
        images, probability = ([tensor.to(device) for tensor in tensors] for tensors in (images, probability))
        runs = {name: nullcontext()}
        if work.from_labels and device.type == "cuda":
            # Training does not wait to hear how many vertices images that small have: what the rows for all cost.
            runs[f"{name}, counted"] = lattices_counted()
        for run, context in runs.items():
            with context:
                fast_ms, fast = timed(work, images, probability, "torch")
            equal = float((plain == fast).float().mean())
            assert equal >= LABELS_EQUAL, f"{run}: only {equal} of the labels are equal"
            print(f"{run:<38} {plain_ms:>11.1f} {fast_ms:>12.1f} {plain_ms / fast_ms:>7.2f} {100 * equal:>11.3f} %")


if __name__ == "__main__":
    run_script(main)
