"""Reading COCO's JSON, hostile or not, and which label a pixel of several instances gets."""

import json
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from coco14.annotations import Annotated, Instance, _packed, read_instances
from coco14.masks import label_map
from coco14.mini import polygons, run_lengths
from tool.cli import UserError

HEIGHT, WIDTH = 12, 16
IMAGE = {"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "height": HEIGHT, "width": WIDTH}
SQUARE = [1, 1, 9, 1, 9, 9, 1, 9]
ANNOTATION = {"id": 1, "image_id": 9, "category_id": 90, "iscrowd": 0, "segmentation": [SQUARE]}
ID = "COCO_train2014_000000000009"


@pytest.fixture
def write(tmp_path):
    """A function that writes a file of one image and one annotation, which changes of these make another."""

    def write(image=None, annotation=None, **parts):
        found = {"images": [{**IMAGE, **(image or {})}], "annotations": [{**ANNOTATION, **(annotation or {})}]}
        path = tmp_path / "instances_train2014.json"
        path.write_text(json.dumps({**found, "categories": [], **parts}))
        return path

    return write


def region(top, left, bottom, right) -> np.ndarray:
    found = np.zeros((HEIGHT, WIDTH), bool)
    found[top:bottom, left:right] = True
    return found


def instance(class_index, where, *, is_crowd=False) -> Instance:
    if is_crowd:
        return Instance(class_index, True, np.array(run_lengths(where)["counts"]))
    return Instance(class_index, False, [np.array(part) for part in polygons(where)])


# -- outlines and masks ------------------------------------------------------------------------------------------------


def test_the_smaller_of_two_is_in_front_whatever_their_order_and_crowds_are_behind_all():
    table, cup, people = region(2, 2, 10, 14), region(4, 5, 7, 8), region(0, 0, 12, 4)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[people], expected[table], expected[cup] = 255, 61, 42
    found = [instance(60, table), instance(41, cup), instance(0, people, is_crowd=True)]
    for order in (found, found[::-1]):
        np.testing.assert_array_equal(label_map(Annotated((HEIGHT, WIDTH), order)), expected)


def test_of_equals_the_later_is_in_front_and_what_encloses_nothing_leaves_no_pixel():
    where, line = region(1, 1, 4, 4), Instance(5, False, [])
    found = label_map(Annotated((HEIGHT, WIDTH), [instance(3, where), line, instance(4, where)]))
    np.testing.assert_array_equal(found, where * np.uint8(5))


def test_an_image_without_instances_is_background():
    assert not label_map(Annotated((HEIGHT, WIDTH), [])).any()


def test_packed_run_lengths_are_read_as_pycocotools_packs_them():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 5), (480, 640)):
        for share in (0.01, 0.5, 1):
            pixels = rng.random(shape) < share
            packed = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
            assert _packed(packed).tolist() == run_lengths(pixels)["counts"]


def test_both_forms_of_run_lengths_are_crowds_and_polygons_of_two_points_are_left_out(write):
    people = region(0, 0, 12, 4)
    packed = coco_mask.encode(np.asfortranarray(people.astype(np.uint8)))["counts"].decode()
    for counts in (run_lengths(people)["counts"], packed):
        crowd = {"iscrowd": 1, "segmentation": {"counts": counts, "size": [HEIGHT, WIDTH]}}
        images, problems = read_instances(write(annotation=crowd))
        assert not problems and images[ID].instances[0].is_crowd
        np.testing.assert_array_equal(label_map(images[ID]), people * np.uint8(255))
    images, problems = read_instances(write(annotation={"segmentation": [[1, 1, 2, 2], SQUARE]}))
    assert not problems and [part.tolist() for part in images[ID].instances[0].where] == [SQUARE]
    assert (images[ID].shape, images[ID].instances[0].class_index) == ((HEIGHT, WIDTH), 79)


