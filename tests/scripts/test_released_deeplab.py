"""train, test and crf of deeplab-pytorch, one after the other as its users run them, on lists of two paths a line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from segmentation.crf import crf_labels, seen_by_crf
from tests.scripts.conftest import ROOT, assert_refused, assert_succeeded, forker
from tool.artifact import load_label_map
from tool.lists import read_ids
from tool.metric import accuracies, label_counts
from voc12.classes import VOC12

MAIN = ROOT / "released" / "deeplab" / "main.py"
# A small net and short training; all else is the file's.
SMALL = {"MODEL_BACKBONE": "resnet18", "MODEL_BACKBONE_PRETRAIN": False, "MODEL_FREEZEBN": False}
SMALL |= {"MODEL_BACKBONE_BN_MOM": 0.9}  # so that a few steps' statistics are near the images'
NAMES = "voc12_resnet_v2/deeplabv2_resnet101_msc"


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """deeplab-pytorch's own folder: its lists, and a YAML of four steps that names the data."""
    folder = tmp_path_factory.mktemp("deeplab")
    lists = folder / "data" / "datasets" / "voc12"
    lists.mkdir(parents=True)
    for name in ("train_aug", "val"):
        ids = read_ids(data.root / f"{name}.txt")
        (lists / f"{name}.txt").write_text("".join(f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png\n" for i in ids))
    text = (MAIN.parent / "configs" / "voc12_resnet_dplv2.yaml").read_text()
    for old, new in {
        "./../../VOC2012": str(data.root / "VOC2012"), "TRAIN: 321": "TRAIN: 33", "TRAIN: 5": "TRAIN: 2",
        "ITER_MAX: 20000": "ITER_MAX: 4",
    }.items():  # fmt: skip
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "small.yaml").write_text(text)
    return folder


def run(folder, name, *words, **changes):
    keys = [f"{key}={value}" for key, value in {**SMALL, **changes}.items()]
    return forker().run([str(MAIN), name, "-c", "small.yaml", "--cpu", *words, "--set", *keys], folder)


@pytest.fixture(scope="module")
def done(folder):
    """What training said, the checkpoint under its released name alone, and what test and crf said."""
    trained = run(folder, "train")
    assert_succeeded(trained)
    models = folder / "data" / "models" / NAMES / "train_aug"
    (weights,) = models.glob("*_all.pth")
    checkpoint = models / "checkpoint_final.pth"
    assert checkpoint.read_bytes() == weights.read_bytes()
    weights.unlink()
    found = {"train": trained}
    for name, words in {"test": [], "crf": ["-j", "1"]}.items():
        found[name] = run(folder, name, "-m", str(checkpoint), *words)
        assert_succeeded(found[name])
    return found, checkpoint


@pytest.fixture(scope="module")
def expected(data, folder, done):
    """By id, the true labels and what the kept logits make of the image: without the CRF, and with it."""
    found = {}
    for image_id in read_ids(data.root / "val.txt"):
        image = np.asarray(Image.open(data.images / f"{image_id}.jpg"))
        logits = np.load(folder / "data" / "features" / NAMES / "val" / "logit" / f"{image_id}.npy")
        grid = tuple((side + 1) // 2 // 2 // 2 + 1 for side in image.shape[:2])  # pooling rounds up
        assert logits.dtype == np.float32 and logits.shape == (21, *grid)
        scores = F.interpolate(torch.from_numpy(logits)[None], image.shape[:2], mode="bilinear", align_corners=False)
        seen = seen_by_crf(image, "wrapped", np.array([122.675, 116.669, 104.008]) / 255)
        assert not np.array_equal(seen, image)
        truth = load_label_map(data.root / "VOC2012" / "SegmentationClass" / f"{image_id}.png", VOC12)
        probability = scores[0].softmax(dim=0)
        found[image_id] = truth, probability.argmax(dim=0).numpy(), crf_labels(seen, probability)
    return found


def test_training_takes_parts_of_a_batch_and_writes_the_released_names(done):
    said, checkpoint = done[0]["train"].stdout, done[1]
    assert "step 0 of 4" in said and "random weights" in said
    state = torch.load(checkpoint, weights_only=True)
    assert all(name.startswith("base.") for name in state) and state["base.aspp.c3.bias"].shape == (21,)


@pytest.mark.parametrize(("name", "number", "file"), [("val", 1, "scores.json"), ("val_crf", 2, "scores_crf.json")])
def test_label_maps_and_scores_come_from_the_logits_that_are_kept(folder, expected, name, number, file):
    scores = folder / "data" / "scores" / NAMES
    counts = 0
    for image_id, maps in expected.items():
        path = scores / name / "results" / "VOC2012" / "Segmentation" / "comp6_val_cls" / f"{image_id}.png"
        labels = load_label_map(path, VOC12)
        assert (labels == maps[number]).mean() >= 0.999
        counts += label_counts(labels, maps[0], num_labels=21)
    assert json.loads((scores / "val" / file).read_text()) == accuracies(counts)


def test_the_crf_takes_logits_and_makes_those_that_are_missing_or_damaged(folder, done, expected):
    logits = sorted((folder / "data" / "features" / NAMES / "val" / "logit").iterdir())
    contents = [file.read_bytes() for file in logits]
    logits[0].unlink()
    logits[1].write_bytes(contents[1][:-7])
    kept = logits[2].stat().st_mtime_ns
    assert_succeeded(run(folder, "crf", "-m", str(done[1])))
    assert [file.read_bytes() for file in logits] == contents and logits[2].stat().st_mtime_ns == kept


def test_logits_of_another_checkpoint_are_refused(folder, done, expected):
    state = torch.load(done[1], weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, folder / "other.pth")
    refused = run(folder, "crf", "-m", "other.pth", EXP_NAME="other")
    assert_refused(refused, "logit: TEST_CKPT, sha256: ", "take another TEST_LOGITS")


def test_without_a_model_the_crf_takes_the_logits_that_test_has_made(folder, done, expected, tmp_path):
    """The released crf has no flag for a model. Its label maps are those of one that looks at the model, too."""
    logits = folder / "data" / "features" / NAMES / "val" / "logit"
    record = logits.with_name("logit_settings.json")
    noted = record.read_text()
    scores = folder / "data" / "scores" / NAMES
    kept = scores / "val_crf" / "results"

    def label_maps(results):
        return {path.name: path.read_bytes() for path in results.rglob("*.png")}

    assert not [*(folder / "data" / "models").rglob("*_all.pth")]
    plain = run(folder, "crf", EXP_NAME="no_model")
    assert_succeeded(plain)
    assert label_maps(scores / "no_model" / "results") == label_maps(kept)
    assert (scores / "no_model" / "results" / "val_settings.json").read_text() == (
        kept / "val_settings.json"
    ).read_text()
    # What nothing is noted of, as the release's own, is taken as it is, and not noted as this net's.
    record.unlink()
    unknown = run(folder, "crf", EXP_NAME="no_record")
    assert_succeeded(unknown)
    assert f"{record} is missing" in unknown.stdout and not record.exists()
    assert label_maps(scores / "no_record" / "results") == label_maps(kept)
    record.write_text(noted)
    file = min(logits.iterdir())
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    assert_refused(
        run(folder, "crf", EXP_NAME="no_model"), "TEST_CKPT: expected a file, found None; files of TEST_LOGI"
    )
    file.unlink()
    lacking = run(folder, "crf", EXP_NAME="no_model")
    assert_refused(lacking, f"found None; TEST_LOGITS {logits} lacks those of 1 of {len(expected)} images: {file.stem}")
    file.write_bytes(content)
