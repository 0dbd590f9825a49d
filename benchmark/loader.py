"""Training images a second: the loader's processes against the plain way, in the training process.

    python -m benchmark.loader
    python -m benchmark.loader --data_root VOC2012/JPEGImages --saliency_root VOC2012/saliency \\
        --labels VOC2012/cls_labels.npy --train_list VOC2012/ImageSets/Segmentation/trainaug.txt

Both give the same batches, bit for bit. A net that takes fewer images a second than the loader gives never waits for
it; each core more gives as many more. Without flags: generated images of 500 pixels.
"""

import argparse
import tempfile
from pathlib import Path

from benchmark.generated import generate
from data.images import check_training_files
from data.labels import load_labels
from tool.cli import UserError, cores, path_text, positive, run_script
from tool.lists import Source, find_images, read_ids
from voc12.classes import VOC12

IMAGES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the loader of training images.")
    parser.add_argument("--num_workers", type=positive, default=cores(), help="loader processes (the cores)")
    parser.add_argument("--steps", type=positive, default=20, help="batches to time (%(default)s)")
    parser.add_argument("--batch_size", type=positive, default=12, help="(%(default)s)")
    for flag in ("--data_root", "--saliency_root", "--labels", "--train_list"):
        parser.add_argument(flag, type=path_text, help="as of train_voc.py; all or none")
    args = parser.parse_args()
    given = [args.data_root, args.saliency_root, args.labels, args.train_list]
    if None in given and given != [None] * 4:
        raise UserError("--data_root, --saliency_root, --labels, --train_list: expected all of them or none")
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.loader_times import load
    from data.augmentation import TrainingAugmentation
    from data.training import TrainingSet

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        if args.data_root is None:
            data = generate(Path(name), size=500, train=1, train_aug=IMAGES)
            args.data_root, args.saliency_root, args.labels = data.images, data.saliency, data.labels
            args.train_list = data.train_aug
        ids, labels = read_ids(args.train_list, "--train_list"), load_labels(args.labels, VOC12)
        source = Source("--train_list", args.train_list)
        images = find_images(ids, args.data_root, VOC12, flag="--data_root", source=source)
        check_training_files(images, saliency_root=args.saliency_root, labels=labels, data_set=VOC12)
        dataset = TrainingSet(
            images,
            saliency_root=args.saliency_root,
            labels=labels,
            augmentation=TrainingAugmentation(),
            seed=0,
        )
        options = {"batch_size": args.batch_size, "steps": args.steps}
        plain, expected = load(dataset, **options, num_workers=0)
        fast, found = load(dataset, **options, num_workers=args.num_workers)
    for one, other in zip(expected, found, strict=False):  # more of more processes
        assert one["id"] == other["id"] and torch.equal(one["image"], other["image"]), "not the same batches"
    print(f"crop 448, at least {args.steps} batches of {args.batch_size}")
    print(f"{'in the training process':<28}{plain:6.1f} images/s")
    print(f"{f'{args.num_workers} loader processes':<28}{fast:6.1f} images/s, {fast / plain:.1f} times as many")


if __name__ == "__main__":
    run_script(main)
