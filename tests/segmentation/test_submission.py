"""The archive is what VOC's evaluation reads, the same files give the same bytes, and nothing faulty is packed."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.forked import Forker
from tests.scripts.conftest import ROOT, TIME_LIMIT, assert_refused, assert_succeeded, contents, environment, truncate
from tool.artifact import save_label_map
from tool.colour import voc_palette
from voc12.classes import VOC12

MODULE = "segmentation.submission"
TEST_IMAGES = 1456


class Folder:
    """A test set of generated images in `root`, and a sound prediction for each."""

    def __init__(self, root: Path, ids: list[str]):
        self.root, self.ids = root, ids
        self.images, self.predictions, self.list = root / "JPEGImages", root / "predictions", root / "test.txt"
        self.images.mkdir(parents=True)
        self.predictions.mkdir()
        self.list.write_text("".join(f"{identifier}\n" for identifier in ids))
        generator = np.random.default_rng(0)
        for number, identifier in enumerate(ids):
            height, width = 6 + number % 5, 9 + number % 7
            Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)).save(self.image(identifier))
            save_label_map(self.prediction(identifier), generator.integers(0, 21, (height, width), np.uint8), VOC12)

    def image(self, identifier: str) -> Path:
        return self.images / f"{identifier}.jpg"

    def prediction(self, identifier: str) -> Path:
        return self.predictions / f"{identifier}.png"

    def words(self, *, comp: object = None, **changes: str) -> list[str]:
        """The command's words; paths are relative to `root`."""
        paths = {
            "results": "predictions",
            "list": "test.txt",
            "img_root": "JPEGImages",
            "out": "results.tgz",
            **changes,
        }
        flags = [word for flag, path in paths.items() for word in (f"--{flag}", str(self.root / path))]
        return flags if comp is None else [*flags, "--comp", str(comp)]


# -- what is packed ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Folder:
    """Sound predictions: one is a link to another of the folder, one has a palette that ends with the last label."""
    folder = Folder(tmp_path_factory.mktemp("sound"), ["2008_000012", "2008_000006", "linked", "2008 short", "2008"])
    folder.prediction("linked").unlink()
    folder.prediction("linked").symlink_to(folder.prediction("2008"))
    shutil.copy(folder.image("2008"), folder.image("linked"))
    with Image.open(folder.prediction("2008 short")) as image:
        image.load()
    image.putpalette(voc_palette()[:21].tobytes())
    image.save(folder.prediction("2008 short"))
    return folder


@pytest.fixture(scope="module")
def again(sound, tmp_path_factory) -> Folder:
    """The files of `sound`, made and listed in another order, with other times and modes and no link among them."""
    folder = Folder(tmp_path_factory.mktemp("again"), sound.ids[::-1])
    shutil.rmtree(folder.predictions)
    folder.predictions.mkdir()
    for number, identifier in enumerate(folder.ids):
        shutil.copy(sound.image(identifier), folder.image(identifier))
        prediction = folder.prediction(identifier)
        prediction.write_bytes(sound.prediction(identifier).read_bytes())
        prediction.chmod(0o600)
        os.utime(prediction, (10**9 + number, 10**9 + number))
    (folder.root / "elsewhere").mkdir()
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Folder:
    """As many predictions as the test set has images."""
    return Folder(tmp_path_factory.mktemp("whole"), [f"{number:06}" for number in range(TEST_IMAGES)])


@pytest.fixture(scope="module")
def submission(sound) -> tuple[Path, subprocess.CompletedProcess]:
    """The archive of `sound` in the competition by default, and what the command said."""
    command = [sys.executable, "-m", MODULE, *sound.words()]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIME_LIMIT)
    return sound.root / "results.tgz", done


def archive_of(done: subprocess.CompletedProcess) -> Path:
    assert_succeeded(done)
    return Path(done.args[done.args.index("--out") + 1])


