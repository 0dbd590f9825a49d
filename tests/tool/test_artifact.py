"""Seeds survive the trip through a file, NumPy alone reads them, and what is no seed is refused."""

import os

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tool.artifact import atomic_file, load_cam, load_crf, load_label_map, save_cam, save_crf, save_label_map
from tool.cli import UserError
from tool.colour import voc_palette
from voc12.classes import VOC12


def random_cams(*classes, shape=(5, 7)):
    generator = np.random.default_rng(0)
    return {c: generator.random(shape, dtype=np.float32) for c in classes}


def random_posteriors(*labels, shape=(5, 7)):
    maps = np.random.default_rng(0).random((len(labels), *shape), dtype=np.float32) + 0.1
    return dict(zip(labels, maps / maps.sum(0), strict=True))


def assert_same_maps(actual, expected):
    assert list(actual) == list(expected)
    for key in expected:
        assert actual[key].dtype == np.float32
        np.testing.assert_array_equal(actual[key], expected[key])


# -- atomic files ------------------------------------------------------------------------------------------------------


def test_a_file_appears_only_when_its_block_has_ended(tmp_path):
    path = tmp_path / "whole.bin"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        (temporary,) = [other for other in tmp_path.iterdir() if other != path]
        assert temporary.name.startswith(".") and temporary.suffix == ".tmp"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "whole.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_gets_the_permissions_of_any_new_file(tmp_path):
    with atomic_file(tmp_path / "ours") as file:
        file.write(b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "far" / "file")
    with atomic_file(link) as file:
        file.write(b"x")
    assert link.is_symlink() and (tmp_path / "far" / "file").read_bytes() == b"x"


