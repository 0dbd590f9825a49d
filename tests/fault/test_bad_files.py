"""Every reader reads a file rightly or refuses it by name, whatever is in it."""

import random
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.augmentation import TrainingAugmentation
from data.images import load_rgb
from data.normalisation import Normalisation
from data.training import LabelMapSet, TrainingSet
from segmentation.data import SegmentationAugmentation
from segmentation.submission import pack
from tests.fault.conftest import COUNTS
from tests.fault.damaged import KINDS, SHAPE, cuts, label_map, mutated, read_image, same, strange
from tool.artifact import load_cam, load_label_map, save_cam, save_label_map
from tool.cli import UserError, printable
from tool.colour import voc_palette
from tool.lists import read_ids
from voc12 import mini
from voc12.classes import VOC12

UNREADABLE = object()


def outcome(kind, path):
    """What the reader makes of the file, or `UNREADABLE` if it refuses it, which it does by name."""
    COUNTS["bad inputs tried"] += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind.read(path)
    except UserError as error:
        assert path.name in str(error), str(error)
        return UNREADABLE


@pytest.fixture
def sound(tmp_path):
    """Writes a sound file of a kind: its path, its bytes and what is read from it."""

    def write(kind):
        path = tmp_path / kind.name
        kind.write(path)
        return path, path.read_bytes(), kind.read(path)

    return write


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_file_that_is_cut_off_is_refused_or_complete_without_the_rest(kind, sound):
    path, content, whole = sound(kind)
    for how, damaged in cuts(content):
        path.write_bytes(damaged)
        found = outcome(kind, path)
        if kind.name == "list.txt":  # nothing tells that lines are missing; no line is read that was not there
            assert found is UNREADABLE or all(line in "".join(whole) for line in found)
        else:
            assert found is UNREADABLE or same(found, whole), how


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_another_file_in_its_place_is_refused(kind, sound):
    path, content, _ = sound(kind)
    for how, damaged in strange(content):
        path.write_bytes(damaged)
        found = outcome(kind, path)
        is_image = kind.read is read_image and how == "an image"
        may_be = is_image or kind.name == "list.txt" or how == "zeros at the end"
        assert found is UNREADABLE or may_be, how


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_file_with_changed_bytes_is_read_or_refused_and_never_anything_else(kind, sound, rounds, request):
    path, content, whole = sound(kind)

    @settings(max_examples=10 * rounds, database=None)
    @given(st.integers(0, 2**32))
    def change(seed):
        path.write_bytes(mutated(content, random.Random(seed)))
        found = outcome(kind, path)
        if kind.summed and found is not UNREADABLE:
            assert same(found, whole)

    change()


# -- images that are odd but sound -------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(5).integers(0, 256, (6, 10, 3), np.uint8)
PICTURE = Image.fromarray(PIXELS)
GREY = Image.fromarray(PIXELS[..., 0])


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    return exif


def with_palette(mode: str) -> Image.Image:
    image = GREY.point(lambda value: value % 21)
    image.putpalette(voc_palette().tobytes())
    return image if mode == "P" else image.convert(mode)