def evaluated(archive: Path, competition: str, folder: Folder) -> dict[str, np.ndarray]:
    """What the development kit's evaluation reads for each id, with its conditions on labels and size."""
    labels = {}
    with tarfile.open(archive) as tar:
        for identifier in folder.ids:
            file = tar.extractfile(f"results/VOC2012/Segmentation/{competition}_test_cls/{identifier}.png")
            with Image.open(file) as prediction, Image.open(folder.image(identifier)) as image:
                assert (prediction.format, prediction.mode) == ("PNG", "P")
                assert prediction.size == image.size
                labels[identifier] = np.array(prediction)
            assert labels[identifier].max() <= 20
    return labels


def test_the_evaluation_of_the_development_kit_finds_every_prediction(sound, submission, outcomes):
    archive, done = submission
    assert_succeeded(done)
    for labels in (evaluated(archive, "comp6", sound), evaluated(archive_of(outcomes["comp5"]), "comp5", sound)):
        for identifier in sound.ids:
            with Image.open(sound.prediction(identifier)) as image:
                np.testing.assert_array_equal(labels[identifier], np.array(image))


def test_the_archive_holds_the_predictions_as_regular_files_and_nothing_else(sound, submission):
    with tarfile.open(submission[0]) as tar:
        members = tar.getmembers()
    expected = [f"results/VOC2012/Segmentation/comp6_test_cls/{identifier}.png" for identifier in sound.ids]
    assert [member.name for member in members] == sorted(expected)
    for member in members:
        assert member.isreg() and member.mode == 0o644
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
    assert len({member.mtime for member in members}) == 1


def test_the_same_predictions_give_the_same_bytes_whatever_their_order_times_and_modes(submission, outcomes):
    content = submission[0].read_bytes()
    assert archive_of(outcomes["again"]).read_bytes() == content
    assert content[:4] == b"\x1f\x8b\x08\x00" and content[4:8] == bytes(4)  # gzip without a name; no time


def test_the_file_the_number_of_predictions_and_the_size_are_printed(sound, submission):
    archive, done = submission
    said = f"wrote {archive}: {len(sound.ids)} PNGs for comp6, {archive.stat().st_size:,} bytes"
    assert re.fullmatch(re.escape(said) + r" in [\d.]+ s \([\d.]+ images/s\)\n", done.stdout)


def test_a_list_that_is_not_the_whole_test_set_is_said_to_make_a_trial(sound, submission, outcomes):
    (note,) = submission[1].stderr.splitlines()
    assert note.startswith("note: a trial") and "1,456" in note and str(sound.list) in note
    whole = archive_of(outcomes["whole"])
    assert outcomes["whole"].stderr == ""
    with tarfile.open(whole) as tar:
        assert len(tar.getmembers()) == TEST_IMAGES


# -- what is refused --------------------------------------------------------------------------------------------


def save_with_palette(path: Path, labels: np.ndarray, palette: np.ndarray) -> None:
    image = Image.fromarray(labels)
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(path)


def save_quantised(path: Path, labels: np.ndarray) -> None:
    Image.fromarray(voc_palette()[labels]).quantize(256).save(path)


def link_outside(path: Path) -> None:
    outside = path.parent.parent / "a sound prediction.png"
    path.rename(outside)
    path.symlink_to(outside)


def replace(path: Path, make) -> None:
    path.unlink()
    make(path)


