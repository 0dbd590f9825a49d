"""DHR's layout of VOC, by links, and of a data set without annotations; what a check of it finds."""

import json
import shutil

import pytest
import torch

from ade.classes import ADE
from data.annotations import annotated_classes
from data.descriptions import find_data_set
from rebalance.feature_files import grid_of, save_features
from tests.data.test_converted import make
from tests.scripts.conftest import ROOT, assert_refused, assert_succeeded, contents, forker, truncate
from tool.lists import read_ids
from voc12.classes import VOC12

SCRIPT = "rebalance/layout.py"


def run(*words):
    return forker().run([SCRIPT, *map(str, words)], ROOT)


@pytest.fixture(scope="module")
def root(data, tmp_path_factory):
    """The root of VOC's layout."""
    folder = tmp_path_factory.mktemp("root")
    source = data.root / "VOC2012"
    assert_succeeded(run("--root", folder, "--source", source, "--lists", data.root))
    return folder


@pytest.fixture
def copy(root, tmp_path):
    shutil.copytree(root, tmp_path / "root", symlinks=True)
    return tmp_path / "root"


def test_vocs_layout_is_links_to_the_devkits_files(data, root):
    voc, devkit = root / "VOC2012", data.root / "VOC2012"
    lists = {"train_aug": "train_aug", "validation": "val", "test": "test"}
    masks = {"train_aug": "SegmentationClassAug", "validation": "SegmentationClass"}
    for domain, name in lists.items():
        ids = read_ids(data.root / f"{name}.txt")
        parts = {"image": ("JPEGImages", ".jpg")}
        if domain in masks:
            parts |= {"mask": (masks[domain], ".png"), "xml": ("Annotations", ".xml")}
        assert {path.name for path in (voc / domain).iterdir()} == {*parts}
        for part, (folder, ending) in parts.items():
            files = {path.name: path for path in (voc / domain / part).iterdir()}
            assert {*files} == {f"{image_id}{ending}" for image_id in ids}
            assert all(path.readlink() == (devkit / folder / name).resolve() for name, path in files.items())
    found = find_data_set(str(voc / "VOC2012.json"))
    assert found.label_names == VOC12.label_names and found.background
    assert json.loads((voc / "VOC2012.json").read_text())["ignore"] == 255


def test_without_vocs_test_images_there_is_no_list_of_them_and_no_domain(data, tmp_path):
    for name in ("train_aug.txt", "val.txt"):
        shutil.copy(data.root / name, tmp_path)
    words = ("--root", tmp_path / "root", "--source", data.root / "VOC2012", "--lists", tmp_path)
    done = run(*words)
    assert_succeeded(done)
    voc = tmp_path / "root" / "VOC2012"
    assert f"{voc / 'test'}: left out; its list {tmp_path / 'test.txt'} is not there" in done.stdout
    assert {path.name for path in voc.iterdir() if path.is_dir()} == {"train_aug", "validation"}
    assert_succeeded(run("--root", tmp_path / "root", "--check"))
    (tmp_path / "val.txt").unlink()
    assert_refused(run(*words), "--lists", "val.txt")


def test_again_makes_what_is_missing_and_leaves_the_rest(data, root, copy):
    first = next((copy / "VOC2012" / "train_aug" / "mask").iterdir())
    first.unlink()
    assert_succeeded(run("--root", copy, "--source", data.root / "VOC2012", "--lists", data.root))
    assert contents(copy) == contents(root)
    first.unlink()
    first.write_text("mine")
    done = run("--root", copy, "--source", data.root / "VOC2012", "--lists", data.root)
    assert_refused(done, f"{first}: cannot be made a link", "something else is there")
    assert first.read_text() == "mine"


def test_a_check_passes_counts_and_looks_at_masks_and_features(data, copy):
    voc = copy / "VOC2012"
    shutil.copytree(data.root / "VOC2012" / "SegmentationClassAug", copy / "WSS" / "VOC2012" / "MARS" / "train_aug")
    (voc / "train_aug" / "CAUSE").mkdir()
    from PIL import Image

    for path in (voc / "train_aug" / "image").iterdir():
        grid = grid_of(Image.open(path).size, 14)
        save_features(voc / "train_aug" / "CAUSE" / f"{path.stem}.pt", torch.zeros(3, *grid))
    words = ("--root", copy, "--check", "--wss", "MARS", "--uss", "CAUSE")
    done = run(*words)
    assert_succeeded(done)
    count = len(data.ids)
    assert f"{count} images, their masks, {count} of them with tags, masks of MARS, features of CAUSE" in done.stdout
    assert not any("__" in name for name in contents(copy))
    features = next((voc / "train_aug" / "CAUSE").iterdir())
    features.unlink()
    assert_refused(run(*words), "--uss", f"{features}: no such file")
    truncate(copy / "WSS" / "VOC2012" / "MARS" / "train_aug" / f"{features.stem}.png", 20)
    assert_refused(run(*words), "--wss", f"{features.stem}.png: cannot be read")


