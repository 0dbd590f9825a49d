"""Files and pictures of other data sets than VOC: as many classes as they have, with a background or without, in their
own colours."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.tool.report_runs import SHAPE, command, page_data
from tool.artifact import load_cam, load_crf, load_label_map, save_cam, save_crf, save_label_map
from tool.cli import UserError
from tool.colour import shifted_palette, voc_palette
from tool.dataset import DataSet
from tool.plot import error_colours, label_colours, overlay


def named(number: int, **own) -> DataSet:
    return DataSet("sets/shapes.json", "shapes", tuple(f"shape {k}" for k in range(number)), **own)


SEVEN, EIGHTY, ALL = named(7), named(80), named(254)
STUFF = named(171, background=False, palette=shifted_palette())
GREYS = np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[:, None], 3, axis=1)


def scores(*keys: int) -> dict[int, np.ndarray]:
    generator = np.random.default_rng(0)
    return {key: generator.random((4, 6), np.float32) for key in keys}


def posteriors(*labels: int) -> dict[int, np.ndarray]:
    maps = scores(*labels)
    return {label: values / sum(maps.values()) for label, values in maps.items()}


@pytest.mark.parametrize("data_set", [SEVEN, EIGHTY, ALL, STUFF], ids=lambda data_set: str(data_set.num_labels))
def test_files_hold_the_first_and_the_last_class_and_no_further_one(tmp_path, data_set):
    last, label = data_set.num_classes - 1, data_set.num_labels - 1
    assert label == data_set.label_of(last)
    cams, labels = scores(0, last), np.array([[0, label, 255]], np.uint8)
    save_cam(tmp_path / "a.npy", cams, data_set)
    assert list(load_cam(tmp_path / "a.npy", data_set)) == [0, last]
    save_crf(tmp_path / "b.npy", posteriors(0, label), data_set)
    assert list(load_crf(tmp_path / "b.npy", data_set)) == [0, label]
    save_label_map(tmp_path / "a.png", labels, data_set)
    np.testing.assert_array_equal(load_label_map(tmp_path / "a.png", data_set), labels)
    with pytest.raises(UserError, match=f"expected CAMs by class, keys 0 to {last}, found the key {last + 1}"):
        save_cam(tmp_path / "c.npy", scores(1, last + 1), data_set)
    with pytest.raises(UserError, match=f"CRF posteriors by label, keys 0 to {label}, found the key {label + 1}"):
        save_crf(tmp_path / "c.npy", posteriors(0, label + 1), data_set)
    if data_set is not ALL:
        with pytest.raises(UserError, match=f"expected labels 0 to {label} or 255, found {label + 1}$"):
            save_label_map(tmp_path / "c.png", np.array([[label + 1]], np.uint8), data_set)


def test_posteriors_need_label_0_only_where_it_is_background(tmp_path):
    save_crf(tmp_path / "a.npy", posteriors(2, 5), STUFF)
    assert list(load_crf(tmp_path / "a.npy", STUFF)) == [2, 5]
    with pytest.raises(UserError, match="no background, key 0"):
        load_crf(tmp_path / "a.npy", SEVEN)
    with pytest.raises(UserError, match="holds CRF posteriors"):
        load_cam(tmp_path / "a.npy", STUFF)


def test_irns_padded_keys_are_told_by_the_number_of_classes(tmp_path):
    """Key 7 is no class of seven, so that 0 before it is background; of eighty it is one, and 0 another."""
    maps = np.stack(list(scores(0, 1).values()))
    np.save(tmp_path / "a.npy", {"keys": np.array([0, 7]), "high_res": maps}, allow_pickle=True)
    assert list(load_cam(tmp_path / "a.npy", SEVEN)) == [6]
    assert list(load_cam(tmp_path / "a.npy", EIGHTY)) == [0, 7]


@pytest.mark.parametrize("data_set", [STUFF, named(20, palette=GREYS), SEVEN])
@pytest.mark.parametrize("whole", [True, False])
def test_a_mask_in_the_data_sets_colours_or_in_vocs_is_read(tmp_path, data_set, whole):
    """Those of a data set without background are VOC's shifted by one: each index has another label's of VOC's."""
    labels = np.array([[0, 1, 2, 6, 255 if whole else 3]], np.uint8)
    for palette in (data_set.palette, voc_palette()):
        image = Image.fromarray(labels)
        image.putpalette(palette.tobytes() if whole else palette[:8].tobytes())
        image.save(tmp_path / "a.png")
        np.testing.assert_array_equal(load_label_map(tmp_path / "a.png", data_set), labels)


