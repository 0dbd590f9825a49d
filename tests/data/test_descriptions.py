"""`--data_set` takes a name or a JSON file, and says what is wrong with one."""

import argparse
import json

import numpy as np
import pytest

from coco14.classes import CLASS_OF_CATEGORY, COCO14
from data import DATASETS
from data.descriptions import OF_SCORES, add_data_set_flag, find_data_set, require_background
from data.score_table import summarise
from tool.cli import UserError
from tool.colour import voc_palette
from tool.dataset import IMAGE_SUFFIXES
from voc12.classes import VOC12

NAMES = ["background", "circle", "traffic light"]


@pytest.fixture
def describe(tmp_path):
    def write(**description):
        path = tmp_path / "shapes.json"
        path.write_text(json.dumps(description))
        return str(path)

    return write


def test_the_flag_takes_a_name_or_a_path_which_is_the_same_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_data_set_flag(parser)
    given = [parser.parse_args(words).data_set for words in ([], ["--data_set", "voc12"], ["--data_set", "a.json"])]
    assert given == ["voc12", "voc12", str(tmp_path / "a.json")]


def test_names_alone_make_a_data_set_of_vocs_layout(describe):
    path = describe(names=NAMES)
    found = find_data_set(path)
    assert (found.name, found.title, found.described_in) == (path, "shapes", path)
    assert (found.classes, found.background) == (("circle", "traffic light"), True)
    assert (found.num_classes, found.num_labels, found.label_names) == (2, 3, tuple(NAMES))
    assert (found.label_of(1), found.class_of(2)) == (2, 1)
    assert (found.images, found.masks, found.suffixes) == (VOC12.images, VOC12.masks, IMAGE_SUFFIXES)
    np.testing.assert_array_equal(found.palette, voc_palette())
    require_background(found)


def test_dhrs_form_without_a_background_has_class_0_as_label_0(describe):
    found = find_data_set(describe(ignore=255, names=NAMES[1:]))
    assert (found.background, found.num_classes, found.num_labels) == (False, 2, 2)
    assert (found.label_of(0), found.class_of(1), found.label_names) == (0, 1, tuple(NAMES[1:]))
    np.testing.assert_array_equal(found.palette[:2], voc_palette()[1:3])
    np.testing.assert_array_equal(found.palette[255], voc_palette()[255])
    with pytest.raises(UserError, match=r"shapes\.json: expected a data set with a background"):
        require_background(found)


def test_the_names_of_a_data_set_of_ours_bring_its_colours_unless_there_are_others(describe):
    names = list(DATASETS["ade"].label_names)
    np.testing.assert_array_equal(find_data_set(describe(names=names)).palette, DATASETS["ade"].palette)
    assert (find_data_set(describe(names=names, palette=[[1, 2, 3]] * 150)).palette[:150] == [1, 2, 3]).all()


def test_all_of_a_description_is_taken(describe):
    colours = [[0, 0, 0], [1, 2, 3], [255, 254, 253]]
    own = {"images": ["train2014", "val2014"], "masks": "masks", "suffixes": [".JPG"]}
    found = find_data_set(describe(names=NAMES, palette=colours, **own))
    assert (found.images, found.masks, found.suffixes) == (("train2014", "val2014"), ("masks",), (".JPG",))
    assert found.palette.dtype == np.uint8 and found.palette[:3].tolist() == colours
    np.testing.assert_array_equal(found.palette[3:], voc_palette()[3:])


def test_vocs_twenty_classes_have_the_name_of_their_folder():
    assert find_data_set("voc12") is DATASETS["voc12"] is VOC12
    assert VOC12.num_labels == 21


