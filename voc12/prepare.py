"""Labels and lists from VOC's development kit, and a check of all the data that the stages will read.

    python -m voc12.prepare --voc12_root VOCdevkit/VOC2012 --saliency_root saliency --out voc12

It reads every image, mask, saliency map and annotation of the lists, prints each fault it finds, and writes only if
there is none: `cls_labels.npy` and `train.txt`, `val.txt`, `train_aug.txt`, `train_600.txt`, the first of train, and
`test.txt` where its images are there.
With `--check` it writes nothing and decodes no image, and shows what is there and what is missing (`voc12.state`).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python FILE`; `python -m` finds the packages

from data.annotations import labels_from_annotations
from data.images import image_problems
from data.prepared import make_folder, mask_problems, report_checked, write_prepared
from data.saliency import check_saliency
from tool.checks import run_checks
from tool.cli import (
    NOTHING,
    UserError,
    add_switch,
    path_text,
    raise_problems,
    require_folder,
    run_script,
    script_parser,
    what_is_at,
)
from tool.lists import IMAGE_ENDINGS, LABEL_MAP_ENDINGS, Source, expect_files, id_problem, read_ids
from tool.places import hint, is_file, is_folder, visible
from voc12.classes import CLASSES, VOC12
from voc12.state import AUG_FOLDER, kit_elsewhere, masks_elsewhere, show_state, split_path

AUG_ADVICE = (
    f"for the usual 10,582 training images get {AUG_FOLDER} (VOC's masks with those of the Semantic Boundaries "
    "Dataset), put it beside JPEGImages and run this again"
)
FEW = 600  # of train, to score seeds on while a classifier trains
EXAMPLES = """\
  # what is there, what is missing, the next step; exit code 0 if training has all it needs, or 1
  python -m voc12.prepare --voc12_root VOC2012 --check
  # labels and lists, after a look at every file
  python -m voc12.prepare --voc12_root VOC2012 --saliency_root VOC2012/saliency
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser(
        "Labels and lists from VOC's development kit, and a check of all the data that the stages read.",
        examples=EXAMPLES,
        prog="python -m voc12.prepare",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--voc12_root",
        type=path_text,
        required=True,
        help="the kit's VOC2012, with JPEGImages, Annotations and ImageSets in it",
    )
    data.add_argument(
        "--saliency_root",
        type=path_text,
        help="folder of saliency maps, <id>.png, to look at (none; --check: <voc12_root>/saliency)",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=path_text, default="voc12", help="folder to write labels and lists to (%(default)s)"
    )
    add_switch(output, "--check", default=False, help="only show what is there of VOC 2012, in seconds (False)")
    return parser.parse_args()


def check_layout(root: Path) -> None:
    """Raise `UserError` with every part of the kit that is not where it should be, or if one cannot be read."""
    if problem := kit_elsewhere(root):
        raise UserError(f"--voc12_root {problem}; nothing written")
    folders = {
        "JPEGImages": "the images",
        "SegmentationClass": "the masks of train and val",
        "Annotations": "what the labels are made from",
    }
    missing = [name for name in folders if not (root / name).is_dir()]
    problems = [f"{root / name}: no such folder ({folders[name]}){hint(root / name, is_folder)}" for name in missing]
    for name in ("train", "val"):
        path = split_path(root, name)
        if not path.is_file():
            problems.append(f"{path}: no such file (the {name} list){hint(path, is_file)}")
    if "Annotations" in missing and (root / "cls_labels.npy").is_file():
        problems.append(
            f"{root / 'cls_labels.npy'}: this data set brings its labels along; it needs no preparing, give the "
            f"scripts these labels and the lists in {root / 'ImageSets' / 'Segmentation'}"
        )
    raise_problems(f"--voc12_root {root}: expected VOC2012 of VOC's development kit; nothing written", problems)
    for path in (*(root / name for name in folders), root / AUG_FOLDER):
        if path.exists():
            require_folder(path, "--voc12_root", "of VOC's development kit")


def augmented_ids(root: Path) -> list[str]:
    """The ids of the masks in SegmentationClassAug, sorted; none where there is no such folder.

    Raises `UserError` if the masks are elsewhere near: with those of train.txt alone a seventh of the data would do.
    """
    if problem := masks_elsewhere(root):
        raise UserError(f"--voc12_root: {problem}; nothing written")
    ids = [path.stem for path in visible(root / AUG_FOLDER, ".png")]
    problems = [f"{identifier!r}: the id {problem}" for identifier in ids if (problem := id_problem(identifier))]
    raise_problems(f"{root / AUG_FOLDER}: file names that are no ids; rename them", problems)
    return ids