OLD = [Image.fromarray(np.roll(PIXELS, shift, 0)) for shift in (1, 2)]
# name: (image, options of saving, the pixels that are right, or None where it is to be refused)
ODD_IMAGES = {
    "grey PNG": (GREY, {"format": "PNG"}, np.stack([PIXELS[..., 0]] * 3, -1)),
    "1-bit PNG": (GREY.convert("1"), {"format": "PNG"}, np.asarray(GREY.convert("1").convert("RGB"))),
    "16-bit PNG": (Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), {"format": "PNG"}, None),
    "floating point TIFF": (Image.fromarray(PIXELS[..., 0].astype(np.float32)), {"format": "TIFF"}, None),
    "alpha": (PICTURE.convert("RGBA"), {"format": "PNG"}, PIXELS),
    "grey with alpha": (GREY.convert("LA"), {"format": "PNG"}, np.stack([PIXELS[..., 0]] * 3, -1)),
    "palette": (with_palette("P"), {"format": "PNG"}, voc_palette()[PIXELS[..., 0] % 21]),
    "transparent palette": (
        with_palette("P"), {"format": "PNG", "transparency": 0}, voc_palette()[PIXELS[..., 0] % 21]
    ),
    "animated PNG": (PICTURE, {"format": "PNG", "save_all": True, "append_images": OLD}, PIXELS),
    "animated WebP": (
        PICTURE, {"format": "WEBP", "lossless": True, "save_all": True, "append_images": OLD}, PIXELS
    ),
    "animated GIF": (
        with_palette("P"), {"format": "GIF", "save_all": True, "append_images": OLD},
        voc_palette()[PIXELS[..., 0] % 21],
    ),
    "rotated PNG": (PICTURE, {"format": "PNG", "exif": rotated()}, PIXELS),
    "rotated WebP": (PICTURE, {"format": "WEBP", "lossless": True, "exif": rotated()}, PIXELS),
    "rotated TIFF": (PICTURE, {"format": "TIFF", "exif": rotated()}, None),
    "1 pixel": (PICTURE.crop((0, 0, 1, 1)), {"format": "PNG"}, PIXELS[:1, :1]),
    "1 pixel high": (PICTURE.crop((0, 0, 10, 1)), {"format": "PNG"}, PIXELS[:1]),
    "20,000 pixels wide": (PICTURE.resize((20000, 6), 0), {"format": "PNG"}, np.repeat(PIXELS, 2000, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_an_odd_image_gives_its_own_pixels_or_is_refused(tmp_path, name):
    image, options, expected = ODD_IMAGES[name]
    path = tmp_path / "odd.jpg"
    image.save(path, **options)
    COUNTS["bad inputs tried"] += 1
    if expected is None:
        with pytest.raises(UserError, match=r"odd\.jpg"):
            read_image(path)
    else:
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("name", ["CMYK", "grey", "rotated", "1 pixel", "20,000 pixels wide"])
def test_an_odd_jpeg_gives_nearly_its_own_pixels(tmp_path, name):
    picture = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    image, options = {
        "CMYK": (picture.convert("CMYK"), {}),
        "grey": (picture.convert("L"), {}),
        "rotated": (picture, {"exif": rotated()}),
        "1 pixel": (picture.crop((0, 0, 1, 1)), {}),
        "20,000 pixels wide": (picture.resize((20000, 8)), {}),
    }[name]
    image.save(tmp_path / "a.jpg", quality=100, **options)
    COUNTS["bad inputs tried"] += 1
    difference = read_image(tmp_path / "a.jpg").astype(int) - np.asarray(image.convert("RGB"))
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (20000, 1), (3, 20000)])
def test_an_image_of_any_size_makes_samples_of_finite_numbers(tmp_path, size):
    PICTURE.resize(size).save(tmp_path / "a.jpg")
    GREY.resize(size).save(tmp_path / "a.png")
    (tmp_path / "labels").mkdir()
    save_label_map(tmp_path / "labels" / "a.png", np.zeros(size[::-1], np.uint8), VOC12)
    COUNTS["bad inputs tried"] += 2
    first = TrainingSet(
        {"a": tmp_path / "a.jpg"},
        saliency_root=tmp_path,
        labels={"a": np.eye(20, dtype=np.float32)[0]},
        augmentation=TrainingAugmentation(crop_size=32, resize=(20, 48)),
        seed=0,
    )
    augmentation = SegmentationAugmentation(
        crop_size=32, scale=(0.5, 1.5), jitter=(10, 10, 10), mirrored=0.5,
        normalisation=Normalisation((0.5,) * 3, (0.2,) * 3),
    )  # fmt: skip
    third = LabelMapSet(
        {"a": tmp_path / "a.jpg"},
        label_root=tmp_path / "labels",
        data_set=VOC12,
        augmentation=augmentation,
        seed=0,
    )
    for sample in (first[0, 0], third[0, 0]):
        assert sample["image"].shape == (3, 32, 32)
        assert all(value.isfinite().all() for value in sample.values() if isinstance(value, torch.Tensor))


LABELS = Image.fromarray(label_map())
ODD_LABEL_MAPS = {
    "grey": (LABELS, {"format": "PNG"}, True),
    "1 pixel": (Image.fromarray(label_map()[:1, :1]), {"format": "PNG"}, True),
    "20,000 pixels wide": (Image.fromarray(np.repeat(label_map(), 2000, 1)), {"format": "PNG"}, True),
    "rotated": (LABELS, {"format": "PNG", "exif": rotated()}, True),
    "animated": (LABELS, {"format": "PNG", "save_all": True, "append_images": [LABELS.point(lambda v: 0)]}, True),
    "colours": (LABELS.convert("RGB"), {"format": "PNG"}, False),
    "alpha": (LABELS.convert("LA"), {"format": "PNG"}, False),
    "colours and alpha": (LABELS.convert("RGBA"), {"format": "PNG"}, False),
    "1 bit": (LABELS.convert("1"), {"format": "PNG"}, False),
    "16 bits": (Image.fromarray(label_map().astype(np.uint16)), {"format": "PNG"}, False),
    "JPEG": (LABELS, {"format": "JPEG"}, False),
    "GIF": (LABELS, {"format": "GIF"}, False),
    "WebP": (LABELS.convert("RGB"), {"format": "WEBP", "lossless": True}, False),
}