def test_cocos_eighty_classes_are_its_categories_in_their_order():
    """The numbers of categories have gaps: 90 is the last of 80."""
    assert find_data_set("coco14") is DATASETS["coco14"] is COCO14
    assert (COCO14.num_classes, COCO14.num_labels) == (80, 81)
    assert (COCO14.classes[0], COCO14.classes[-1]) == ("person", "toothbrush")
    assert list(CLASS_OF_CATEGORY.values()) == list(range(80)) and list(CLASS_OF_CATEGORY) == sorted(CLASS_OF_CATEGORY)
    named = {1: "person", 11: "fire hydrant", 13: "stop sign", 27: "backpack", 44: "bottle", 67: "dining table"}
    named |= {70: "toilet", 72: "tv", 82: "refrigerator", 84: "book", 90: "toothbrush"}
    assert {category: COCO14.classes[CLASS_OF_CATEGORY[category]] for category in named} == named


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({"names": []}, "names: expected a list of 1 to 255 texts"),
        ({"names": [""]}, "names: expected a list of 1 to 255 texts"),
        ({"names": ["a,b"]}, "texts without commas"),
        ({"names": [str(number) for number in range(256)]}, "names: expected a list of 1 to 255 texts"),
        ({"names": ["a", "b", "a"]}, "names: expected each once, found a again"),
        ({"names": ["a", "background"]}, "names: expected background to be the first, found it as number 2"),
        ({"names": ["mIoU", "cat"]}, "names: the table of scores needs mIoU for itself; choose another name"),
        ({"names": ["background"]}, "names: expected a class, found background alone"),
        (
            {"names": ["a"], "ignore": 0},
            "ignore: expected 255, the label of pixels that are left out, no",
        ),
        ({"names": ["a"], "palette": [[0, 0, 0]] * 2}, "palette: expected a colour for each of the 1 names, found 2"),
        ({"names": ["a"], "palette": [[0, 0, 256]]}, "palette: expected a list of colours"),
        ({"names": ["a"], "palette": [[0, 0, True]]}, "palette: expected a list of colours"),
        ({"names": ["a"], "images": ["/data"]}, "images: expected a list of folders below the data set's"),
        ({"names": ["a"], "images": "train"}, "images: expected a list of folders"),
        ({"names": ["a"], "masks": "../masks"}, "masks: expected a folder below the data set's"),
        ({"names": ["a"], "suffixes": ["jpg"]}, 'suffixes: expected a list of endings, as ".jpg"'),
        ({"names": ["a"], "colours": []}, "colours: unknown key; expected names, ignore, palette"),
        ({"classes": ["a"]}, 'expected an object with "names", found keys'),
    ],
)
def test_a_wrong_description_is_refused_with_its_key(describe, description, said):
    with pytest.raises(UserError) as error:
        find_data_set(describe(**description))
    assert "--data_set" in str(error.value) and "shapes.json" in str(error.value)
    assert said in str(error.value)


def test_no_label_has_the_name_of_a_figure_beside_the_labels_own(describe):
    """In the file of scores it would be written over."""
    data_set = find_data_set(describe(names=["a", "b"]))
    summary = summarise(np.ones((3, 2, 2)), data_set, thresholds=(0.2, 0.3))
    assert summary.keys() - {"a", "b"} == set(OF_SCORES)


def test_every_wrong_key_is_named_at_once(describe):
    with pytest.raises(UserError) as error:
        find_data_set(describe(names=5, palette=6, masks=7))
    assert str(error.value).count("\n") == 3


def test_what_is_no_description_is_refused_in_one_line(tmp_path):
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "half.json").write_text('{"names": ["a"')
    said = {
        "list.json": "found list",
        "half.json": "cannot be read as JSON",
        "none.json": "none.json",
        "coco": "expected voc12, coco14, context, ade, stuff or a .json file that describes a data set; did you mean"
        " coco14?",
    }
    for name, words in said.items():
        with pytest.raises(UserError, match=words) as error:
            find_data_set(str(tmp_path / name), "DATA_SET")
        assert str(error.value).startswith("DATA_SET") and "\n" not in str(error.value)
