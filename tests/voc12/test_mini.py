"""`python -m voc12.mini`: the generated data set's layout, its agreement with itself, and that it can be had again."""

import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.annotations import labels_from_annotations
from tool.artifact import load_label_map
from tool.cli import UserError
from tool.colour import voc_palette
from tool.dataset import IGNORE
from tool.lists import read_ids
from voc12.classes import CLASSES, NUM_CLASSES, VOC12
from voc12.mini import generate, image_id
from voc12.mini_look import LOOKS, SILHOUETTES
from voc12.mini_scene import _Pose, _resolve_occlusion, _Thing, draw_scene, main_class
from voc12.mini_texture import BACKGROUNDS, PATTERNS

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"train": 20, "train_aug": 60, "val": 20, "test": 4}
SETTINGS = {"seed": 5, **COUNTS, "size": 64}


def command(out: Path, settings: dict[str, int]) -> list[str]:
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "voc12.mini", "--out", str(out), *flags]


def run_mini(out: Path, **settings: int) -> subprocess.CompletedProcess:
    return subprocess.run(command(out, settings), cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("mini") / "new" / "folder"
    result = run_mini(out, **SETTINGS)
    assert result.returncode == 0, result.stderr
    return out / "VOC2012"


def split(voc: Path, name: str) -> list[str]:
    return read_ids(voc / "ImageSets" / "Segmentation" / f"{name}.txt", "--list")


def annotated(voc: Path) -> list[str]:
    return split(voc, "trainaug") + split(voc, "val")


def mask_of(voc: Path, name: str) -> np.ndarray:
    return load_label_map(voc / "SegmentationClassAug" / f"{name}.png", VOC12)


def saliency_of(voc: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(voc / "saliency" / f"{name}.png"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- layout ------------------------------------------------------------------------------------------------------------


def test_lists_have_the_sizes_asked_for_and_only_train_and_trainaug_overlap(voc):
    train, train_aug, val, test = (split(voc, name) for name in ("train", "trainaug", "val", "test"))
    assert [len(ids) for ids in (train, train_aug, val, test)] == list(COUNTS.values())
    assert set(train) < set(train_aug)
    everything = train_aug + val + test
    assert len(set(everything)) == len(everything)
    for ids in (train, train_aug, val, test):
        assert ids == sorted(ids)
    assert not any(name.startswith(("19", "20")) for name in everything)  # VOC's years


def test_every_file_of_the_kit_is_there_and_no_other(voc):
    train, train_aug, val, test = (split(voc, name) for name in ("train", "trainaug", "val", "test"))
    expected = {"mini.json", *(f"ImageSets/Segmentation/{name}.txt" for name in ("train", "trainaug", "val", "test"))}
    expected |= {f"JPEGImages/{name}.jpg" for name in train_aug + val + test}
    expected |= {f"saliency/{name}.png" for name in train_aug + val + test}
    expected |= {f"SegmentationClassAug/{name}.png" for name in train_aug + val}
    expected |= {f"Annotations/{name}.xml" for name in train_aug + val}
    expected |= {f"Segmentation{kind}/{name}.png" for kind in ("Class", "Object") for name in train + val}
    assert set(contents(voc)) == expected
    assert [path.name for path in voc.parent.iterdir()] == ["VOC2012"]


def test_the_folder_is_as_open_to_others_as_any_new_folder(voc, tmp_path):
    (tmp_path / "new").mkdir()
    assert voc.stat().st_mode == (tmp_path / "new").stat().st_mode


def test_masks_are_palette_images_in_vocs_colours_with_its_labels_only(voc):
    for path in sorted([*voc.glob("SegmentationClass/*"), *voc.glob("SegmentationClassAug/*")]):
        with Image.open(path) as image:
            assert image.mode == "P"
            assert image.getpalette() == voc_palette().ravel().tolist()
            assert set(np.unique(np.asarray(image))) <= {*range(NUM_CLASSES + 1), IGNORE}
    for path in voc.glob("SegmentationClass/*"):
        assert path.read_bytes() == (voc / "SegmentationClassAug" / path.name).read_bytes()


def test_images_masks_and_saliency_maps_have_one_size_and_the_images_differ_in_theirs(voc):
    sizes = set()
    for name in annotated(voc) + split(voc, "test"):
        image = Image.open(voc / "JPEGImages" / f"{name}.jpg")
        saliency = Image.open(voc / "saliency" / f"{name}.png")
        assert (image.format, image.mode, saliency.format, saliency.mode) == ("JPEG", "RGB", "PNG", "L")
        assert saliency.size == image.size
        assert 0.84 * SETTINGS["size"] < max(image.size) < 1.16 * SETTINGS["size"]
        sizes.add(image.size)
        if name not in split(voc, "test"):
            assert mask_of(voc, name).shape == image.size[::-1]
    assert any(width > height for width, height in sizes) and any(width < height for width, height in sizes)


# -- agreement ---------------------------------------------------------------------------------------------------------


def test_labels_made_from_the_annotations_are_the_classes_in_the_masks(voc):
    labels, problems = labels_from_annotations(voc / "Annotations", annotated(voc), VOC12)
    assert not problems
    for name in annotated(voc):
        shown = set(np.unique(mask_of(voc, name))) - {0, IGNORE}
        assert set(np.flatnonzero(labels[name]) + 1) == shown


def test_masks_of_objects_number_those_of_the_annotations(voc):
    for name in split(voc, "train") + split(voc, "val"):
        with Image.open(voc / "SegmentationObject" / f"{name}.png") as image:
            numbers = np.asarray(image)
        mask = mask_of(voc, name)
        assert np.array_equal(numbers == IGNORE, mask == IGNORE) and np.array_equal(numbers == 0, mask == 0)
        items = ElementTree.parse(voc / "Annotations" / f"{name}.xml").getroot().findall("object")
        assert [*np.unique(numbers[(numbers != 0) & (numbers != IGNORE)])] == [*range(1, len(items) + 1)]
        for number, item in enumerate(items, 1):
            assert {*mask[numbers == number]} == {CLASSES.index(item.findtext("name")) + 1}


def test_annotations_describe_image_and_objects_with_boxes_that_count_from_one(voc):
    single = 0
    for name in annotated(voc):
        root = ElementTree.parse(voc / "Annotations" / f"{name}.xml").getroot()
        mask = mask_of(voc, name)
        height, width = mask.shape
        assert [root.findtext(field) for field in ("folder", "filename")] == ["VOC2012", f"{name}.jpg"]
        assert [int(root.findtext(f"size/{field}")) for field in ("width", "height", "depth")] == [width, height, 3]
        for item in root.findall("object"):
            assert item.findtext("name") in CLASSES
            assert {item.findtext("truncated"), item.findtext("difficult")} <= {"0", "1"} and item.findtext("pose")
            box = [int(item.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")]
            assert 1 <= box[0] < box[2] <= width and 1 <= box[1] < box[3] <= height
            assert (mask[box[1] - 1 : box[3], box[0] - 1 : box[2]] == CLASSES.index(item.findtext("name")) + 1).any()
        if len(root.findall("object")) == 1:
            single += 1
            rows, columns = np.nonzero(mask)  # the object and, at this size, one pixel of border around it
            assert max(1, box[0] - 1) == columns.min() + 1 and min(width, box[2] + 1) == columns.max() + 1
            assert max(1, box[1] - 1) == rows.min() + 1 and min(height, box[3] + 1) == rows.max() + 1
            if item.findtext("truncated") == "0":
                assert min(box[:2]) > 1 and box[2] < width and box[3] < height
    assert single


def test_a_border_lies_between_any_two_labels_and_is_thin(voc):
    for name in annotated(voc):
        mask = mask_of(voc, name)
        highest_beside = cv2.dilate(np.where(mask == IGNORE, 0, mask), np.ones((3, 3), np.uint8))
        assert not ((mask != IGNORE) & (highest_beside > mask)).any()
        assert 0 < (mask == IGNORE).mean() < 0.3


def test_every_class_is_in_a_twentieth_of_the_images_of_each_list(voc):
    labels, _ = labels_from_annotations(voc / "Annotations", annotated(voc), VOC12)
    for name in ("train", "trainaug", "val"):
        counts = np.sum([labels[identifier] for identifier in split(voc, name)], axis=0)
        assert (counts >= len(split(voc, name)) // NUM_CLASSES).all()


@pytest.mark.parametrize("size", [32, 128])
def test_no_scene_loses_its_main_class_or_labels_an_object_that_cannot_be_seen(size):
    for index in range(120):
        scene = draw_scene(9, index, size=size)
        classes = {item.class_index for item in scene.objects}
        assert main_class(9, index) in classes
        assert {c + 1 for c in classes} == set(np.unique(scene.mask)) - {0, IGNORE}


def test_objects_in_front_hide_those_behind_and_the_all_but_hidden_are_dropped():
    def box(class_index: int, left: int, right: int) -> _Thing:
        cover = np.zeros((40, 100), np.float32)
        cover[5:35, left:right] = 1
        return _Thing(class_index, _Pose(np.zeros(2), np.eye(2)), cover)

    # Class 1 shows a tenth of itself; class 2 shows 5 columns of 30, too few once the border has taken 2.
    front, tenth, narrow, half = box(0, 0, 40), box(1, 4, 44), box(2, 15, 45), box(3, 20, 60)
    visible, kept = _resolve_occlusion([front, tenth, narrow, half], unit=1)
    assert [thing.class_index for thing in kept] == [0, 3]
    assert (visible[0] == front.inside).all()
    assert (visible[1] == (half.inside & ~front.inside)).all()


def test_saliency_covers_most_of_the_objects_but_errs_on_both_sides(voc):
    agreement, missed, unlabelled = [], 0, 0
    for name in annotated(voc):
        mask, salient = mask_of(voc, name), saliency_of(voc, name) > 127
        objects, judged = (mask > 0) & (mask != IGNORE), mask != IGNORE
        agreement.append((objects & salient).sum() / ((objects | salient) & judged).sum())
        missed += (objects & ~salient).sum() > 0.15 * objects.sum()
        unlabelled += (salient & (mask == 0)).sum() > 0.02 * mask.size
    assert np.mean(agreement) > 0.75
    assert 0.05 < missed / len(agreement) < 0.4
    assert 0.1 < unlabelled / len(agreement) < 0.6


def test_saliency_is_soft(voc):
    values = np.concatenate([saliency_of(voc, name).ravel() for name in annotated(voc)])
    assert 0.05 < ((values > 25) & (values < 180)).mean() < 0.4


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_telling_parts_are_unique_and_bodies_of_one_colour_differ_in_shape():
    assert len(LOOKS) == NUM_CLASSES
    assert len({(look.pattern, frozenset(look.colours)) for look in LOOKS}) == NUM_CLASSES
    assert len({(look.body, look.silhouette, look.aspect) for look in LOOKS}) == NUM_CLASSES
    assert {look.background for look in LOOKS} == set(BACKGROUNDS) and {look.pattern for look in LOOKS} == set(PATTERNS)
    for look in LOOKS:
        outline = SILHOUETTES[look.silhouette].astype(np.float32)
        assert cv2.pointPolygonTest(outline, look.part, False) > 0


def test_the_telling_part_is_a_small_share_of_its_object_and_the_body_is_plain():
    shares = []  # of an object's pixels that are brighter or darker than any body
    for index in range(60):
        scene = draw_scene(2, index, size=128)
        if len(scene.objects) == 1:
            colours = scene.image[(scene.mask > 0) & (scene.mask != IGNORE)].astype(int)
            extreme = (colours.max(1) > 225) | (colours.max(1) < 45)
            shares.append(extreme.mean())
    assert 0.1 < np.median(shares) < 0.3


# -- to be had again ---------------------------------------------------------------------------------------------------


def test_the_same_settings_give_the_same_bytes_and_another_seed_other_images(voc, tmp_path):
    again = generate(tmp_path / "again", **SETTINGS)
    assert contents(again) == contents(voc)
    other = generate(tmp_path / "other", **{**SETTINGS, "seed": 6})
    names = [f"JPEGImages/{name}.jpg" for name in annotated(voc)]
    ours, theirs = contents(voc), contents(other)
    assert not any(ours[name] == theirs[name] for name in names)
    assert len({ours[name] for name in names}) == len(names)


def test_an_image_does_not_depend_on_how_many_there_are(voc, tmp_path):
    few = contents(generate(tmp_path, seed=SETTINGS["seed"], size=64, train=2, train_aug=4, val=3, test=2))
    many = contents(voc)
    for index in range(9):
        for name in (f"JPEGImages/{image_id(index)}.jpg", f"saliency/{image_id(index)}.png"):
            assert few[name] == many[name]
    for index in range(7):
        for name in (f"SegmentationClassAug/{image_id(index)}.png", f"Annotations/{image_id(index)}.xml"):
            assert few[name] == many[name]


def test_a_data_set_with_the_same_settings_is_left_as_it_is(tmp_path):
    settings = {"seed": 1, "train": 1, "train_aug": 1, "val": 1, "test": 1, "size": 32}
    voc = generate(tmp_path, **settings)
    (voc / "JPEGImages" / "mine.txt").write_text("a user's note")
    before = contents(voc)
    result = run_mini(tmp_path, **settings)
    assert result.returncode == 0 and "as it is" in result.stdout
    assert contents(voc) == before


def test_a_data_set_that_lost_or_changed_files_is_refused_with_their_names(tmp_path):
    settings = {"seed": 1, "train": 1, "train_aug": 2, "val": 1, "test": 1, "size": 32}
    voc = generate(tmp_path, **settings)
    (voc / "saliency" / f"{image_id(0)}.png").unlink()
    with open(voc / "Annotations" / f"{image_id(1)}.xml", "a") as file:
        file.write("<!-- mine -->")
    before = contents(voc)
    result = run_mini(tmp_path, **settings)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: --out ") and "missing or changed; remove it" in lines[0]
    assert lines[1:] == [f"  Annotations/{image_id(1)}.xml", f"  saliency/{image_id(0)}.png"]
    assert contents(voc) == before


def test_two_runs_at_once_take_turns(tmp_path):
    settings = {**SETTINGS, "size": 32}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command(tmp_path, settings), cwd=ROOT, **pipe) for _ in range(2)]
    outputs = [process.communicate() for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outputs
    assert sorted("as it is" in output for output, _ in outputs) == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["VOC2012"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "VOC2012").mkdir()
    assert (generate(tmp_path, train=1, train_aug=1, val=1, test=1, size=32) / "mini.json").exists()


def test_a_killed_run_leaves_no_data_set_and_the_next_one_is_whole(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, {"train_aug": 100_000}), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not list(tmp_path.rglob("*.jpg")):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "VOC2012").exists()
    voc = generate(tmp_path, train=1, train_aug=2, val=1, test=1, size=32)
    assert len(list((voc / "JPEGImages").iterdir())) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["VOC2012"]  # nothing is left of the killed run


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"train": 9, "train_aug": 8}, "--train 9"),
        ({"size": 31}, "--size 31"),
        ({"size": 1025}, "--size 1025"),
        ({"val": 10**6}, "--train_aug, --val, --test: expected at most 1000000 images together, got 1000500"),
        ({"seed": -1}, "--seed -1"),
        ({"seed": 2**32}, f"--seed {2**32}"),
    ],
)
def test_settings_without_sense_are_refused_before_anything_is_written(settings, named, tmp_path):
    with pytest.raises(UserError, match=named):
        generate(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "VOC2012").mkdir()
    (tmp_path / "VOC2012" / "thesis.tex").write_text("years of work")
    result = run_mini(tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --out ") and "something else" in result.stderr
    assert contents(tmp_path) == {"VOC2012/thesis.tex": b"years of work"}


def test_a_data_set_with_other_settings_is_refused_and_stays_as_it_is(voc):
    before = contents(voc.parent)
    result = run_mini(voc.parent, **{**SETTINGS, "val": 21})
    assert result.returncode == 2
    assert result.stderr.startswith("error: --out ") and "other settings" in result.stderr
    assert contents(voc.parent) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    result = run_mini(tmp_path / "file")
    assert result.returncode == 2
    assert result.stderr.startswith("error: --out ") and "Traceback" not in result.stderr
