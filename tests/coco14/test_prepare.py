"""`python -m coco14.prepare` and `coco14.mini`: masks, labels and lists of the generated layout, going on, refusals."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from coco14 import mini
from coco14.classes import CLASSES, COCO14, MASKS, MISSPELT_MASKS, SPLITS
from data.labels import load_labels
from tests.coco14.conftest import SETTINGS, Coco, prepare
from tests.scripts.conftest import assert_refused, assert_succeeded, contents, truncate
from tool.artifact import load_label_map
from tool.lists import read_ids

TRAIN, VAL = SPLITS
SCENES = {TRAIN: range(12), VAL: range(12, 24)}
EMPTY = mini.image_id(TRAIN, 11)


def class_of(item) -> int:
    name = mini.VOC_CLASSES[item.class_index]
    return CLASSES.index(mini.OTHER_NAMES.get(name, name))


def scenes():
    """Each image's id, split, number and scene, drawn anew."""
    for split, indices in SCENES.items():
        for index in indices:
            yield mini.image_id(split, index), split, index, mini.draw(SETTINGS["seed"], index, size=SETTINGS["size"])


@pytest.fixture
def copy(coco, tmp_path) -> Coco:
    """The data set, and nothing made of it."""
    shutil.copytree(coco.root, tmp_path / "COCO", ignore=shutil.ignore_patterns(MASKS))
    return Coco(tmp_path / "COCO", tmp_path / "lists")


def rewrite(path, change) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


# -- what is made ------------------------------------------------------------------------------------------------------


def test_masks_show_what_is_seen_of_each_object_and_leave_crowds_out(coco):
    """Objects behind smaller ones are annotated whole: where they overlap, the drawing says who is in front."""
    crowds = overlaps = 0
    for identifier, split, index, scene in scenes():
        expected = np.zeros(scene.mask.shape, np.uint8)
        for number, (item, seen) in enumerate(zip(scene.objects, scene.seen, strict=True)):
            is_crowd = mini.is_crowd(scene, index, number)
            expected[seen] = 255 if is_crowd else class_of(item) + 1
            crowds += is_crowd
        overlaps += int((np.sum(mini.regions(scene), axis=0) > 1).any()) if scene.objects else 0
        found = load_label_map(coco.root / MASKS / split / f"{identifier}.png", COCO14)
        np.testing.assert_array_equal(found, expected, err_msg=identifier)
    assert crowds >= 2 and overlaps >= 3


def test_labels_are_those_of_all_annotations_and_an_image_without_any_has_zeros_and_is_in_no_list(coco):
    labels = load_labels(coco.lists / "cls_labels.npy", COCO14)
    drawn = {identifier: {class_of(item) for item in scene.objects} for identifier, _, _, scene in scenes()}
    assert {identifier: {*np.flatnonzero(label).tolist()} for identifier, label in labels.items()} == drawn
    assert drawn[EMPTY] == set() and labels[EMPTY].shape == (80,)
    lists = {name: read_ids(coco.lists / f"{name}.txt") for name in ("train", "val", "train_1000")}
    assert lists["train"] == lists["train_1000"] == [i for i in drawn if TRAIN in i and i != EMPTY]
    assert lists["val"] == [i for i in drawn if VAL in i and drawn[i]] and len(lists["val"]) == 11


def test_the_generated_layout_is_cocos_and_of_its_settings_alone(coco, tmp_path):
    again = mini.generate(tmp_path, **SETTINGS)
    made = contents(again)
    assert made == {name: digest for name, digest in contents(coco.root).items() if not name.startswith(MASKS)}
    assert {name.split("/")[0] for name in made} == {*SPLITS, "annotations", "saliency", "mini.json"}
    found = json.loads(coco.annotations(TRAIN).read_text())
    kinds = {(item["iscrowd"], type(item["segmentation"])) for item in found["annotations"]}
    assert kinds == {(0, list), (1, dict)} and len(found["categories"]) == 80
    for image in found["images"]:
        with Image.open(coco.root / TRAIN / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"])


def test_running_again_redoes_what_is_missing_or_damaged_and_takes_masks_of_the_misspelt_folder(copy):
    assert_succeeded(prepare(copy.root, copy.lists))
    before = contents(copy.root)
    shutil.move(copy.root / MASKS / VAL, copy.root / MISSPELT_MASKS / VAL)
    folder = copy.root / MASKS / TRAIN
    truncate(folder / f"{mini.image_id(TRAIN, 0)}.png", 20)
    (folder / f"{mini.image_id(TRAIN, 1)}.png").unlink()
    kept = folder / f"{mini.image_id(TRAIN, 2)}.png"
    old = kept.stat().st_ino
    done = prepare(copy.root, copy.lists)
    assert_succeeded(done)
    assert "wrote 1 masks and looked at 23 that were there" in done.stdout
    assert kept.stat().st_ino == old
    moved = {name.replace(f"{MISSPELT_MASKS}/", f"{MASKS}/") for name in contents(copy.root)}
    assert {name for name in moved if name.endswith(".png")} == {name for name in before if name.endswith(".png")}
    assert contents(folder) == {name.split("/")[-1]: before[name] for name in before if f"{MASKS}/{TRAIN}/" in name}


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_every_fault_of_the_images_is_named_and_nothing_written(copy):
    names = [mini.image_id(TRAIN, number) for number in range(3)]
    (copy.root / TRAIN / f"{names[0]}.jpg").unlink()
    truncate(copy.root / TRAIN / f"{names[1]}.jpg", 9)
    Image.new("RGB", (9, 7)).save(copy.root / TRAIN / f"{names[2]}.jpg")
    Image.new("L", (9, 7)).save(copy.root / "saliency" / f"{names[2]}.png")
    before = contents(copy.root)
    done = prepare(copy.root, copy.lists, "--saliency_root", copy.root / "saliency")
    said = [f"{names[0]}.jpg: no such file", f"{names[1]}.jpg: the image is truncated", f"{names[2]}.jpg: expected "]
    assert_refused(done, "--coco14_root", "(3):", *said, "as annotated, found 9 x 7")
    assert contents(copy.root) == before and not copy.lists.exists()


def test_every_fault_of_the_annotations_of_both_files_is_named_at_once(copy):
    def foreign(found):
        found["annotations"][0]["image_id"] = 999
        found["annotations"][1]["category_id"] = 12

    rewrite(copy.annotations(TRAIN), foreign)
    rewrite(copy.annotations(VAL), lambda found: found["categories"][0].update(name="cat"))
    before = contents(copy.root)
    said = ["instances_train2014.json: annotation 100: image_id 999: the file has no such image"]
    said += [": category_id 12: expected one of COCO's 80 categories"]
    said += ["instances_val2014.json: category 1: expected person, found cat"]
    assert_refused(prepare(copy.root, copy.lists), "annotations that cannot be used; nothing written (3):", *said)
    assert contents(copy.root) == before and not copy.lists.exists()


def test_a_folder_that_is_not_cocos_is_refused_with_what_lacks(copy, tmp_path):
    copy.annotations(VAL).unlink()
    (copy.root / VAL).rename(copy.root.parent / VAL)
    done = prepare(copy.root, copy.lists)
    assert_refused(done, "(2):", f"{copy.annotations(VAL)}: expected a file", f"did you mean {tmp_path / VAL}?")


def test_annotations_without_an_object_leave_nothing_to_learn(copy):
    rewrite(copy.annotations(TRAIN), lambda found: found.update(annotations=[]))
    assert_refused(prepare(copy.root, copy.lists), "instances_train2014.json: expected objects, found none")