def test_colours_that_were_quantised_are_refused_by_the_data_sets_own_palette(tmp_path):
    data_set = named(20, palette=GREYS)
    colours = data_set.palette[np.array([[0, 5, 9]])]
    Image.fromarray(colours).quantize(256).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"found colours \(index \d has the colour of label \d in shapes's palette\)$"):
        load_label_map(tmp_path / "a.png", data_set)


def test_a_label_map_is_written_in_the_data_sets_colours(tmp_path):
    save_label_map(tmp_path / "a.png", np.array([[0, 3]], np.uint8), STUFF)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB"))[0], voc_palette()[[1, 4]])


def test_without_a_background_label_0_is_drawn_and_no_object_is_missed():
    labels, truth = np.array([[0, 1, 0]], np.uint8), np.array([[1, 1, 0]], np.uint8)
    assert label_colours(labels, STUFF)[0, 0].tolist() == [*STUFF.palette[0], 255]
    assert label_colours(labels, SEVEN)[0, 0, 3] == 0
    assert error_colours(labels, truth, STUFF)[0].tolist() == [[204, 121, 167, 255], [0] * 4, [0] * 4]
    assert error_colours(labels, truth, SEVEN)[0, 0].tolist() == [213, 94, 0, 255]
    picture = overlay(np.zeros((9, 9, 3), np.uint8), {0: np.ones((9, 9))}, {"map": np.zeros((9, 9), np.uint8)}, STUFF)
    assert picture.shape[0] > 40  # it has a legend, of the one label


@pytest.mark.parametrize("background", [True, False])
def test_a_report_is_of_the_data_set_that_the_run_names(tmp_path, background):
    """And of the one that the flag names, where the record's file is gone."""
    path = tmp_path / "shapes.json"
    names = [*(["background"] if background else []), "disc", "bar", "<ring>"]
    path.write_text(json.dumps({"names": names}))
    shapes = DataSet(str(path), "shapes", tuple(names[background:]), background)
    data, run = tmp_path / "data", tmp_path / "run"
    for folder in (data / "JPEGImages", data / "SegmentationClass", run / "cam_npy", run / "cam_png"):
        folder.mkdir(parents=True)
    (run / "args.json").write_text(json.dumps({"data_set": str(path)}))
    truth = np.zeros(SHAPE, np.uint8)
    truth[:9] = len(names) - 1
    Image.new("RGB", SHAPE[::-1]).save(data / "JPEGImages" / "a.jpg")
    save_label_map(data / "SegmentationClass" / "a.png", truth, shapes)
    save_label_map(run / "cam_png" / "a.png", np.full_like(truth, len(names) - 1), shapes)
    save_cam(run / "cam_npy" / "a.npy", {2: np.linspace(0, 1, truth.size, dtype=np.float32).reshape(SHAPE)}, shapes)
    done = command("--run", run, "--data_root", data)
    assert done.returncode == 0, done.stderr
    page = run / "report.html"
    found = page_data(page)
    assert found["names"] == names and "shapes's</option>" in page.read_text()
    last = len(names) - 1
    assert found["images"][0]["labels"] == ([3] if background else [0, 2])
    assert f"0 cam {last}" in found["images"][0]["pictures"]
    assert ("CAM, best threshold" in page.read_text()) == background
    path.unlink()
    done = command("--run", run, "--data_root", data)
    assert done.returncode == 2 and str(path) in done.stderr and "Traceback" not in done.stderr
    assert command("--run", run, "--data_root", data, "--data_set", "voc12").returncode == 0