def find_lists(root: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The ids of each list that the kit allows for, and notes on what it lacks.

    train and val come from ImageSets, and so does test where it is and its images are; train_aug is all of
    SegmentationClassAug, else trainaug.txt, else train, each without val.
    """
    flag = "--voc12_root"
    lists = {name: read_ids(split_path(root, name), flag) for name in ("train", "val")}
    notes = []

    if augmented := augmented_ids(root):
        source = None
    elif split_path(root, "trainaug").is_file():
        augmented, source = read_ids(split_path(root, "trainaug"), flag), "trainaug.txt"
    else:
        augmented, source = lists["train"], "train.txt"
    if source is not None:
        notes.append(f"no masks in {root / AUG_FOLDER}: train_aug is made from {source}; {AUG_ADVICE}")
    validation = set(lists["val"])
    lists["train_aug"] = [identifier for identifier in augmented if identifier not in validation]
    if not lists["train_aug"]:
        found = f"every id of {source or AUG_FOLDER} is in val.txt too"
        raise UserError(f"{flag} {root}: nothing to train on, {found}; nothing written; {AUG_ADVICE}")

    advice = "to score on the test set get VOC's test images and their list, and run this again"
    if not split_path(root, "test").is_file():
        notes.append(f"no {split_path(root, 'test')}: no test list; {advice}")
    else:
        test = read_ids(split_path(root, "test"), flag)
        if any((root / "JPEGImages" / f"{identifier}.jpg").exists() for identifier in test):
            lists["test"] = test
        else:
            notes.append(f"no test image is in {root / 'JPEGImages'}: no test list; {advice}")
    return lists, notes


def expect_kit_files(root: Path, lists: dict[str, list[str]], saliency_root: Path | None) -> None:
    """Raise `UserError` if all files of a kind lie elsewhere or have another ending."""
    source = Source("--voc12_root", split_path(root, "train"))
    for folder, ending, endings in (
        ("JPEGImages", ".jpg", IMAGE_ENDINGS),
        ("SegmentationClass", ".png", LABEL_MAP_ENDINGS),
        ("Annotations", ".xml", ()),
    ):
        expect_files(
            lists["train"], root / folder, ending, flag="--voc12_root", source=source, endings=endings, fixed=True
        )
    if saliency_root is not None:
        source = Source("train_aug of --voc12_root", root)
        expect_files(lists["train_aug"], saliency_root, ".png", flag="--saliency_root", source=source)


def unique(*lists: Sequence[str]) -> list[str]:
    """The ids that are in any of `lists`, each once, in order of appearance."""
    return list(dict.fromkeys(identifier for ids in lists for identifier in ids))


def find_problems(root: Path, lists: dict[str, list[str]], saliency_root: Path | None) -> list[str]:
    """One line for each image, mask and saliency map of `lists` that a stage could not use."""
    masked = set(lists["train"]) | set(lists["val"])
    salient = set(lists["train_aug"]) if saliency_root is not None else set()

    def check(identifier: str) -> list[str]:
        image = root / "JPEGImages" / f"{identifier}.jpg"
        saliency = saliency_root / f"{identifier}.png" if identifier in salient else None
        masks = [root / "SegmentationClass" / f"{identifier}.png"] if identifier in masked else []
        augmented = root / AUG_FOLDER / f"{identifier}.png"
        if augmented.exists() or augmented.is_symlink():  # a link to nothing is a fault, too
            masks.append(augmented)
        return image_problems(image, saliency, decode=True) + mask_problems(masks, image, VOC12)

    return run_checks(check, unique(*lists.values()), "images and masks")


def main() -> None:
    args = parse_arguments()
    root = Path(args.voc12_root)
    if not args.check or what_is_at(root) != NOTHING:
        require_folder(root, "--voc12_root", "VOC2012 of VOC's development kit")
    if args.check:
        sys.exit(0 if show_state(root, Path(args.saliency_root or root / "saliency"), Path(args.out)) else 1)
    saliency_root = args.saliency_root
    if saliency_root is not None:
        saliency_root = require_folder(saliency_root, "--saliency_root", "maps, <id>.png")
    check_layout(root)
    out = Path(args.out)
    make_folder(out)
    lists, notes = find_lists(root)
    for name, ids in lists.items():
        print(f"found {name}: {len(ids)} images")
    for note in notes:
        print(f"note: {note}")

    expect_kit_files(root, lists, saliency_root)
    started, num_images = time.perf_counter(), len(unique(*lists.values()))
    problems = find_problems(root, lists, saliency_root)
    if saliency_root is not None and not problems:
        try:
            for note in check_saliency(saliency_root, lists["train_aug"]):
                print(f"note: {note}")
        except UserError as error:
            problems.append(str(error))
    # The images of the test set come without annotations.
    annotated = [i for i in lists.get("test", ()) if (root / "Annotations" / f"{i}.xml").exists()]
    labelled = unique(lists["train"], lists["val"], lists["train_aug"], annotated)
    labels, faulty_annotations = labels_from_annotations(root / "Annotations", labelled, VOC12)
    problems += faulty_annotations
    report_checked(num_images, started, problems, f"--voc12_root {root}")
    per_class = np.sum(list(labels.values()), axis=0, dtype=int)
    print("images with " + ", ".join(f"{name} {count}" for name, count in zip(CLASSES, per_class, strict=True)))
    write_prepared(out, labels, {**lists, "train_600": lists["train"][:FEW]})


if __name__ == "__main__":
    run_script(main)
