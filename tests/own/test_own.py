"""Photographs of a user's own: what `own.prepare` makes of a folder, and recipes that run on it."""

import json
import os
import shlex
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from data.descriptions import find_data_set
from data.labels import load_labels, save_labels
from method import METHODS
from run import RECIPES
from tests.scripts.conftest import ROOT, assert_succeeded, forker
from tests.tool.report_runs import page_data
from tool.lists import read_ids

LABELS = {
    "photo 0.jpg": ["cup"],
    "photo 1.jpg": ["traffic light"],
    "photo 2.jpg": ["traffic light", "cup"],
    "photo 3": ["cup"],
    "photo 4": [],
}
IDS = [f"photo {number}" for number in range(6)]
TINY = {
    "train": {"backbone": "resnet18", "weights": "none", "from_scratch": True, "max_iters": 1, "crop_size": 32}
    | {"batch_size": 2, "num_workers": 0},
    "infer_aug": {"scales": 1},
    "deeplab": {"MODEL_ASPP_OUTDIM": 8, "TRAIN_ITERATION": 1, "TRAIN_BATCHES": 2, "DATA_WORKERS": 0}
    | {"DATA_RANDOMCROP": 32, "TEST_MULTISCALE": "[1.0]"},
}


@pytest.fixture
def mine(tmp_path) -> Path:
    """Six photographs, four of them with a class, one with none, one without a label; no masks, no lists."""
    root = tmp_path / "MINE"
    (root / "JPEGImages").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for identifier in IDS:
        picture = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "JPEGImages" / f"{identifier}.jpg")
    (root / "set.json").write_text(json.dumps({"names": ["background", "cup", "traffic light"]}))
    (root / "labels.json").write_text(json.dumps(LABELS))
    return root


HIDDEN = b"\0\5\x16\7Mac OS X"  # as a Mac puts ._<name> beside a file on a foreign disk


def put_masks(root: Path, *ids: str, label: int = 2) -> None:
    (root / "SegmentationClass").mkdir()
    for identifier in ids:
        Image.fromarray(np.full((30, 40), label, np.uint8)).save(root / "SegmentationClass" / f"{identifier}.png")


def prepare(root: Path, *flags: str):
    out = root.parent / "data"
    done = forker().run(["-m", "own.prepare", "--own_root", root, "--out", out, *flags], ROOT)
    return done, {path.stem: read_ids(path) for path in out.glob("*.txt")}