def test_a_link_to_itself_leads_nowhere_and_becomes_the_file(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with atomic_file(tmp_path / "loop") as file:
        file.write(b"x")
    assert not (tmp_path / "loop").is_symlink() and (tmp_path / "loop").read_bytes() == b"x"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_and_stays(tmp_path, make):
    make(tmp_path / "other")
    with pytest.raises(UserError, match="expected a file, found"), atomic_file(tmp_path / "other") as file:
        file.write(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["other"] and not (tmp_path / "other").is_file()


def test_a_folder_that_is_not_there_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"missing/x\.npy: cannot be written"):
        save_cam(tmp_path / "missing" / "x.npy", random_cams(1), VOC12)


# -- CAM and CRF dicts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [(), (0,), (19,), (14, 0, 3)])
def test_a_cam_dict_survives_the_trip_and_numpy_alone_reads_it(tmp_path, classes):
    cams = random_cams(*classes)
    save_cam(tmp_path / "a.npy", cams, VOC12)
    assert_same_maps(load_cam(tmp_path / "a.npy", VOC12), dict(sorted(cams.items())))
    assert_same_maps(np.load(tmp_path / "a.npy", allow_pickle=True).item(), dict(sorted(cams.items())))


@pytest.mark.parametrize("labels", [(0,), (0, 20), (0, 1, 15)])
def test_a_crf_dict_survives_the_trip_and_numpy_alone_reads_it(tmp_path, labels):
    posteriors = random_posteriors(*labels)
    save_crf(tmp_path / "a.npy", posteriors, VOC12)
    assert_same_maps(load_crf(tmp_path / "a.npy", VOC12), posteriors)
    assert_same_maps(np.load(tmp_path / "a.npy", allow_pickle=True).item(), posteriors)


def test_the_golden_cam_dicts_are_read_as_numpy_reads_them(golden):
    paths = sorted((golden / "eval" / "npy").glob("*.npy"))
    assert paths
    for path in paths:
        assert_same_maps(load_cam(path, VOC12), dict(sorted(np.load(path, allow_pickle=True).item().items())))


def test_float16_and_float64_maps_are_read_as_float32(tmp_path):
    for dtype in (np.float16, np.float64, ">f4"):
        np.save(tmp_path / "a.npy", {np.int64(2): random_cams(2)[2].astype(dtype)}, allow_pickle=True)
        cams = load_cam(tmp_path / "a.npy", VOC12)
        assert type(next(iter(cams))) is int
        assert cams[2].dtype == np.float32
        np.testing.assert_allclose(cams[2], random_cams(2)[2], atol=1e-3)


@pytest.mark.parametrize("labels", [(0,), (0, 1), (0, 20), (0, 3, 15)])
def test_crf_posteriors_are_never_read_as_cams(tmp_path, labels):
    for dtype in (np.float32, np.float16):
        posteriors = {label: maps.astype(dtype) for label, maps in random_posteriors(*labels).items()}
        np.save(tmp_path / "a.npy", posteriors, allow_pickle=True)
        with pytest.raises(UserError, match=r"a\.npy: .*--type crf"):
            load_cam(tmp_path / "a.npy", VOC12)


@pytest.mark.parametrize("classes", [(), (0,), (5,), (0, 1), (0, 3, 14)])
def test_cams_are_never_read_as_crf_posteriors(tmp_path, classes):
    save_cam(tmp_path / "a.npy", random_cams(*classes), VOC12)
    with pytest.raises(UserError, match=r"a\.npy: .*--type npy"):
        load_crf(tmp_path / "a.npy", VOC12)


@pytest.mark.parametrize("present", [(1,), (1, 0), (0, 1)], ids=str)
def test_flat_cams_of_a_tiny_image_are_not_taken_for_posteriors(tmp_path, present):
    value = np.float32(3) / (np.float32(3) + np.float32(1e-5))
    cams = {7 * number: np.full((1, 2), value * there, np.float32) for number, there in enumerate(present)}
    save_cam(tmp_path / "a.npy", cams, VOC12)
    assert_same_maps(load_cam(tmp_path / "a.npy", VOC12), cams)
    with pytest.raises(UserError, match="--type npy"):
        load_crf(tmp_path / "a.npy", VOC12)


def irn_maps(count, shape=(5, 7)):
    return np.random.default_rng(0).random((count, *shape), dtype=np.float32)


@pytest.mark.parametrize(
    ("keys", "maps", "classes"),
    [
        ([1, 4], 2, {1: 0, 4: 1}),
        ([0, 4], 2, {0: 0, 4: 1}),  # aeroplane, no background
        ([19], 1, {19: 0}),
        ([], 0, {}),
        ([0, 2, 5], 2, {1: 0, 4: 1}),  # labels, background in front
        ([0, 1], 1, {0: 0}),
        ([0, 2, 20], 3, {1: 1, 19: 2}),  # and a map for it
        ([0, 20], 1, {19: 0}),
    ],
)
@pytest.mark.parametrize("form", [np.array, list, torch.tensor])
def test_irns_cam_dicts_are_read_by_class(tmp_path, keys, maps, classes, form):
    maps = irn_maps(maps)
    low = torch.ones((len(maps), 2, 2))
    keys = form(keys) if keys else np.zeros(0, np.int64)
    np.save(tmp_path / "a.npy", {"keys": keys, "cam": low, "high_res": maps}, allow_pickle=True)
    expected = {index: maps[number] for index, number in classes.items()}
    assert_same_maps(load_cam(tmp_path / "a.npy", VOC12, shape=(5, 7)), expected)
    if len(maps):
        np.save(tmp_path / "a.npy", {"keys": keys, "cam": torch.tensor(maps)}, allow_pickle=True)
        assert_same_maps(load_cam(tmp_path / "a.npy", VOC12, shape=(5, 7)), expected)


@pytest.mark.parametrize(
    ("cams", "found"),
    [
        ({"keys": np.array([1, 2]), "high_res": irn_maps(1)}, r"IRN's CAMs, .* found \[1, 2\] and \(1, 5, 7\)"),
        ({"keys": np.array([1, 1]), "high_res": irn_maps(2)}, r"IRN's CAMs, .* found \[1, 1\] and \(2, 5, 7\)"),
        ({"keys": np.array([1])}, r"found \[1\] and none"),
        ({"keys": np.array(1), "high_res": irn_maps(1)}, r"found 1 and \(1, 5, 7\)"),
        ({"keys": [[0], [0, 1]], "high_res": irn_maps(2)}, r"found \[\[0\], \[0, 1\]\] and \(2, 5, 7\)"),
        ({"keys": [0, None], "high_res": irn_maps(1)}, r"found \[0, None\] and \(1, 5, 7\)"),
        ({"keys": np.array([20]), "high_res": irn_maps(1)}, "found the key 20"),
        ({"keys": np.array([1]), "high_res": irn_maps(1) * np.nan}, "not finite"),
        ({"keys": np.array([1]), "cam": irn_maps(1, (2, 2))}, "expected 5 x 7 .* under key 1, found 2 x 2"),
        ({"keys": ["a"], "high_res": irn_maps(1)}, r"found \['a'\] and \(1, 5, 7\)"),
    ],
)
def test_what_is_not_quite_irns_cam_dict_is_refused(tmp_path, cams, found):
    np.save(tmp_path / "a.npy", cams, allow_pickle=True)
    with pytest.raises(UserError, match=rf"a\.npy: .*{found}"):
        load_cam(tmp_path / "a.npy", VOC12, shape=(5, 7))


def test_irns_cams_are_never_read_as_crf_posteriors(tmp_path):
    np.save(tmp_path / "a.npy", {"keys": np.array([1]), "high_res": irn_maps(1)}, allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy: .*found IRN's CAMs .*--type npy"):
        load_crf(tmp_path / "a.npy", VOC12)


@pytest.mark.parametrize(
    ("maps", "found"),
    [
        ({20: np.zeros((2, 3), np.float32)}, "found the key 20"),
        ({-1: np.zeros((2, 3), np.float32)}, "found the key -1"),
        ({"2007_000032": np.zeros(20, np.float32)}, "found the key '2007_000032'"),
        ({True: np.zeros((2, 3), np.float32)}, "found the key True"),
        ({1: np.zeros((2, 3), np.uint8)}, r"found uint8 \(2, 3\)"),
        ({1: np.zeros((1, 2, 3), np.float32)}, r"found float32 \(1, 2, 3\)"),
        ({1: np.zeros((0, 3), np.float32)}, r"found float32 \(0, 3\)"),
        ({1: [0.5]}, "found list"),
        ({1: np.zeros((2, 3), np.float32), 2: np.zeros((3, 2), np.float32)}, "expected 2 x 3 .* found 3 x 2"),
        ({1: np.array([[np.nan]], np.float32)}, "key 1 are not finite"),
        ({1: np.array([[np.inf]], np.float32)}, "key 1 are not finite"),
        ({1: np.array([[1e300]])}, "key 1 are not finite"),
        ([np.zeros((2, 3), np.float32)], "found list"),
    ],
)
def test_a_dict_that_is_no_cam_dict_is_refused(tmp_path, maps, found):
    np.save(tmp_path / "a.npy", np.array(maps, dtype=object) if isinstance(maps, dict) else {}, allow_pickle=True)
    if isinstance(maps, list):
        wrapped = np.empty((), dtype=object)
        wrapped[()] = maps
        np.save(tmp_path / "a.npy", wrapped, allow_pickle=True)
    with pytest.raises(UserError, match=rf"a\.npy: .*{found}"):
        load_cam(tmp_path / "a.npy", VOC12)


def test_the_size_is_checked_where_it_is_given(tmp_path):
    save_cam(tmp_path / "cam.npy", random_cams(1, 2), VOC12)
    save_crf(tmp_path / "crf.npy", random_posteriors(0, 2), VOC12)
    save_label_map(tmp_path / "map.png", np.zeros((5, 7), np.uint8), VOC12)
    for load, name in ((load_cam, "cam.npy"), (load_crf, "crf.npy"), (load_label_map, "map.png")):
        load(tmp_path / name, VOC12, shape=(5, 7))
        with pytest.raises(UserError, match=rf"{name}: expected 7 x 5 .*found 5 x 7"):
            load(tmp_path / name, VOC12, shape=(7, 5))


def test_a_cam_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(UserError, match="not finite"):
        save_cam(tmp_path / "a.npy", {1: np.array([[np.nan]], np.float32)}, VOC12)
    assert list(tmp_path.iterdir()) == []


# -- label maps --------------------------------------------------------------------------------------------------------


def test_a_label_map_survives_the_trip_in_voc_colours(tmp_path):
    labels = np.array([[*range(21), 255]] * 2, np.uint8)
    save_label_map(tmp_path / "a.png", labels, VOC12)
    np.testing.assert_array_equal(load_label_map(tmp_path / "a.png", VOC12), labels)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image.convert("RGB")), voc_palette()[labels])


