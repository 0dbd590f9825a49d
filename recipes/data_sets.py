"""The data sets that recipes with label maps run on: which commands make them, where their parts lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tool.lists import read_ids
from tool.places import visible
from tool.recipe import Setup


class Layout(NamedTuple):
    """What a recipe's stages are told of a data set.

    generator: the module that draws a small one, with as many images to train on as `size_flag` says. preparation: the
    module that makes its labels and lists. images, masks: the folders below the data set's own, which is "". lists:
    its lists by VOC's names: train_aug to learn from, train to score seeds on, train_first some of these, val and test
    to score segmentation on. flag: what --data_set says of it, None for the scripts' default. keys: of stage 3, that
    differ from config.py's.
    """

    generator: str
    size_flag: str
    preparation: str
    images: str
    masks: str
    lists: Mapping[str, str]
    flag: str | None
    keys: Mapping[str, Any]


LAYOUTS = {
    "voc12": Layout(
        generator="voc12.mini",
        size_flag="train_aug",
        preparation="voc12.prepare",
        images="JPEGImages",
        masks="SegmentationClass",
        lists={name: name for name in ("train_aug", "train", "val", "test")} | {"train_first": "train_600"},
        flag=None,
        keys={},
    ),
    "coco14": Layout(
        generator="coco14.mini",
        size_flag="train",
        preparation="coco14.prepare",
        images="",
        masks="",
        lists={"train_aug": "train", "train": "train_1000", "train_first": "train_1000", "val": "val"},
        flag="coco14",
        keys={"DATA_SET": "coco14", "DATA_AUG": False},  # the list is train.txt
    ),
}
# Photographs of a user's own, in VOC's place; recipes' small data is never these.
OWN = "own"
LAYOUTS[OWN] = LAYOUTS["voc12"]._replace(
    preparation="own.prepare", lists={**LAYOUTS["voc12"].lists, "train_first": "train"}
)


def layout(setup: Setup) -> Layout:
    found = LAYOUTS[setup.data_set]
    if setup.data_set != OWN:
        return found
    described = setup.data_root / "set.json"
    return found._replace(flag=str(described), keys={"DATA_SET": described})


def first_to_submit(setup: Setup) -> tuple[Path, ...]:
    """The list of VOC's test set and the first of its images, where both are there: only then `prepare` makes the list
    of them."""
    listed = setup.data_root / "ImageSets" / "Segmentation" / "test.txt"
    if setup.data_set != "voc12" or not listed.is_file():
        return ()
    images = (setup.data_root / layout(setup).images / f"{each}.jpg" for each in read_ids(listed, "--voc12_root"))
    there = next((path for path in images if path.exists()), None)
    return () if there is None else (listed, there)


def what_a_user_changes(setup: Setup) -> tuple[Path, ...]:
    """The files and folders that say what own photographs are, and VOC's test set, which may come later: others are as
    they were downloaded."""
    if setup.data_set != OWN:
        return first_to_submit(setup)
    folders = (setup.data_root / name for name in ("", layout(setup).images, layout(setup).masks))
    files = ("set.json", "labels.json", "cls_labels.npy", "train.txt", "val.txt", "test.txt")
    return (*folders, setup.saliency_root, *(setup.data_root / name for name in files))


def has_masks(setup: Setup, list_name: str) -> bool:
    """Whether images of VOC's list of that name, train or val, have masks to score with: own photographs need none."""
    if setup.data_set != OWN:
        return True
    val = setup.data_root / "val.txt"
    scored = {*read_ids(val, f"--{OWN}_root")} if val.is_file() else set()
    if list_name == "val":
        return len(scored) > 0
    masks = visible(setup.data_root / layout(setup).masks, ".png")
    return any(path.stem not in scored for path in masks)


def image_flags(setup: Setup) -> dict[str, Any]:
    """The flags of any stage for its images, and for which data set's they are."""
    return {"data_root": setup.data_root / layout(setup).images, "data_set": layout(setup).flag}


def truth_flags(setup: Setup, list_name: str) -> dict[str, Any]:
    """The flags of `eval.py` for the true masks of a list, of VOC's name."""
    masks = setup.data_root / layout(setup).masks
    return {"list": list_file(setup, list_name), "gt_dir": masks, "data_set": layout(setup).flag}


def list_file(setup: Setup, list_name: str) -> Path:
    """The list that `prepare` makes for VOC's of that name."""
    return setup.out / "data" / f"{layout(setup).lists[list_name]}.txt"