def test_names_become_labels_and_what_there_is_becomes_lists(mine):
    done, lists = prepare(mine)
    assert_succeeded(done)
    assert lists == {"train_aug": IDS[:4], "test": IDS}
    assert (
        "images to learn from with cup 3, traffic light 2\n" in done.stdout and "nothing will be scored" in done.stdout
    )
    data_set = find_data_set(str(mine / "set.json"))
    labels = load_labels(mine.parent / "data" / "cls_labels.npy", data_set)
    expected = {IDS[0]: [1, 0], IDS[1]: [0, 1], IDS[2]: [1, 1], IDS[3]: [1, 0], IDS[4]: [0, 0]}
    assert {identifier: vector.tolist() for identifier, vector in labels.items()} == expected
    # The same from a file of numbers, and with masks and lists.
    (mine / "labels.json").unlink()
    save_labels(mine / "cls_labels.npy", labels)
    put_masks(mine, IDS[0], IDS[3])
    (mine / "val.txt").write_text(f"{IDS[3]}\n")
    (mine / "test.txt").write_text(f"{IDS[5]}\n")
    done, lists = prepare(mine)
    assert_succeeded(done)
    assert lists == {"train_aug": IDS[:3], "train": IDS[:1], "val": [IDS[3]], "test": [IDS[5]]}
    assert {
        i: v.tolist() for i, v in load_labels(mine.parent / "data" / "cls_labels.npy", data_set).items()
    } == expected


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("set.json", None, "--own_root {}/set.json: expected a file (the description of a data set)"),
        ("set.json", {"names": ["cup", "lamp"]}, "expected a data set with a background, found none"),
        (
            "set.json", {"names": ["background", "cup"], "images": ["a", "b"]},
            '--own_root {}/set.json: "images": expected JPEGImages, found',
        ),
        ("labels.json", None, '--own_root {}: expected labels, labels.json, {{"<id>": ["<class>", ...], ...}}, or cl'),
        ("labels.json", ["photo 0"], 'expected the classes of each image, {{"<id>": ["<class>", ...], ...}}, '),
        ("labels.json", '{"a": ["cup"], "a": ["cup"]}', "a: has labels twice"),
        ("labels.json", {"photo 0": ["cupp"]}, "photo 0: 'cupp' is no class of set.json; did you mean cup?"),
        ("labels.json", {"photo 0": "cup"}, 'expected the classes of each image, {{"<id>": ["<class>", ...], ...}}, '),
        ("labels.json", {"a": ["cup"], "a.jpg": ["cup"]}, "a: has labels twice"),
        ("labels.json", {"photo 0": []}, "nothing to learn from: no image outside val.txt has a class"),
        ("labels.json", {"photo 0": ["cup"], "photo 9": ["cup"]}, "photo 9.jpg"),
        ("train.txt", "photo 5\n", "photo 5: no label"),
        ("val.txt", "photo 3\n", "val.txt: expected images with masks, to score on (1):\n  photo 3: no Segment"),
        ("labels.json", {"photo 0 ": ["cup"]}, "'photo 0 ': the id begins or ends with a space"),
        ("labels.json", {"a.jpeg.jpg": ["cup"]}, "'a.jpeg.jpg': the id is read as 'a' in a list"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_and_nothing_is_written(mine, name, content, expected):
    (mine / name).unlink(missing_ok=True)
    if content is not None:
        (mine / name).write_text(content if isinstance(content, str) else json.dumps(content))
    done, lists = prepare(mine)
    assert done.returncode == 2 and not lists
    assert expected.format(mine) in done.stdout + done.stderr, done.stdout + done.stderr
    assert done.stderr.startswith("error: --own_root ") and "Traceback" not in done.stderr


def test_a_folder_in_a_lists_place_and_names_that_are_no_ids_are_named_and_other_files_are_left_out(mine):
    (mine / "JPEGImages" / "Thumbs.db").touch()
    done, lists = prepare(mine)
    assert_succeeded(done)
    assert "note: 1 of JPEGImages are no .jpg, .jpeg, .JPG, .png, as 'Thumbs.db': left out\n" in done.stdout
    assert lists["test"] == IDS
    strange = (mine / "JPEGImages" / "Thumbs.db").rename(mine / "JPEGImages" / os.fsdecode(b"\xff.jpg"))
    twice = shutil.copy(mine / "JPEGImages" / f"{IDS[0]}.jpg", mine / "JPEGImages" / "b.JPG.jpg")
    done, _ = prepare(mine)
    assert done.returncode == 2 and "'\\udcff.jpg': the id has a control character" in done.stderr, done.stderr
    assert "'b.JPG.jpg': the id is read as 'b' in a list" in done.stderr
    strange.unlink()
    twice.unlink()
    for path in [*(mine / "JPEGImages").iterdir()]:
        path.rename(path.with_suffix(".tif"))
    done, _ = prepare(mine)
    assert done.returncode == 2 and "found none, as 'photo 0.tif'; name their ending in set.json" in done.stderr
    (mine / "train.txt").mkdir()
    for path in [*(mine / "JPEGImages").iterdir()]:
        path.rename(path.with_suffix(".jpg"))
    done, _ = prepare(mine)
    assert done.returncode == 2 and f"--own_root {mine}/train.txt: expected a file" in done.stderr


@pytest.mark.parametrize(
    ("label", "identifier", "expected"),
    [(3, IDS[0], "SegmentationClass/photo 0.png"), (1, "other", "found others, as other.png")],
)
def test_masks_that_fit_nothing_are_named(mine, label, identifier, expected):
    put_masks(mine, identifier, label=label)
    done, lists = prepare(mine)
    assert done.returncode == 2 and not lists and expected in done.stdout + done.stderr


def test_a_macs_hidden_files_are_no_masks(mine):
    put_masks(mine, IDS[3])
    (mine / "SegmentationClass" / f"._{IDS[3]}.png").write_bytes(HIDDEN)
    (mine / "val.txt").write_text(f"{IDS[3]}\n")
    done, lists = prepare(mine)
    assert_succeeded(done)
    assert lists["val"] == [IDS[3]] and "train" not in lists
    done = forker().run(["run.py", "cls", "--own_root", mine, "--out", "out", "--list"], ROOT)
    assert_succeeded(done)
    assert "out/data/train.txt" not in done.stdout, "no mask of an image to learn from is there"


def test_keys_of_labels_that_are_no_ids_are_refused(mine):
    (mine / "labels.json").unlink()
    shutil.copy(mine / "JPEGImages" / f"{IDS[0]}.jpg", mine / "outside.jpg")
    save_labels(mine / "cls_labels.npy", {IDS[0]: np.ones(2), "../outside": np.ones(2)})
    done, lists = prepare(mine)
    assert done.returncode == 2 and not lists
    assert "cls_labels.npy: keys that are no ids; rename them (1):\n  '../outside': the id has a path" in done.stderr


@pytest.mark.parametrize("masked", [False, True])
def test_every_recipe_of_voc_takes_them_and_reads_no_list_that_is_not_made(mine, masked):
    if masked:
        put_masks(mine, IDS[0], IDS[3])
        (mine / "val.txt").write_text(f"{IDS[3]}\n")
    (mine / "saliency").mkdir()
    _, lists = prepare(mine)
    recipes = [name for name in RECIPES if "coco" not in name and "cub" not in name]
    for name in [*recipes, "cls+irn+dhr", "eps+affinity+deeplabv3plus"]:
        done = forker().run(["run.py", name, "--own_root", mine, "--out", "out", "--list"], ROOT)
        assert_succeeded(done)
        words = [Path(word) for word in shlex.split(done.stdout, comments=True)]
        read = {word.stem for word in words if word.suffix == ".txt" and word.parent == Path("out/data")}
        assert read <= lists.keys(), name
        assert ("# eval" in done.stdout) == masked and f"{mine / 'set.json'} " in done.stdout
        for line in (line for line in done.stdout.splitlines() if " train_voc.py " in line):
            # Some methods score labels of VOC's list after each epoch, if nothing is said.
            own = METHODS[line.split("--method ")[1].split()[0]].defaults
            assert "eval_every" not in own or "--val_list out/data/" in line or "--eval_every none" in line, name
            assert "--val_list out/data/val.txt" not in line, "its images have masks, and may have no label"
        names = [line for line in done.stdout.splitlines() if line.startswith("# ")]
        assert ("# predict" in names) != ("# dhr_test" in names), "all are segmented"
        assert ("# test" in names or "# eval_dhr" in names) == masked


def test_the_list_of_commands_says_which_saliency_maps_are_missing(mine):
    missing = f"note: --saliency_root {mine / 'saliency'}: expected a folder with saliency maps, <id>.png, which the"
    for name, wanted in (("eps", f"{missing} run needs; found nothing there\n"), ("cls", "")):
        done = forker().run(["run.py", name, "--own_root", mine, "--out", "out", "--list"], ROOT)
        assert_succeeded(done)
        assert done.stderr == wanted and "# train\n" in done.stdout
    (mine / "saliency").mkdir()
    done = forker().run(["run.py", "eps", "--own_root", mine, "--out", "out", "--list"], ROOT)
    assert_succeeded(done)
    assert done.stderr == ""


def test_a_recipe_runs_on_them_without_a_single_mask(mine):
    changes = [f"{stage}.{flag}={value}" for stage, flags in TINY.items() for flag, value in flags.items()]
    out = mine.parent / "out"
    words = ["run.py", "cls+crf+deeplabv2_from_classifier", "--own_root", mine, "--out", out, "--set", *changes]
    assert_succeeded(forker().run(words, ROOT))
    log = (out / "deeplab" / "log").read_text()
    assert f"{out / 'cls' / 'cls.pth'}: 100 of the backbone's 100 tensors loaded\n" in log  # by its own stem
    found = {path.stem for path in (out / "deeplab" / "results" / "set").rglob("*.png")}
    assert found == {*IDS}
    shown = {image["id"]: image["pictures"] for image in page_data(out / "cls" / "report.html")["images"]}
    assert {*shown} == {*IDS} and shown["photo 5"] == ["image", "0 segmentation"]
    assert shown["photo 0"] == ["image", "0 cam 1", "0 seed", "0 crf", "0 segmentation"]
    assert json.loads((out / "summary.json").read_text())["scores"] == {}
    # What changes is seen: a photograph more to segment is segmented, one more to learn from is for another folder.
    # Labels that are damaged are made again.
    picture = mine / "JPEGImages" / "photo 0.jpg"
    shutil.copy(picture, mine / "JPEGImages" / "photo 6.jpg")
    labels = out / "data" / "cls_labels.npy"
    content = labels.read_bytes()
    labels.write_bytes(content[:40])
    assert_succeeded(forker().run(words, ROOT))
    assert labels.read_bytes() == content
    assert (out / "deeplab" / "results" / "set" / "Segmentation" / "comp6_test_cls" / "photo 6.png").is_file()
    picture.write_bytes(picture.read_bytes())
    done = forker().run(words, ROOT)
    assert_succeeded(done)
    assert (
        "note: 1 of JPEGImages changed since" in done.stdout and "as photo 0.jpg: what was made of old" in done.stdout
    )
    (mine / "labels.json").write_text(json.dumps(LABELS | {"photo 6": ["cup"]}))
    done = forker().run(words, ROOT)
    assert done.returncode == 2 and "is of other images to learn from, or other labels (4 images then, 5" in done.stderr


def test_a_folder_without_a_description_and_a_recipe_of_other_data_are_refused(mine):
    (mine / "set.json").write_text("[]")
    done = forker().run(["run.py", "cls", "--own_root", mine], ROOT)
    assert done.stderr.startswith(f'error: --own_root {mine / "set.json"}: expected an object with "names", found list')
    (mine / "set.json").unlink()
    for words, expected in (
        (["cls"], f"error: --own_root {mine / 'set.json'}: expected a file (the classes of photographs of your own"),
        (["crt_cub"], "error: --own_root: crt_cub is about CUB-200-2011; give --cub_root instead"),
        (["cls", "--voc12_root", "."], "error: --voc12_root, --own_root: expected one of them"),
        (["cls", "--mini"], "error: --mini: it generates its own data; leave --own_root"),
    ):
        done = forker().run(["run.py", *words, "--own_root", mine], ROOT)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(expected), done.stderr


def test_a_folder_without_images_is_said_in_one_line(mine):
    for path in (mine / "JPEGImages").iterdir():
        path.unlink()
    done, _ = prepare(mine)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"{mine}/JPEGImages: expected images, .jpg, .jpeg, .JPG, .png, found none" in done.stderr


def test_what_is_left_out_or_not_followed_is_noted(mine):
    turned = Image.open(mine / "JPEGImages" / f"{IDS[0]}.jpg")
    turned.load()
    exif = turned.getexif()
    exif[Base.Orientation] = 6
    turned.save(mine / "JPEGImages" / f"{IDS[0]}.jpg", exif=exif)
    turned.save(mine / "JPEGImages" / f"{IDS[1]}.jpg", exif=b"Exif\0\0damaged")
    np.save(mine / "cls_labels.npy", {})
    learnt = IDS[:4]
    (mine / "train.txt").write_text("\n".join(learnt))
    (mine / "val.txt").write_text(learnt[0])
    put_masks(mine, *learnt)
    (mine / "set.json").write_text(json.dumps({"names": ["background", "cup", "traffic light", "vase"]}))
    done, lists = prepare(mine)
    assert_succeeded(done)
    assert learnt[0] not in lists["train_aug"]
    for note in (
        f"1 of JPEGImages are to be turned as their camera says (EXIF), as {IDS[0]}: taken as they lie",
        "has labels.json and cls_labels.npy: the latter is not read",
        f"1 of train.txt are in val.txt, too, as {learnt[0]}: nothing learns from these",
        "no image to learn from has vase",
    ):
        assert note in done.stdout


def test_images_without_a_class_and_saliency_maps_that_are_not_looked_at_are_noted(mine):
    done, _ = prepare(mine)
    assert "note: 1 with no class, as photo 4: nothing learns from these" in done.stdout
    assert "saliency" not in done.stdout
    (mine / "saliency").mkdir()
    done, _ = prepare(mine)
    assert_succeeded(done)
    assert f"note: {mine}/saliency is not looked at; --saliency_root does" in done.stdout


def test_two_photographs_of_one_id_are_named(mine):
    shutil.copy(mine / "JPEGImages" / "photo 0.jpg", mine / "JPEGImages" / "photo 0.JPG")
    done, lists = prepare(mine)
    assert done.returncode == 2 and not lists
    assert "photographs of one id, of which one would be read; rename one (1):\n  photo 0." in done.stderr


def test_names_of_classes_may_have_any_form_of_unicode_and_of_files_the_other_form_is_named(mine):
    composed, decomposed = (unicodedata.normalize(form, "Schlüssel") for form in ("NFC", "NFD"))
    (mine / "set.json").write_text(json.dumps({"names": ["background", composed]}))
    (mine / "labels.json").write_text(json.dumps({"photo 0": [decomposed]}))
    assert_succeeded(prepare(mine)[0])
    (mine / "labels.json").write_text(json.dumps({composed: [composed]}))
    shutil.copy(mine / "JPEGImages" / "photo 0.jpg", mine / "JPEGImages" / f"{decomposed}.jpg")
    done, _ = prepare(mine)
    assert done.returncode == 2
    assert r"'Schlu\u0308ssel.jpg' is there, the same letters in another form of Unicode; rename it" in done.stdout