@pytest.mark.parametrize("name", ODD_LABEL_MAPS)
def test_an_odd_label_map_gives_its_own_labels_or_is_refused(tmp_path, name):
    image, options, is_right = ODD_LABEL_MAPS[name]
    path = tmp_path / "odd.png"
    image.save(path, **options)
    COUNTS["bad inputs tried"] += 1
    if is_right:
        np.testing.assert_array_equal(load_label_map(path, VOC12), np.asarray(image))
    else:
        with pytest.raises(UserError, match=r"odd\.png"):
            load_label_map(path, VOC12)


# -- names -------------------------------------------------------------------------------------------------------------

GOOD_IDS = [
    *(
        "2007 000032",
        "it's",
        'say "cheese"',
        "ein Übel",
        "写真",
        "صورة",
        "a.b.c",
        "-rf",
        "--list",
        "~",
        "$HOME",
        "`id`",
    ),
    *("a;b", "a&b", "a|b", "<b>x", "%s %d", "{0}", "*", "?", "[a]", "#1", "a\u200bb", "e\u0301", "..."),
    *(".hidden", "CON", "x" * 200, "a,b", "a=b", "a:b", "a@b", "!", "😀", "nan", "None"),
]
BAD_IDS = [
    *(".", "..", "../up", "/etc/passwd", "a/b", "a\\b", "..\\up", "a\x00b", "a\x1b[31mb", "a\x7fb", "a\x85b"),
    *("a\u2028b", "a\u2029b", "x" * 201, "ü" * 101, "a\tb\x07", "a\rb", "../../root.jpg/.."),
]


def test_an_id_of_any_form_names_files_in_its_folder(tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in GOOD_IDS))
    folder = tmp_path / "files"
    folder.mkdir()
    assert read_ids(tmp_path / "list.txt") == GOOD_IDS
    for name in GOOD_IDS:
        COUNTS["bad inputs tried"] += 1
        PICTURE.save(folder / f"{name}.jpg", format="JPEG")
        save_label_map(folder / f"{name}.png", label_map(), VOC12)
        save_cam(folder / f"{name}.npy", {3: np.full((2, 2), 0.5, np.float32)}, VOC12)
        assert load_rgb(folder / f"{name}.jpg").size == PICTURE.size
        assert same(load_label_map(folder / f"{name}.png", VOC12), label_map())
        assert list(load_cam(folder / f"{name}.npy", VOC12)) == [3]
    assert {path.name[:-4] for path in folder.iterdir()} == set(GOOD_IDS)
    assert {path.name for path in tmp_path.iterdir()} == {"files", "list.txt"}


@pytest.mark.parametrize("name", BAD_IDS, ids=ascii)
def test_an_id_that_is_no_file_name_is_refused_with_its_line(tmp_path, name):
    (tmp_path / "list.txt").write_bytes(f"sound\n{name}\n".encode())
    COUNTS["bad inputs tried"] += 1
    with pytest.raises(UserError, match=r"list\.txt") as raised:
        read_ids(tmp_path / "list.txt")
    assert "line 2" in str(raised.value) or "binary" in str(raised.value)
    assert all(printable(line) == line for line in str(raised.value).split("\n"))


def test_a_prediction_that_goes_while_the_others_are_packed_is_named_and_no_archive_left(tmp_path):
    (tmp_path / "results").mkdir()
    save_label_map(tmp_path / "results" / "a.png", np.zeros(SHAPE, np.uint8), VOC12)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'results' / 'b.png'}: ")):
        pack(tmp_path / "results", ["a", "b"], tmp_path / "results.tgz", competition=6)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("content", ["", "[" * 10**5, '{"settings": 3, "bytes": [1]}', "\x93NUMPY"])
def test_a_folder_whose_record_of_generation_is_damaged_is_left_alone(tmp_path, content):
    (tmp_path / "VOC2012").mkdir()
    (tmp_path / "VOC2012" / "mini.json").write_text(content, encoding="latin1")
    with pytest.raises(UserError, match="holds something else already"):
        mini.generate(tmp_path, train=1, train_aug=1, val=1, test=1, size=32)
    assert [path.name for path in (tmp_path / "VOC2012").iterdir()] == ["mini.json"]
