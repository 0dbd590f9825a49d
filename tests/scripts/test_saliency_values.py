"""Saliency maps of the right form and the wrong content: refused or noted before training starts, and by the check."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.saliency import NUM_MAPS, check_saliency
from tests.scripts.conftest import ROOT, TINY, Data, assert_refused, assert_succeeded, forker, words_of
from tool.cli import UserError
from tool.colour import voc_palette


def with_palette(grey: np.ndarray) -> Image.Image:
    image = Image.fromarray((grey > 127).astype(np.uint8) * 15)
    image.putpalette(voc_palette().tobytes())
    return image


def with_alpha(colours: np.ndarray, alpha: np.ndarray) -> Image.Image:
    if colours.ndim == 2:
        colours = np.stack([colours] * 3, axis=-1)
    return Image.fromarray(np.dstack([colours, alpha]))


def photograph(grey: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*grey.shape, 3), np.uint8)


Change = Callable[[np.ndarray], Image.Image]
# What each makes of a map, uint8 (H, W), and what is said of it.
REFUSED: dict[str, tuple[Change, str]] = {
    "0 and 1": (lambda grey: Image.fromarray(grey // 255), "found at most 1 in"),
    "black": (lambda grey: Image.fromarray(grey * 0), "found nothing but black in"),
    "in the alpha channel of white": (lambda grey: with_alpha(grey | 255, grey), "values in the alpha channel alone"),
    "in the alpha channel of black": (lambda grey: with_alpha(grey * 0, grey), "values in the alpha channel alone"),
    "grey and alpha": (
        lambda grey: Image.merge("LA", [Image.new("L", grey.shape[::-1], 255), Image.fromarray(grey)]),
        "values in the alpha channel alone",
    ),
}
NOTED: dict[str, tuple[Change, str]] = {
    "0 to 100": (lambda grey: Image.fromarray((grey * (100 / 255)).astype(np.uint8)), "at most 100 in"),
    "inverted": (lambda grey: Image.fromarray(255 - grey), "are they inverted?"),
    "masks": (with_palette, "colours in"),
    "cut out": (lambda grey: with_alpha(photograph(grey), grey), "an alpha channel, too"),
    "white": (lambda grey: Image.fromarray(grey | 255), "one value in each"),
}
PLAIN: dict[str, Change] = {
    "grey": Image.fromarray,
    "RGB": lambda grey: Image.fromarray(grey).convert("RGB"),
    "an alpha channel that says nothing": lambda grey: Image.fromarray(grey).convert("RGBA"),
    "1 bit": lambda grey: Image.fromarray(grey > 127),
    "JPEG": lambda grey: Image.fromarray(grey).convert("RGB"),
}


def changed(data: Data, folder: Path, change: Change, **options: object) -> Path:
    folder.mkdir()
    for path in data.saliency.iterdir():
        change(np.asarray(Image.open(path))).save(folder / path.name, **options)
    return folder


def commands(data: Data, saliency: Path, out: Path) -> dict[str, list[str]]:
    training = {**TINY, **data.for_training(), "--saliency_root": saliency, "--max_iters": 1, "--work_dir": out}
    check = {"--voc12_root": data.root / "VOC2012", "--saliency_root": saliency, "--out": out / "lists"}
    return {
        "train_voc.py": ["train_voc.py", *words_of(training)],
        "voc12.prepare": ["-m", "voc12.prepare", *words_of(check)],
    }


@pytest.mark.parametrize("name", REFUSED)
def test_maps_that_cannot_be_meant_are_refused_before_training_and_by_the_check(data, tmp_path, name):
    change, message = REFUSED[name]
    saliency = changed(data, tmp_path / "maps", change)
    words = commands(data, saliency, tmp_path / "out")
    training = forker().run(words["train_voc.py"], ROOT)
    assert_refused(training, f"error: --saliency_root {saliency}: expected grey values from 0 to 255", message)
    assert training.stderr.count("\n") == 1 and "step" not in training.stdout
    check = forker().run(words["voc12.prepare"], ROOT)
    assert check.returncode == 2 and not (tmp_path / "out" / "lists" / "train.txt").exists()
    (problem,) = (line for line in check.stdout.split("\n") if line.startswith("problem: "))
    assert message in problem


@pytest.mark.parametrize("name", NOTED)
def test_maps_that_may_be_meant_are_noted(data, tmp_path, name):
    change, message = NOTED[name]
    saliency = changed(data, tmp_path / "maps", change)
    words = commands(data, saliency, tmp_path / "out")
    done = forker().run(words["voc12.prepare"], ROOT)
    assert_succeeded(done)
    assert f"note: --saliency_root {saliency}" in done.stdout and message in done.stdout
    assert any(message in note for note in check_saliency(saliency, data.ids))


def test_training_says_what_may_be_meant_otherwise_and_trains(data, tmp_path):
    saliency = changed(data, tmp_path / "maps", NOTED["inverted"][0])
    done = forker().run(commands(data, saliency, tmp_path / "out")["train_voc.py"], ROOT)
    assert_succeeded(done)
    assert f"note: --saliency_root {saliency}" in done.stderr and "are they inverted?" in done.stderr


@pytest.mark.parametrize("name", PLAIN)
def test_usual_maps_are_noted_for_nothing(data, tmp_path, name):
    saliency = changed(data, tmp_path / "maps", PLAIN[name], format="JPEG" if name == "JPEG" else "PNG")
    assert check_saliency(saliency, data.ids) == []


def test_no_more_maps_are_read_than_tell_enough(data, tmp_path):
    ids = [f"{number}" for number in range(10 * NUM_MAPS)]
    for name in ids[::10]:
        (tmp_path / f"{name}.png").symlink_to(data.saliency / f"{data.ids[0]}.png")
    assert check_saliency(tmp_path, ids) == []
    with pytest.raises(UserError, match=r"1\.png"):
        check_saliency(tmp_path, ids[1:])


def test_where_red_alone_is_read_red_alone_is_looked_at(data, tmp_path):
    def blue(grey):
        return Image.fromarray(np.stack([0 * grey, 0 * grey, grey], axis=-1))

    saliency = changed(data, tmp_path / "maps", blue)
    assert any("the mean of red, green and blue is read" in note for note in check_saliency(saliency, data.ids))
    with pytest.raises(UserError, match="nothing but black"):
        check_saliency(saliency, data.ids, first_channel=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (2, 2), (3, 40), (41, 1)])
def test_maps_of_any_size_are_looked_at(tmp_path, size):
    Image.new("L", size, 200).save(tmp_path / "a.png")
    assert check_saliency(tmp_path, ["a"])
