"""`python -m voc12.relabel` makes label maps of other projects' masks, and refuses colours that are no label's."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.scripts.conftest import ROOT, forker
from tool.artifact import load_label_map, save_label_map
from tool.colour import voc_palette
from voc12.classes import VOC12

LABELS = np.array([[*range(21), 255]] * 3, np.uint8)
COLOURS = voc_palette()[LABELS]


def relabel(folder, *arguments):
    words = ["-m", "voc12.relabel", "--masks", folder / "masks", "--out", folder / "out", *arguments]
    return forker().run(words, ROOT)


def assert_refused(done, *messages):
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("error: ") == 1
    for message in messages:
        assert message in done.stderr


@pytest.fixture
def masks(tmp_path):
    (tmp_path / "masks").mkdir()
    return tmp_path / "masks"


def test_masks_of_colours_become_label_maps_and_label_maps_stay(tmp_path, masks):
    Image.fromarray(COLOURS).save(masks / "rgb.png")
    Image.fromarray(np.dstack([COLOURS, np.full_like(LABELS, 255)])).save(masks / "rgba.png")
    Image.fromarray(COLOURS).quantize(256).save(masks / "quantised.png")
    Image.fromarray(LABELS).save(masks / "grey.png")
    save_label_map(masks / "palette.png", LABELS, VOC12)
    black = Image.fromarray(LABELS)
    black.putpalette(bytes(768))
    black.save(masks / "black.png")
    done = relabel(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"wrote 6 label maps to {re.escape(str(tmp_path / 'out'))} in .* images/s\)\n", done.stdout)
    names = {path.name for path in masks.iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for name in names:
        np.testing.assert_array_equal(load_label_map(tmp_path / "out" / name, VOC12), LABELS, err_msg=name)


def test_the_borders_label_becomes_255_only_where_it_is_named(tmp_path, masks):
    labels = np.where(LABELS == 255, 21, LABELS).astype(np.uint8)
    Image.fromarray(labels).save(masks / "grey.png")
    Image.fromarray(voc_palette()[labels]).save(masks / "colours.png")
    assert_refused(
        relabel(tmp_path),
        "masks that were not converted (2)",
        "grey.png: expected labels 0 to 20 or 255, found 21; if it is the border, python -m voc12.relabel --border 21",
        f"colours.png: expected the colours of VOC's labels alone, found 3 pixels of others, first {colour(21)}",
    )
    assert not list((tmp_path / "out").iterdir())
    assert relabel(tmp_path, "--border", "21").returncode == 0
    for path in masks.iterdir():
        np.testing.assert_array_equal(load_label_map(tmp_path / "out" / path.name, VOC12), LABELS)


def colour(label):
    return str(tuple(voc_palette()[label].tolist()))


def test_smoothed_colours_are_named_and_the_other_masks_are_written(tmp_path, masks):
    large = Image.fromarray(COLOURS.repeat(4, 0).repeat(4, 1))
    large.resize((50, 7), Image.Resampling.BILINEAR).save(masks / "smooth.png")
    large.save(masks / "sharp.png")
    (masks / "cut.png").write_bytes((masks / "sharp.png").read_bytes()[:-30])
    Image.fromarray(LABELS.astype(np.uint16)).save(masks / "deep.png")
    done = relabel(tmp_path)
    assert_refused(
        done, "(3)", "smooth.png: expected the colours", "cut.png: cannot be read as a PNG", "deep.png: ", "16-bit"
    )
    assert "wrote 1 label maps" in done.stdout and [path.name for path in (tmp_path / "out").iterdir()] == ["sharp.png"]


@pytest.mark.parametrize("border", ["20", "255", "-1", "x", "²"])
def test_a_border_that_is_a_class_or_no_label_is_refused(tmp_path, masks, border):
    assert_refused(relabel(tmp_path, "--border", border), f"--border: expected a label of 21 to 254, got '{border}'")
    assert not (tmp_path / "out").exists()


def test_folders_that_do_not_fit_are_refused(tmp_path, masks):
    assert_refused(relabel(tmp_path), f"--masks {masks}: expected masks, <id>.png, found none")
    Image.fromarray(COLOURS).save(masks / "a.png")
    before = (masks / "a.png").read_bytes()
    (tmp_path / "out").symlink_to(masks)
    assert_refused(relabel(tmp_path), "--out", "expected another folder than --masks")
    assert (masks / "a.png").read_bytes() == before
    (tmp_path / "out").unlink()
    (tmp_path / "out").write_text("a file")
    assert_refused(relabel(tmp_path), "--out", "expected a folder to write to")