def test_a_grey_label_map_is_read(tmp_path):
    labels = np.arange(21, dtype=np.uint8).reshape(3, 7)
    Image.fromarray(labels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_label_map(tmp_path / "a.png", VOC12), labels)


def save_with_palette(path, labels, palette):
    image = Image.fromarray(np.array(labels, np.uint8))
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    image.save(path)


@pytest.mark.parametrize(("index", "label"), [(1, 15), (0, 15), (15, 1), (2, 255), (255, 20), (7, 0), (21, 3)])
def test_an_index_in_the_colour_of_another_label_is_refused(tmp_path, index, label):
    palette = voc_palette()
    palette[index] = palette[label]
    palette[0] = palette[0] if label else (1, 2, 3)
    save_with_palette(tmp_path / "unused.png", [[4, 5, 6]], palette)
    np.testing.assert_array_equal(load_label_map(tmp_path / "unused.png", VOC12), [[4, 5, 6]])
    save_with_palette(tmp_path / "a.png", [[4, 5, 6], [6, index, 4]], palette)
    why = f"index {index} has the colour of label {label} in VOC's palette"
    message = rf"a\.png: expected label indices, found colours \({why}\); python -m voc12.relabel makes"
    with pytest.raises(UserError, match=message):
        load_label_map(tmp_path / "a.png", VOC12)


