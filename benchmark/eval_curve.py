"""The 60-point background curve: one pass over the pixels against a loop that reads every file once per threshold.

    python -m benchmark.eval_curve --images 200

Makes CAM dicts and ground truths of 500 x 375, scores them with eval.py's path (single- and multi-process) and with
the plain loop on a few of them, checks that both give the same 60 mIoUs, and prints milliseconds an image.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from data.score import count_images
from tool.artifact import load_label_map, save_cam, save_label_map
from tool.cli import cores, positive, run_script
from tool.metric import CURVE, iou
from voc12.classes import VOC12

HEIGHT, WIDTH = 375, 500
NUM_LABELS = VOC12.num_labels
PLAIN_IMAGES = 3


def make_files(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """(CAM dict, ground truth) of `count` images with one to three classes: smooth blobs, as CAMs are."""
    generator = np.random.default_rng(0)
    pairs = []
    for index in range(count):
        classes = generator.choice(NUM_LABELS - 1, generator.integers(1, 4), replace=False)
        cams = {}
        for c in classes:
            cam = cv2.resize(
                generator.random((6, 8), dtype=np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR
            )
            cams[int(c)] = cam / (cam.max() + 1e-5)
        target = generator.choice([0, *(classes + 1)], (12, 16)).astype(np.uint8)
        target = cv2.resize(target, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        target[generator.random(target.shape) < 0.05] = 255
        pairs.append((folder / f"{index}.npy", folder / f"{index}.png"))
        save_cam(pairs[-1][0], cams, VOC12)
        save_label_map(pairs[-1][1], target, VOC12)
    return pairs


def plain_curve(pairs: Sequence[tuple[Path, Path]]) -> np.ndarray:
    """The 60 mIoUs in 0..1, one threshold, one file and one label at a time."""
    means = []
    for threshold in CURVE:
        intersection, union = np.zeros(NUM_LABELS), np.zeros(NUM_LABELS)
        for cam_path, target_path in pairs:
            target = load_label_map(target_path, VOC12)
            stack = np.zeros((NUM_LABELS, *target.shape), np.float32)
            stack[0] = threshold
            # Our own files: the plain reader may unpickle them.
            for c, cam in np.load(cam_path, allow_pickle=True).item().items():
                stack[c + 1] = cam
            prediction = stack.argmax(axis=0)
            for label in range(NUM_LABELS):
                predicted, truth = (prediction == label) & (target != 255), target == label
                intersection[label] += (predicted & truth).sum()
                union[label] += (predicted | truth).sum()
        means.append((intersection / np.maximum(union, 1)).mean())
    return np.array(means)


def fast_curve(pairs: Sequence[tuple[Path, Path]], num_workers: int) -> np.ndarray:
    """The same by eval.py."""
    counts, _ = count_images(pairs, "npy", VOC12, thresholds=CURVE, num_workers=num_workers)
    return iou(counts).mean(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time eval.py's 60-point curve against a plain loop.")
    parser.add_argument("--images", type=positive, default=200, help="images to score (default %(default)s)")
    parser.add_argument(
        "--num_workers", type=positive, default=cores(), help="processes (default: the cores, %(default)s)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = make_files(Path(folder), args.images)
        few = pairs[:PLAIN_IMAGES]

        def milliseconds(curve, some_pairs, *arguments):
            start = time.perf_counter()
            result = curve(some_pairs, *arguments)
            return 1000 * (time.perf_counter() - start) / len(some_pairs), result

        plain_ms, plain = milliseconds(plain_curve, few)
        single_ms, _ = milliseconds(fast_curve, pairs, 1)
        parallel_ms, _ = milliseconds(fast_curve, pairs, args.num_workers)
        np.testing.assert_allclose(fast_curve(few, 1), plain, rtol=0, atol=1e-12)
    print(f"plain loop       {plain_ms:8.1f} ms an image (60 reads; over {len(few)} images)")
    print(
        f"eval.py          {single_ms:8.1f} ms an image (over {args.images}), {plain_ms / single_ms:.0f} times faster"
    )
    print(f"  {args.num_workers} processes    {parallel_ms:8.1f} ms an image, their start included")
    print("the 60 mIoUs are equal")


if __name__ == "__main__":
    run_script(main)