LABELS = np.arange(21, dtype=np.uint8).reshape(3, 7)
# What happened to the prediction of the id that is so called (its image is 7 x 3 pixels), and what is said of it.
FAULTS = {
    "missing": (Path.unlink, "no such file"),
    "text": (lambda path: path.write_text("not found"), "cannot be read as a PNG"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as a PNG"),
    "truncated": (lambda path: truncate(path, 20), "cannot be read as a PNG"),
    "a jpeg": (lambda path: Image.fromarray(LABELS).save(path, format="JPEG"), "cannot be read as a PNG"),
    "colours": (lambda path: Image.fromarray(voc_palette()[LABELS]).save(path), "found RGB colours"),
    "16 bit": (lambda path: Image.fromarray(LABELS.astype(np.uint16)).save(path), "found 16-bit values"),
    "grey": (lambda path: Image.fromarray(LABELS).save(path), "found 8-bit grey"),
    "grey palette": (lambda path: save_with_palette(path, LABELS, np.arange(768) // 3), "found another palette"),
    "one wrong colour": (
        lambda path: save_with_palette(path, LABELS, voc_palette() ^ (np.arange(256) == 20)[:, None]),
        "found another palette",
    ),
    "quantised": (lambda path: save_quantised(path, LABELS), "found colours (index "),
    "label 21": (lambda path: save_with_palette(path, LABELS + 1, voc_palette()), "expected labels 0 to 20, found 21"),
    "border": (lambda path: save_label_map(path, np.where(LABELS, LABELS, 255).astype(np.uint8), VOC12), "found 255"),
    "turned": (lambda path: save_label_map(path, LABELS.T, VOC12), "expected 3 x 7 (height x width), found 7 x 3"),
    "one column short": (lambda path: save_label_map(path, LABELS[:, 1:], VOC12), "found 3 x 6"),
    "a folder": (lambda path: replace(path, Path.mkdir), "expected a file"),
    "a pipe": (lambda path: replace(path, os.mkfifo), "expected a file"),
    "a broken link": (lambda path: replace(path, lambda path: path.symlink_to("nowhere")), "expected a file"),
    "a link outside": (link_outside, "a link that leaves the folder"),
    "text without image": (lambda path: path.write_text("not found"), "cannot be read as a PNG"),
}
# Beside the predictions lies what is none.
STRAYS = {
    "unlisted.png": lambda path: save_label_map(path, LABELS, VOC12),
    "sound.PNG": lambda path: save_label_map(path, LABELS, VOC12),
    "sound": lambda path: save_label_map(path.with_suffix(".png"), LABELS, VOC12) or path.write_text(""),
    ".sound.png.tmp": lambda path: path.write_text(""),
    "comp6_test_cls": Path.mkdir,
    "test.txt": lambda path: path.write_text("sound\n"),
}
IMAGE_FAULTS = {
    "image missing": (Path.unlink, "no such file"),
    "image truncated": (lambda path: truncate(path, 50), "truncated"),
    "image empty": (lambda path: path.write_bytes(b""), "empty"),
    "text without image": (Path.unlink, "no such file"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Folder:
    """Predictions and images with every fault, each on the id of its name, and an older archive."""
    folder = Folder(tmp_path_factory.mktemp("faulty"), [*dict.fromkeys([*FAULTS, *IMAGE_FAULTS]), "sound", "sound too"])
    for identifier in folder.ids:
        Image.fromarray(voc_palette()[LABELS]).save(folder.image(identifier))
        save_label_map(folder.prediction(identifier), LABELS, VOC12)
    for identifier, (spoil, _) in FAULTS.items():
        spoil(folder.prediction(identifier))
    for identifier, (spoil, _) in IMAGE_FAULTS.items():
        spoil(folder.image(identifier))
    for name, make in STRAYS.items():
        make(folder.predictions / name)
    (folder.root / "results.tgz").write_bytes(b"older")
    return folder


# Flags that cannot be followed, in a folder with a damaged prediction, and what is said of them.
FLAGS = {
    "neither .tgz nor .tar.gz": ({"out": "results.zip"}, "results.zip: expected a file name that ends in .tgz or"),
    "no suffix": ({"out": "results"}, "results: expected a file name that ends in .tgz or .tar.gz"),
    "in no folder": ({"out": "none/results.tgz"}, "/none is not there"),
    "in the results": ({"out": "predictions/results.tgz"}, "results.tgz: lies inside --results"),
    "below the results": ({"out": "predictions/sub/results.tgz"}, "results.tgz: lies inside --results"),
    "a link into the results": ({"out": "inside.tgz"}, "inside.tgz: lies inside --results"),
    "in the results by a link": ({"out": "link/results.tgz"}, "results.tgz: lies inside --results"),
    "a folder": ({"out": "folder.tgz"}, "folder.tgz: expected a file to write, found a folder"),
    "no results": ({"results": "none"}, "none: expected a folder (predictions, <id>.png), found nothing there"),
    "no images": ({"img_root": "none"}, "none: expected a folder (JPEGImages, <id>.jpg), found nothing there"),
    "no list": ({"list": "none"}, "none: expected a file (a list of images, one id a line), found nothing there"),
    "no competition of VOC's": ({"comp": "7"}, "argument --comp: invalid choice"),
    "no predictions": ({"results": "empty"}, "empty: no predictions there; run test.py with TEST_SPLIT=test first"),
}


@pytest.fixture(scope="module")
def unfollowed(tmp_path_factory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("unfollowed"), ["damaged", "sound"])
    truncate(folder.prediction("damaged"), 20)
    (folder.predictions / "sub").mkdir()
    for name in ("empty", "folder.tgz"):
        (folder.root / name).mkdir()
    (folder.root / "link").symlink_to(folder.predictions)
    (folder.root / "inside.tgz").symlink_to(folder.predictions / "inside.tgz")
    return folder


@pytest.fixture(scope="module")
def outcomes(sound, again, whole, faulty, unfollowed) -> dict[str, subprocess.CompletedProcess]:
    """What the command said of each folder, of `sound` in competition 5, and of `FLAGS`, under their names.

    Where it refused, everything is as it was: no archive, no part of one, the older one.
    """
    jobs = {
        "comp5": sound.words(out="comp5.tgz", comp=5),
        "again": again.words(out="elsewhere/another name.tar.gz"),
        "whole": whole.words(),
        "faulty": faulty.words(),
        **{name: unfollowed.words(**flags) for name, (flags, _) in FLAGS.items()},
    }
    before = contents(faulty.root), contents(unfollowed.root)
    with Forker(["segmentation.submission"], env=environment()) as forker:
        results = {name: forker.run(["-m", MODULE, *words], ROOT) for name, words in jobs.items()}
    assert (contents(faulty.root), contents(unfollowed.root)) == before
    return results


def line_about(done: subprocess.CompletedProcess, path: Path) -> str:
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"  {path}: ")]
    return line


def test_every_fault_is_named_in_one_message_and_nothing_else_is(faulty, outcomes):
    number = len(FAULTS) + len(IMAGE_FAULTS) + len(STRAYS)
    assert number <= 50  # all are shown
    assert_refused(outcomes["faulty"], f"--results {faulty.predictions}: ", f"({number}):")
    assert len(outcomes["faulty"].stderr.splitlines()) == 1 + number
    assert outcomes["faulty"].stdout == ""


@pytest.mark.parametrize("identifier", FAULTS)
def test_a_prediction_that_the_server_would_refuse_is_named(faulty, outcomes, identifier):
    assert FAULTS[identifier][1] in line_about(outcomes["faulty"], faulty.prediction(identifier))


@pytest.mark.parametrize("identifier", IMAGE_FAULTS)
def test_an_image_that_gives_no_size_is_named(faulty, outcomes, identifier):
    assert IMAGE_FAULTS[identifier][1] in line_about(outcomes["faulty"], faulty.image(identifier))


@pytest.mark.parametrize("name", STRAYS)
def test_what_is_no_prediction_of_the_list_is_named(faulty, outcomes, name):
    assert "expected <id>.png of the list only" in line_about(outcomes["faulty"], faulty.predictions / name)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_that_cannot_be_followed_are_refused_before_the_files_are_read(outcomes, name):
    assert_refused(outcomes[name], FLAGS[name][1])
    assert "damaged.png" not in outcomes[name].stderr
