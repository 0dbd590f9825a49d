"""DHR's label maps as a command: again from where it stopped, by two processes, in DHR's layout; refusals."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from network.deeplabv3plus import build_deeplabv3plus
from released.dhr.produce_wss_masks import SCRIPT, in_our_words
from tests.golden_inputs import rnd
from tests.scripts.conftest import (
    ROOT,
    assert_refused,
    assert_succeeded,
    contents,
    forker,
    run,
)
from tests.shapes import EMPTY, make_shapes
from tool.artifact import load_label_map
from tool.lists import Source, find_images, read_ids

WIDTH = 0.0625


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "data", classes=5)


@pytest.fixture(scope="module")
def weights(shapes, tmp_path_factory):
    torch.manual_seed(0)
    counts = {"num_labels": shapes.data_set.num_labels, "num_classes": shapes.data_set.num_classes}
    net = build_deeplabv3plus("resnet38d", width=WIDTH, **counts)
    with torch.no_grad():  # no label is likelier than the others, so that pixels differ
        features = []
        net.seg_decoder.mid_block.register_forward_hook(lambda module, inputs, found: features.append(found))
        net.eval().segment(rnd(1, 2, 3, 48, 56))
        usual = features[0].mean(dim=(0, 2, 3))
        weight = net.seg_decoder.classifier.weight[..., 0, 0]
        weight -= (weight @ usual)[:, None] * usual / usual.square().sum()
        weight *= 5 / (weight @ (features[0].flatten(2)[0] - usual[:, None])).std()
    path = tmp_path_factory.mktemp("weights") / "last.pth"
    torch.save(net.state_dict(), path)
    return path


def flags(shapes, weights, out, **changes):
    places = {"--data_set": shapes.data_set.name, "--img_root": shapes.root, "--infer_list": shapes.root / "val.txt"}
    net = {"--weights": weights, "--backbone": "resnet38d", "--width": WIDTH, "--device": "cpu", "--crf_workers": 1}
    return {**places, **net, "--out_dir": out, **changes}


@pytest.fixture(scope="module")
def masks(shapes, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("masks") / "out"
    assert_succeeded(run(SCRIPT, flags(shapes, weights, out)))
    return out


def test_every_image_has_a_label_map_of_its_size(shapes, masks):
    ids = read_ids(shapes.root / "val.txt")
    images = find_images(ids, shapes.root, shapes.data_set, flag="", source=Source("", "val.txt"))
    assert {path.name for path in masks.iterdir()} == {f"{image_id}.png" for image_id in ids}  # and no record
    found = [load_label_map(masks / f"{i}.png", shapes.data_set, shape=Image.open(images[i]).size[::-1]) for i in ids]
    assert max(len(np.unique(labels)) for labels in found) > 1


def test_again_makes_what_is_missing_or_damaged_and_nothing_else(shapes, weights, masks, tmp_path):
    shutil.copytree(masks, tmp_path / "again")
    shutil.copy(masks.with_name("out_settings.json"), tmp_path / "again_settings.json")
    first, second, third = sorted((tmp_path / "again").glob("*.png"))[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-20])
    third.touch()
    before = third.stat().st_mtime_ns
    done = run(SCRIPT, flags(shapes, weights, tmp_path / "again"))
    assert_succeeded(done)
    assert f"2 of {len(read_ids(shapes.root / 'val.txt'))} images predicted" in done.stdout
    assert contents(tmp_path / "again") == contents(masks) and third.stat().st_mtime_ns == before


def test_the_crf_may_see_the_image_itself_in_a_folder_of_its_own(shapes, weights, masks, tmp_path):
    plain = flags(shapes, weights, tmp_path / "plain", **{"--sane": "crf_image"})
    assert_succeeded(run(SCRIPT, plain))
    assert contents(tmp_path / "plain").keys() == contents(masks).keys()
    assert contents(tmp_path / "plain") != contents(masks)
    shutil.copytree(masks, tmp_path / "older")
    record = json.loads(masks.with_name("out_settings.json").read_text())
    assert record.pop("sane") == []  # which older records do not have
    (tmp_path / "older_settings.json").write_text(json.dumps(record))
    assert_refused(run(SCRIPT, {**plain, "--out_dir": tmp_path / "older"}), "sane: [] then, ['crf_image'] now")
    assert_succeeded(run(SCRIPT, flags(shapes, weights, tmp_path / "older")))


def layout(shapes, weights, root):
    """The images in DHR's layout, each with the tag of a class but for the one without any, and the trained net."""
    domain = root / "Set" / "train"
    for folder in (domain / "image", domain / "xml", root / "experiments/models/net"):
        folder.mkdir(parents=True)
    shutil.copy(shapes.data_set.name, root / "Set" / "Set.json")
    shutil.copy(weights, root / "experiments/models/net/last.pth")
    ids = read_ids(shapes.root / "val.txt")
    images = find_images(ids, shapes.root, shapes.data_set, flag="", source=Source("", "val.txt"))
    for image_id, path in images.items():
        shutil.copy(path, domain / "image" / path.name)
        tag = "" if image_id == EMPTY else f"<object><name>{shapes.data_set.classes[0]}</name></object>"
        (domain / "xml" / f"{image_id}.xml").write_text(f"<annotation>{tag}</annotation>")
    return domain