@pytest.mark.parametrize("labels", [[0, 15], [0, 8, 255], [3], [*range(21), 255]])
def test_colours_that_were_quantised_are_no_indices(tmp_path, labels):
    colours = voc_palette()[np.array([labels] * 4)]
    Image.fromarray(colours).quantize(256).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        quantised = image.mode == "P" and not np.array_equal(np.array(image)[0], labels)
        assert quantised and np.array_equal(np.array(image.convert("RGB")), colours)
    with pytest.raises(UserError, match=r"a\.png: .*colours \(index \d+ has the colour of label \d+ .*\); python -m"):
        load_label_map(tmp_path / "a.png", VOC12)


OTHER_PALETTES = {
    "a grey ramp": np.arange(256)[:, None].repeat(3, 1),
    "random colours": np.random.default_rng(0).integers(0, 256, (256, 3)),
    "black alone": np.zeros((256, 3)),
    "VOC's for 0 to 20, then nothing": voc_palette()[:21],
    "VOC's for 0 to 20, then black": np.concatenate([voc_palette()[:21], np.zeros((235, 3))]),
}


@pytest.mark.parametrize("palette", OTHER_PALETTES.values(), ids=OTHER_PALETTES)
def test_a_palette_that_does_not_contradict_its_indices_is_no_matter(tmp_path, palette):
    labels = [[*range(21), 255]]
    save_with_palette(tmp_path / "a.png", labels, palette)
    np.testing.assert_array_equal(load_label_map(tmp_path / "a.png", VOC12), labels)


def test_a_saliency_map_with_a_grey_palette_is_refused_for_its_values(tmp_path):
    save_with_palette(tmp_path / "a.png", [[0, 64, 128, 255]], OTHER_PALETTES["a grey ramp"])
    with pytest.raises(UserError, match=r"a\.png: expected labels 0 to 20 or 255, found 64, 128"):
        load_label_map(tmp_path / "a.png", VOC12)


