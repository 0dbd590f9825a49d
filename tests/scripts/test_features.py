"""Unsupervised features as a command: their files, again from where it stopped, by two processes, what it refuses."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from network.backbones import build_backbone
from rebalance.feature_files import grid_of, load_features
from released.dhr.produce_uss_features import SCRIPT, in_our_words
from tests.scripts.conftest import assert_refused, assert_succeeded, contents, run, run_by_two, words_of
from tests.shapes import make_shapes
from tool.lists import Source, find_images, read_ids

DIM = 6


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "data", classes=3)


@pytest.fixture(scope="module")
def images(shapes):
    ids = read_ids(shapes.root / "val.txt")
    return find_images(ids, shapes.root, shapes.data_set, flag="", source=Source("", "val.txt"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(build_backbone("resnet18").state_dict(), path)
    return path


def flags(shapes, weights, out, **changes):
    places = {"--data_set": shapes.data_set.name, "--img_root": shapes.root, "--infer_list": shapes.root / "val.txt"}
    net = {"--uss": "Backbone", "--backbone": "resnet18", "--uss_backbone_weights": weights, "--uss_dim": DIM}
    outputs = {"--out_dir": out / "features", "--pictures": out / "pictures"}
    return {**places, **net, **outputs, "--device": "cpu", **changes}


@pytest.fixture(scope="module")
def made(shapes, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    assert_succeeded(run(SCRIPT, flags(shapes, weights, out)))
    return out


def test_every_image_has_features_of_its_grid_and_a_picture_of_its_size(images, made):
    for image_id, path in images.items():
        size = Image.open(path).size
        features = load_features(made / "features" / f"{image_id}.pt")
        assert features.shape == (DIM, *grid_of(size, 8))
        with Image.open(made / "pictures" / f"{image_id}.png") as picture:
            assert picture.size == size and len(np.unique(picture)) > 2
    pca = torch.load(made / "features" / "pca.pt", weights_only=True)
    assert pca["components"].shape == (DIM, 512) and pca["backbone"] == "resnet18" and len(pca["sha256"]) == 64


def test_features_tell_the_background_from_the_shapes(shapes, images, made):
    """Averaged, mirrored back and reduced: were the mirror not turned back, regions would not part."""
    from tool.artifact import load_label_map

    apart = []
    for image_id in images:
        features = load_features(made / "features" / f"{image_id}.pt").float()
        mask = torch.from_numpy(load_label_map(shapes.mask(image_id), shapes.data_set))[None, None].float()
        cells = torch.nn.functional.interpolate(mask, size=features.shape[1:], mode="nearest")[0, 0]
        inside, outside = features[:, cells > 0], features[:, cells == 0]
        if inside.numel() and outside.numel():
            apart.append((inside.mean(dim=1) - outside.mean(dim=1)).norm() / features.std())
    assert len(apart) > 5 and np.mean(apart) > 0.5


def test_again_makes_what_is_missing_damaged_or_of_another_size_and_nothing_else(shapes, weights, made, tmp_path):
    shutil.copytree(made, tmp_path / "again")
    first, second, third, fourth, fifth, *_ = sorted((tmp_path / "again" / "features").glob("*_*.pt"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-200])
    torch.save(load_features(third)[:, :-1].clone(), third)
    torch.save(load_features(fifth).where(torch.arange(DIM)[:, None, None] > 0, torch.inf), fifth)
    before = fourth.stat().st_mtime_ns
    pictures = [tmp_path / "again" / "pictures" / f"{file.stem}.png" for file in (second, fourth)]
    pictures[0].write_bytes(pictures[0].read_bytes()[:-30])
    pictures[1].unlink()
    done = run(SCRIPT, flags(shapes, weights, tmp_path / "again"))
    assert_succeeded(done)
    assert "4 of " in done.stdout and "2 pictures drawn" in done.stdout and "PCA of" not in done.stdout
    assert contents(tmp_path / "again") == contents(made) and fourth.stat().st_mtime_ns == before


def test_two_processes_make_the_same_files(shapes, weights, made, tmp_path):
    for done in run_by_two(SCRIPT, *words_of(flags(shapes, weights, tmp_path / "two"))):
        assert_succeeded(done)
    assert contents(tmp_path / "two") == contents(made)


def test_the_released_flags_become_ours():
    assert in_our_words(["--gpus", "0", "1"]) == [
        *("--data_set", "../VOC2012/VOC2012.json", "--img_root", "../VOC2012/train_aug/image"),
        *("--out_dir", "../VOC2012/train_aug/CAUSE", "--uss", "CAUSE", "--backbone", "ViT-G"),
        *("--uss_weights", "weights/CAUSE_VOC2012.pt", "--n_gpus", "2"),
    ]
    assert "--backbone" not in in_our_words(["--uss", "STEGO"])
    assert "--uss_weights" not in in_our_words(["--uss", "DINOv2", "--backbone", "ViT-S"])


def test_what_cannot_be_made_is_refused(shapes, weights, made, tmp_path):
    common = flags(shapes, weights, tmp_path / "out", **{"--pictures": None})
    cases = [
        ({"--backbone": "ViT-G"}, "--backbone ViT-G: expected one of"),
        ({"--backbone": None}, "--backbone None: expected one of"),
        ({"--uss_backbone_weights": None}, "--uss_backbone_weights: expected a file of resnet18's weights"),
        ({"--backbone": "resnet50"}, "expected the backbone's weights, resnet50's"),
        ({"--uss_weights": weights}, "--uss Backbone has no head"),
        ({"--uss": "DINOv2", "--uss_backbone_weights": None, "--backbone": None}, "weights/dinov2_vitg14_pretrain.pth"),
        ({"--uss": "STEGO"}, "--backbone resnet18: --uss STEGO takes ViT-B/8"),
        ({"--uss": "CAUSE", "--backbone": "ViT-S", "--uss_dim": None}, "expected the file of CAUSE's head"),
        ({"--uss": "CAUSE", "--backbone": "ViT-S"}, "has its own number of channels"),
        ({"--uss_dim": 513}, "--uss_dim 513: expected at most 512"),
        ({"--out_dir": shapes.root / "val2014"}, "expected another folder than the images'"),
        ({"--out_dir": made / "features", "--uss_dim": 7}, "uss_dim: 6 then, 7 now"),
    ]
    for changes, message in cases:
        assert_refused(run(SCRIPT, {**common, **changes}), message)
    assert not (tmp_path / "out").exists()
    shutil.copytree(made, tmp_path / "cut")
    (tmp_path / "cut" / "features" / "pca.pt").write_bytes(b"")
    assert_refused(run(SCRIPT, flags(shapes, weights, tmp_path / "cut")), "pca.pt")