def test_a_check_names_what_makes_a_part_that_is_not_there(copy, tmp_path):
    assert_refused(
        run("--root", copy, "--check", "--uss", "CAUSE"), "CAUSE: expected a folder", "rebalance/features.py"
    )
    assert_refused(run("--root", copy, "--check", "--wss", "MARS"), "train_aug: expected a folder", "earlier method")
    (copy / "VOC2012" / "train_aug" / "xml").rename(tmp_path / "xml")
    (copy / "VOC2012" / "validation" / "mask").rename(tmp_path / "mask")
    assert_refused(
        run("--root", copy, "--check", "--wss", "MARS", "--uss", "CAUSE"),
        "(4):",
        f"{copy / 'VOC2012' / 'train_aug' / 'xml'}: expected a folder (annotations), found nothing",
        f"{copy / 'VOC2012' / 'validation' / 'mask'}: expected a folder (true masks), found nothing",
        f"--wss {copy / 'WSS' / 'VOC2012' / 'MARS' / 'train_aug'}: expected a folder",
        f"--uss {copy / 'VOC2012' / 'train_aug' / 'CAUSE'}: expected a folder",
    )
    assert_refused(
        run("--root", copy, "--check"), "xml: expected a folder", "rebalance/layout.py --source DIR makes it"
    )
    assert_refused(run("--root", tmp_path / "none", "--check"), "--root", "the layout of VOC2012")


def test_tags_of_a_data_set_without_annotations_are_written_and_the_layout_passes(tmp_path):
    made = make(ADE, tmp_path / "set")
    assert_succeeded(made.prepare(tmp_path / "ade"))
    words = ("--data", "ADE2016", "--root", tmp_path / "root")
    assert_succeeded(run(*words, "--source", made.root, "--lists", tmp_path / "ade"))
    for domain, listed in (("train", "train"), ("validation", "val")):
        for image_id in made.lists[listed][:-1]:
            drawn = made.labels[image_id]
            found = annotated_classes(tmp_path / "root" / "ADE2016" / domain / "xml" / f"{image_id}.xml")
            assert found == {ADE.classes[label] for label in {*drawn[drawn != 255].tolist()}}
    before = contents(tmp_path / "root")
    done = run(*words, "--check")
    assert_succeeded(done)
    assert "3 images, their masks, 3 of them with tags" in done.stdout
    assert contents(tmp_path / "root") == before
    (tmp_path / "root" / "ADE2016" / "train" / "xml" / f"{made.lists['train'][0]}.xml").write_bytes(b"\xe9, of another")
    assert_succeeded(run(*words, "--source", made.root, "--lists", tmp_path / "ade"))
    assert contents(tmp_path / "root") == before


def test_mistakes_are_refused_and_nothing_is_made(data, tmp_path):
    source = data.root / "VOC2012"
    common = ("--root", tmp_path / "root", "--lists", data.root)
    assert_refused(run(*common), "--source: expected the data set's own folder")
    assert_refused(run(*common, "--source", source, "--uss", "CAUSE"), "are for --check")
    assert_refused(run(*common, "--check"), "--check: makes nothing")
    assert_refused(run(*common, "--source", tmp_path / "none"), "--source", "expected a folder")
    shutil.copytree(source, tmp_path / "VOC2012")
    gone = [tmp_path / "VOC2012" / "SegmentationClassAug" / f"{data.ids[0]}.png"]
    gone.append(tmp_path / "VOC2012" / "Annotations" / f"{data.ids[1]}.xml")
    for path in gone:
        path.unlink()
    assert_refused(run(*common, "--source", tmp_path / "VOC2012"), "(2):", *map(str, gone), "nothing made")
    assert not (tmp_path / "root").exists()
