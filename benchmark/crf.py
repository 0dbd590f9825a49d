"""The dense CRF: the tensor backend on the device against pydensecrf on one core, on the work of each stage.

    python -m benchmark.crf
    python -m benchmark.crf --device cuda --images 64

Runs both on the same images, checks that the labels agree, and prints milliseconds an image and their ratio.
"""

import argparse

from tool.cli import positive, run_script


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the tensor CRF against pydensecrf on one core.")
    parser.add_argument("--device", help="of the tensor CRF (default: a GPU where there is one)")
    parser.add_argument("--images", type=positive, default=2, help="of full size (default %(default)s)")
    args = parser.parse_args()
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.crf_times import TRAINING_BATCH, WORKS, make_images, timed
    from tool.device import resolve_device

    device = resolve_device(args.device)
    torch.set_num_threads(1)  # core against core where the device is a CPU
    print(f"{'ms an image':<30} {'pydensecrf':>11} {'torch, ' + device.type:>12} {'ratio':>7} {'labels equal':>13}")
    for work in WORKS:
        images, probability = make_images(TRAINING_BATCH if work.from_labels else args.images, work.size, work.labels)
        plain_ms, plain = timed(work, images, probability, "pydensecrf")
        fast_ms, fast = timed(work, images.to(device), probability.to(device), "torch")
        equal = float((plain == fast).float().mean())
        assert equal >= 0.999, f"{work.name}: only {equal} of the labels are equal"
        print(f"{work.name:<30} {plain_ms:>11.1f} {fast_ms:>12.1f} {plain_ms / fast_ms:>7.1f} {100 * equal:>11.2f} %")


if __name__ == "__main__":
    run_script(main)