# -- hostile files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"images": [', "cannot be read as JSON"),
        (b"\xff\xfe\0\0", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1, 2]", "expected an object with lists of images, annotations, categories, found list"),
        (b'{"images": [], "id": 1}', r"found of these \['id', 'images'\]|found of these \['images', 'id'\]"),
        (b'{"images": {}, "annotations": [], "categories": []}', "expected an object with lists of images"),
    ],
)
def test_a_file_that_is_no_cocos_is_one_line(tmp_path, text, said):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(UserError, match=said) as error:
        read_instances(tmp_path / "a.json")
    assert str(error.value).startswith("--coco14_root") and "\n" not in str(error.value)


RUNS = [0, 192]  # all pixels
FAULTS = {
    "no id": ({"id": "9"}, {}, "image 9: expected a whole number, its id"),
    "another ending": ({"file_name": "a.png"}, {}, "expected a file_name, <id>.jpg, found a.png"),
    "a path": ({"file_name": "../a.jpg"}, {}, "has a path separator"),
    "no size": ({"height": None}, {}, r"expected height and width in pixels, found \[None, 16\]"),
    "a huge size": ({"width": 1 << 40}, {}, "expected height and width in pixels"),
    "no outline": ({}, {"segmentation": None}, "expected polygons or run lengths, found None"),
    "a text": ({}, {"segmentation": [["a", "b"]]}, "expected polygons, lists of x1, y1"),
    "half a point": ({}, {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "expected polygons"),
    "points in lists": ({}, {"segmentation": [[[1, 2], [3, 4], [5, 6]]]}, "expected polygons"),
    "not a number": ({}, {"segmentation": [[float("nan"), *SQUARE[1:]]]}, "points far outside of the image"),
    "far away": ({}, {"segmentation": [[1e9, *SQUARE[1:]]]}, "points far outside of the image"),
    "another size": ({}, {"segmentation": {"counts": RUNS, "size": [16, 12]}}, r"size of its image, \[12, 16\], found"),
    "too few": ({}, {"segmentation": {"counts": [0, 191], "size": [12, 16]}}, "that add up to 192, found others"),
    "negative": ({}, {"segmentation": {"counts": [-8, 200], "size": [12, 16]}}, "add up to 192"),
    "no numbers": ({}, {"segmentation": {"counts": ["a"], "size": [12, 16]}}, "add up to 192"),
    "none": ({}, {"segmentation": {"counts": [], "size": [12, 16]}}, "add up to 192"),
    "overflow": ({}, {"segmentation": {"counts": [2**62] * 4 + [192], "size": [12, 16]}}, "add up to 192"),
    "broken text": ({}, {"segmentation": {"counts": "ooooooooooooo0", "size": [12, 16]}}, "add up to 192"),
    "cut text": ({}, {"segmentation": {"counts": "0o", "size": [12, 16]}}, "add up to 192"),
    "a crowd of 2": ({}, {"iscrowd": 2}, "expected an iscrowd of 0 or 1, found 2"),
    "a class in words": ({}, {"category_id": "cat"}, "category_id cat: expected one of COCO's 80 categories"),
    "no image": ({}, {"image_id": [9]}, r"expected an image_id, found \[9\]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_with_its_number(write, fault):
    image, annotation, said = FAULTS[fault]
    _, problems = read_instances(write(image, annotation))
    assert len(problems) == (2 if image else 1), problems  # the annotation of an image that is not there, too
    assert problems[0].startswith(f"instances_train2014.json: {'image ' if image else 'annotation 1: '}")
    assert re.search(said, problems[0]), problems[0]


def test_entries_that_are_no_objects_and_come_twice_are_named(write):
    _, problems = read_instances(write(images=[IMAGE, IMAGE, 5], annotations=[None], categories=[{"id": 12}, 3]))
    said = ["category 12: expected one of COCO's 80", "category 3: expected", "image 9: expected each id", "image 5:"]
    assert len(problems) == 5 and all(words in problem for words, problem in zip(said, problems, strict=False))
