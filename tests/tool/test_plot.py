"""Pictures of results: VOC's colours, perceptually uniform heat, errors, overlays with a legend, curves."""

import numpy as np
import pytest
from PIL import Image

from tool.cli import UserError
from tool.colour import voc_palette
from tool.plot import (
    ERROR_COLOURS,
    OPACITY,
    blend,
    error_colours,
    heat_colours,
    label_colours,
    overlay,
    save_curve,
    save_overlay,
)
from voc12.classes import VOC12

IMAGE = np.full((40, 60, 3), 100, np.uint8)
LABELS = np.zeros((40, 60), np.uint8)
LABELS[10:20, 10:20], LABELS[30:, :] = 15, 255


def test_labels_have_vocs_colours_and_background_is_transparent():
    colours = label_colours(np.array([[0, 1, 15, 20, 255]], np.uint8), VOC12)
    assert colours[0, :, 3].tolist() == [0, 255, 255, 255, 255]
    assert colours[0, 1:, :3].tolist() == [[128, 0, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]]


def lightness(colours):
    """CIE L* of sRGB colours, (N, 3) uint8."""
    linear = colours / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.where(luminance > 216 / 24389, np.cbrt(luminance), (24389 / 27 * luminance + 16) / 116) - 16


def test_heat_grows_lighter_in_about_equal_steps():
    """What rainbow maps, the usual choice for CAMs, do not."""
    steps = np.diff(lightness(heat_colours(np.linspace(0, 1, 11)[None])[0]))
    assert steps.min() > 0.5 * steps.mean() and steps.max() < 1.5 * steps.mean()


def test_heat_is_clipped_to_0_and_1():
    colours = heat_colours(np.array([[-1, 0, 1, 7]], np.float32))[0]
    assert (colours[0] == colours[1]).all() and (colours[2] == colours[3]).all()


def test_errors_are_missed_false_or_confused_and_nothing_where_the_truth_is_ignored():
    truth = np.array([[0, 0, 3, 3, 3, 255]], np.uint8)
    prediction = np.array([[0, 3, 0, 3, 5, 5]], np.uint8)
    expected = [None, "false", "missed", None, "confused", None]
    for colour, kind in zip(error_colours(prediction, truth, VOC12)[0].tolist(), expected, strict=True):
        assert colour == ([0, 0, 0, 0] if kind is None else [*ERROR_COLOURS[kind], 255])


def test_blending_keeps_the_image_where_nothing_lies_on_it():
    mixed = blend(IMAGE, label_colours(LABELS, VOC12), opacity=0.5)
    assert mixed[0, 0].tolist() == [100, 100, 100]
    assert mixed[15, 15].tolist() == [146, 114, 114]
    assert blend(IMAGE, np.full((40, 60, 3), 200, np.uint8), opacity=0.25)[0, 0].tolist() == [125, 125, 125]


def test_overlay_shows_image_cams_and_labels_side_by_side_with_a_legend_of_what_is_there():
    cams = {14: np.ones((40, 60), np.float32), 3: np.zeros((40, 60), np.float32)}
    picture = overlay(IMAGE, cams, {"seeds": LABELS}, VOC12)
    flat = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert {tuple(voc_palette()[label]) for label in (15, 255)} < flat
    assert tuple(voc_palette()[1]) not in flat
    shown = [heat_colours(cam) for cam in cams.values()] + [label_colours(LABELS, VOC12)]
    for colours in shown:
        mixed = blend(IMAGE, colours, opacity=OPACITY)
        assert {tuple(colour) for colour in mixed.reshape(-1, 3).tolist()} < flat
    assert picture.shape[1] >= 4 * 60 and picture.shape[0] > 40


def test_overlay_without_objects_needs_no_legend():
    assert overlay(IMAGE, {}, {"seeds": np.zeros_like(LABELS)}, VOC12).shape[0] < 40 + 30


def test_long_legends_have_several_lines_in_the_pictures_width():
    labels = np.zeros((40, 60), np.uint8)
    labels.flat[:21] = range(21)
    picture = overlay(IMAGE, {}, {"seeds": labels}, VOC12)
    flat = {tuple(colour) for colour in picture[60:].reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in voc_palette()[1:21]} < flat


def test_overlays_are_png_files_of_that_picture(tmp_path):
    save_overlay(tmp_path / "a.png", IMAGE, {}, {"seeds": LABELS}, VOC12)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), overlay(IMAGE, {}, {"seeds": LABELS}, VOC12))
    with pytest.raises(UserError, match="cannot be written"):
        save_overlay(tmp_path / "no" / "a.png", IMAGE, {}, {}, VOC12)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_curves_are_drawn_in_the_format_of_the_files_name(tmp_path, suffix, start):
    path = tmp_path / f"curve{suffix}"
    save_curve(path, {"hsc": [10.0, 30.0, 20.0], r"$\no_formula$": [5.0, 6.0, 7.0]}, thresholds=[0.0, 0.1, 0.2])
    assert path.read_bytes().startswith(start)