def test_labels_above_20_are_refused_and_255_only_where_it_may_not_be(tmp_path):
    save_label_map(tmp_path / "border.png", np.array([[0, 255]], np.uint8), VOC12)
    load_label_map(tmp_path / "border.png", VOC12)
    with pytest.raises(UserError, match=r"border\.png: expected labels 0 to 20, found 255; eval.py: --wrong_255"):
        load_label_map(tmp_path / "border.png", VOC12, ignore=False)
    Image.fromarray(np.array([[0, 21, 254, 255]], np.uint8)).save(tmp_path / "high.png")
    with pytest.raises(UserError, match=r"high\.png: expected labels 0 to 20 or 255, found 21, 254"):
        load_label_map(tmp_path / "high.png", VOC12)
    Image.fromarray(np.array([[0, 21]], np.uint8)).save(tmp_path / "voids.png")
    with pytest.raises(UserError, match=r"found 21; if it is the border, python -m voc12.relabel --border 21 makes"):
        load_label_map(tmp_path / "voids.png", VOC12)
    with pytest.raises(UserError, match=r"a\.png: expected labels .* found 21"):
        save_label_map(tmp_path / "a.png", np.array([[21]], np.uint8), VOC12)


def test_greys_of_colours_are_told_from_other_labels(tmp_path):
    save_label_map(tmp_path / "mask.png", np.array([[0, 3, 15, 255]], np.uint8), VOC12)
    cv2.imwrite(str(tmp_path / "grey.png"), cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_GRAYSCALE))
    with pytest.raises(UserError, match=r"found 113, 147, 220; all are greys of VOC's colours, as cv2"):
        load_label_map(tmp_path / "grey.png", VOC12)
    Image.fromarray(np.array([[1, 113, 147]], np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(UserError, match=r"found 113, 147$"):
        load_label_map(tmp_path / "other.png", VOC12)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((4, 5, 3), np.uint8), "RGB colours; python -m voc12.relabel makes label maps of them"),
        (np.zeros((4, 5, 4), np.uint8), "RGBA colours; python -m voc12.relabel makes label maps of them"),
        (np.zeros((4, 5), np.uint16), "16-bit"),
        (np.zeros((4, 5), bool), "1-bit"),
    ],
)
def test_a_png_without_indices_is_refused(tmp_path, array, found):
    Image.fromarray(array).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=rf"a\.png: .*found {found}"):
        load_label_map(tmp_path / "a.png", VOC12)


def test_a_damaged_or_other_image_is_refused(tmp_path):
    labels = np.random.default_rng(0).integers(0, 21, (60, 60), dtype=np.uint8)
    save_label_map(tmp_path / "whole.png", labels, VOC12)
    whole = (tmp_path / "whole.png").read_bytes()
    for position in (*range(0, len(whole) - 12, 97), *range(len(whole) - 40, len(whole) - 12)):  # 12 end it
        changed = bytearray(whole)
        changed[position] ^= 0x55
        for data in (whole[:position], changed):
            (tmp_path / "broken.png").write_bytes(data)
            with pytest.raises(UserError, match=r"broken\.png: cannot be read as a PNG"):
                load_label_map(tmp_path / "broken.png", VOC12)
    Image.fromarray(labels).save(tmp_path / "lossy.png", format="JPEG")
    with pytest.raises(UserError, match=r"lossy\.png: cannot be read as a PNG"):
        load_label_map(tmp_path / "lossy.png", VOC12)


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 1), np.uint8)])
def test_only_uint8_label_maps_are_written(tmp_path, labels):
    with pytest.raises(UserError, match="expected labels as uint8"):
        save_label_map(tmp_path / "a.png", labels, VOC12)


@pytest.mark.parametrize("load", [load_cam, load_crf, load_label_map])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, load):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: cannot be read.* a pipe or a device"):
        load(tmp_path / "pipe", VOC12)