def test_the_released_command_skips_images_without_tags_unless_told_otherwise(
    shapes, weights, masks, tmp_path, monkeypatch
):
    domain = layout(shapes, weights, tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["--root", ".", "--data", "Set", "--domain", "train", "--tag", "net", "--backbone", "wide_resnet38"]
    words += ["--ot", "--width", str(WIDTH), "--device", "cpu", "--cpus", "1"]
    out = tmp_path / "experiments/results/Set/net@last/train"
    done = forker().run([str(ROOT / SCRIPT), *in_our_words(words)], tmp_path)
    assert_succeeded(done)
    ids = read_ids(shapes.root / "val.txt")
    assert {path.stem for path in out.glob("*.png")} == {*ids} - {EMPTY}
    assert "1 images without an object in --xml_dir are skipped" in done.stdout
    assert_succeeded(forker().run([str(ROOT / SCRIPT), *in_our_words([*words, "--all_images", "True"])], tmp_path))
    assert {name: value for name, value in contents(out).items() if name.endswith(".png")} == {
        name: value for name, value in contents(masks).items() if name.endswith(".png")
    }
    shutil.rmtree(domain / "xml")  # of VOC's test set
    assert "--xml_dir" not in in_our_words(words)


def test_the_released_flags_become_ours():
    assert in_our_words(["--gpus", "0,1", "--domain", "test"]) == [
        *("--data_set", "../VOC2012/VOC2012.json", "--img_root", "../VOC2012/test/image"),
        *("--weights", "experiments/models/ResNet-101@VOC2012@DeepLabv3+@DHR/last.pth"),
        *("--out_dir", "experiments/results/VOC2012/ResNet-101@VOC2012@DeepLabv3+@DHR@last/test"),
        *("--backbone", "resnet101", "--threshold", "0.05", "--n_gpus", "2"),
    ]
    assert in_our_words(["--gpus", "3"])[-2:] == ["--device", "cuda:3"]


def test_what_cannot_be_predicted_is_refused(shapes, weights, masks, tmp_path):
    common = flags(shapes, weights, tmp_path / "out")
    other = tmp_path / "other.pth"
    state = {name: value for name, value in torch.load(weights).items() if not name.startswith("seg_decoder")}
    torch.save(state, other)
    (tmp_path / "xml").mkdir()
    (tmp_path / "none").mkdir()
    cases = {
        "--weights": (other, "expected the weights of DHR's DeepLabv3+"),
        "--backbone": ("resnet19", "expected one of resnet18"),
        "--threshold": (1.5, "--threshold 1.5"),
        "--xml_dir": (tmp_path / "xml", f"{EMPTY}.xml: cannot be read as an annotation"),
        "--out_dir": (shapes.root / "val2014", "expected another folder than the images'"),
    }
    for flag, (value, message) in cases.items():
        assert_refused(run(SCRIPT, {**common, flag: value}), flag, message)
    assert_refused(run(SCRIPT, {**common, "--infer_list": None, "--img_root": tmp_path / "none"}), "found none")
    assert_refused(run(SCRIPT, {**common, "--out_dir": masks, "--threshold": 0.1}), "threshold: 0.05 then, 0.1 now")
    assert not (tmp_path / "out").exists()
