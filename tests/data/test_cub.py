"""What is refused of a data set in CUB's layout, by file and number; and any number of classes."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from cub import mini
from data.cub import BEYOND, check_boxed_images, read_cub, scaled_box
from tool.cli import UserError


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    return mini.generate(tmp_path_factory.mktemp("cub"), seed=1, train=8, test=4, size=40)


@pytest.fixture
def root(generated, tmp_path):
    return shutil.copytree(generated, tmp_path / "cub")


def change(path, number, line):
    """Replace line `number` of a file, from 1; None removes it."""
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if line is None else [line]
    path.write_text("".join(f"{each}\n" for each in lines))


def test_the_generated_set_is_read_and_its_boxes_are_those_of_the_shapes(generated):
    cub = read_cub(generated)
    assert (len(cub.train), len(cub.test), cub.data_set.num_classes) == (8, 4, len(mini.LOOKS))
    assert not cub.data_set.background and cub.data_set.classes[1] == "002.yellow_square"
    assert cub.train.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    check_boxed_images(cub.train, generated, decode=True)
    for index in range(4):
        scene = mini.draw_scene(1, 8 + index, size=40)
        assert cub.test.boxes[index] == [tuple(map(float, scene.box))]
        with Image.open(cub.test.paths[index]) as image:
            assert image.size == scene.image.shape[1::-1]


FAULTS = [
    ("bounding_boxes.txt", 3, "3 1 2 30", "bounding_boxes.txt, line 3: expected a number and a box"),
    ("bounding_boxes.txt", 3, "3 1 2 nan 5", "bounding_boxes.txt: image 3: expected numbers"),
    ("bounding_boxes.txt", 3, "3 1 2 0 5", "bounding_boxes.txt: image 3: expected numbers"),
    ("bounding_boxes.txt", 3, None, "bounding_boxes.txt: no line of image 3"),
    ("image_class_labels.txt", 2, "2 7", "image_class_labels.txt: image 2: class 7, expected 1 to 6"),
    ("image_class_labels.txt", 2, "1 1", "image_class_labels.txt, line 2: 1 stands there before"),
    ("train_test_split.txt", 4, "4 2", "train_test_split.txt: image 4: split 2, expected 1 (train) or 0 (test)"),
    ("train_test_split.txt", 4, "99 1", "train_test_split.txt: image 99 is not in images.txt"),
    ("images.txt", 1, "1 ../../etc/passwd", "expected a file below images/"),
    ("classes.txt", 1, None, "expected classes 1, 2, ... in their order"),
]


@pytest.mark.parametrize(("name", "number", "line", "said"), FAULTS, ids=[fault[3][:40] for fault in FAULTS])
def test_a_wrong_line_is_named(root, name, number, line, said):
    change(root / name, number, line)
    with pytest.raises(UserError) as error:
        read_cub(root)
    assert said in str(error.value)


def test_all_that_is_wrong_is_named_at_once(root):
    change(root / "bounding_boxes.txt", 1, "1 a b c d")
    change(root / "train_test_split.txt", 2, "2 x")
    with pytest.raises(UserError, match=r"(?s)\(2\):.*image 2.*image 1"):
        read_cub(root)


@pytest.mark.parametrize("box", ["-3 0 10 10", "0 0 10 400", "500 500 5 5"])
def test_a_box_outside_its_image_is_refused_by_file_and_number(root, box):
    change(root / "bounding_boxes.txt", 2, f"2 {box}")
    cub = read_cub(root)
    with pytest.raises(UserError, match=f"bounding_boxes.txt: image 2: the box {box} .*lies outside its image, .*jpg"):
        check_boxed_images(cub.train, root)


def test_a_box_may_end_at_the_border_and_several_may_be_in_an_image(root):
    cub = read_cub(root)
    with Image.open(cub.train.paths[1]) as image:
        width, height = image.size
    change(root / "bounding_boxes.txt", 2, f"2 1 1 {width + BEYOND - 1} {height}\n2 3 3 4 4")
    cub = read_cub(root)
    check_boxed_images(cub.train, root)
    assert len(cub.train.boxes[1]) == 2


def test_a_box_is_truncated_before_and_after_it_is_scaled():
    assert scaled_box((10.9, 0, 20.9, 50), (100, 50), 224) == (22, 0, 67, 223)


def test_a_damaged_and_a_missing_image_are_named_together(root):
    cub = read_cub(root)
    Path(cub.test.paths[0]).write_bytes(b"")
    Path(cub.test.paths[1]).unlink()
    with pytest.raises(UserError, match=r"(?s)\(2\):.*the file is empty.*no such file"):
        check_boxed_images(cub.test, root)
