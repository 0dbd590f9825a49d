"""Stage 3's test.py predicts what its keys say, scores it, comes through kills, and leaves other runs' files alone."""

import fcntl
import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from data.normalisation import Normalisation
from segmentation.crf import crf_labels
from segmentation.experiment.config import config_dict
from segmentation.experiment.test import check_data
from segmentation.net import net_of
from segmentation.settings import read_config
from tests.network.nets import with_many_labels
from tests.scripts.conftest import (
    assert_refused,
    assert_succeeded,
    contents,
    forker,
    run,
    run_by_two,
    run_until_killed,
    truncate,
    words_of,
)
from tests.scripts.test_segmentation import TEST, settings
from tests.segmentation.test_predict import plain_probability
from tool.artifact import load_label_map
from tool.lists import read_ids
from tool.metric import iou, label_counts
from voc12.classes import VOC12

NET = {"MODEL_BACKBONE": "resnet18", "MODEL_ASPP_OUTDIM": 8}
SCALES, MEAN, STD = (0.5, 1.25), (0.41, 0.52, 0.63), (0.34, 0.25, 0.16)
FOLDER = "VOC2012/Segmentation/comp6_val_cls"


@pytest.fixture(scope="module")
def images(data):
    """The images of the list val by their ids."""
    ids = read_ids(data.root / "val.txt")
    return {image_id: np.asarray(Image.open(data.images / f"{image_id}.jpg")) for image_id in ids}


@pytest.fixture(scope="module")
def net(images):
    """One that sees many labels in the images, so that other probabilities are other labels."""
    torch.manual_seed(0)
    image = Normalisation(MEAN, STD)(next(iter(images.values())))
    return with_many_labels(net_of(read_config(config_dict, settings(NET)["--set"])), image[None])


@pytest.fixture(scope="module")
def keys(data, net, tmp_path_factory):
    """All but EXP_ROOT."""
    checkpoint = tmp_path_factory.mktemp("checkpoint") / "net.pth"
    torch.save(net.state_dict(), checkpoint)
    return {
        **NET,
        **{"DATA_ROOT": data.root / "VOC2012", "DATA_LISTS": data.root, "DATA_MEAN": MEAN, "DATA_STD": STD},
        **{"TEST_CKPT": checkpoint, "TEST_MULTISCALE": SCALES, "TEST_FLIP": True, "TEST_CRF": True},
        **{"GPUS": 0, "TEST_CRF_WORKERS": 1, "EXP_NAME": "run"},
    }


@pytest.fixture(scope="module")
def tested(keys, tmp_path_factory):
    """What a whole test on the list val said, and the folder of its label maps; started in a folder of its own."""
    root = tmp_path_factory.mktemp("tested")
    done = forker().run([TEST, *words_of(settings(keys, {"EXP_ROOT": root}))], root)
    assert_succeeded(done)
    return done, root / "run" / "results"


# -- what is predicted -------------------------------------------------------------------------------------------------


def labels_of(net, image, *, scales=SCALES, flip=True, mean=MEAN, std=STD):
    """The label map of an image by a plain loop, and the CRF."""
    return crf_labels(image, plain_probability(net, image, scales, flip, mean=mean, std=std))


def test_the_label_maps_are_those_of_a_plain_loop_over_scales_and_mirrors_and_its_crf(net, images, tested):
    for image_id, image in images.items():
        labels = load_label_map(tested[1] / FOLDER / f"{image_id}.png", VOC12)
        assert (labels == labels_of(net, image)).mean() >= 0.999


def test_label_maps_with_a_mistake_in_a_setting_would_be_others(net, images):
    image = next(iter(images.values()))
    turned, probability = image[..., ::-1].copy(), plain_probability(net, image, SCALES, True, mean=MEAN, std=STD)
    wrong = {
        "no mirror images": labels_of(net, image, flip=False),
        "one scale": labels_of(net, image, scales=SCALES[1:]),
        "the default's mean": labels_of(net, image, mean=tuple(config_dict["DATA_MEAN"])),
        "the default's deviation": labels_of(net, image, std=tuple(config_dict["DATA_STD"])),
        "mean and deviation exchanged": labels_of(net, image, mean=STD, std=MEAN),
        "blue for red": crf_labels(image, plain_probability(net, turned, SCALES, True, mean=MEAN, std=STD)),
        "blue for red in the CRF": crf_labels(turned, probability),
        "no CRF": probability.argmax(axis=0),
    }
    right = labels_of(net, image)
    assert {name for name, labels in wrong.items() if (labels == right).mean() < 0.995} == set(wrong)


def test_val_is_predicted_as_palette_label_maps_and_scored(data, images, tested):
    done, results = tested
    counts = 0
    assert {path.name for path in (results / FOLDER).iterdir()} == {f"{image_id}.png" for image_id in images}
    for image_id in images:
        truth = load_label_map(data.root / "VOC2012" / "SegmentationClass" / f"{image_id}.png", VOC12)
        path = results / FOLDER / f"{image_id}.png"
        assert Image.open(path).mode == "P"
        counts += label_counts(load_label_map(path, VOC12, shape=truth.shape, ignore=False), truth, num_labels=21)
    score = json.loads((results / "val_score.json").read_text())
    assert score["mIoU"] == pytest.approx(100 * iou(counts).mean())
    assert f"mIoU         {score['mIoU']:6.2f}" in done.stdout
    assert f"background   {100 * iou(counts)[0]:6.2f}" in done.stdout
    there = counts[1] + counts[2] > 0
    assert (
        score["absent"] == [name for name, is_there in zip(VOC12.label_names, there, strict=True) if not is_there] != []
    )
    assert score["mIoU_of_occurring"] == pytest.approx(100 * iou(counts)[there].mean())
    assert f"note: {len(score['absent'])} of 21 labels occur in neither prediction nor ground truth" in done.stdout
    number = len(images)
    for phase in (f"{number} of {number} images predicted", f"scored {number} images"):
        assert re.search(rf"^{phase} in .* images/s\)$", done.stdout, re.MULTILINE)


def test_running_again_makes_what_is_missing_damaged_or_of_another_size_and_nothing_else(keys, tested, tmp_path):
    _, results = tested
    shutil.copytree(results, tmp_path / "run" / "results")
    expected = contents(results)
    files = sorted((tmp_path / "run" / "results" / FOLDER).iterdir())
    files[0].unlink()
    truncate(files[1], 5)
    Image.new("P", (3, 3)).save(files[3])
    kept = files[2].stat().st_mtime_ns
    words = settings(keys, {"EXP_ROOT": tmp_path})
    done = run(TEST, words)
    assert_succeeded(done)
    assert f"3 of {len(files)} images predicted" in done.stdout
    assert contents(tmp_path / "run" / "results") == expected
    assert files[2].stat().st_mtime_ns == kept
    other = settings(keys, {"EXP_ROOT": tmp_path, "TEST_CRF": False})
    assert_refused(run(TEST, other), "other settings", "TEST_CRF: True then, False now")


def test_two_processes_share_the_list_and_one_scores_it(keys, images, tested, tmp_path):
    done = run_by_two(TEST, *words_of(settings(keys, {"EXP_ROOT": tmp_path})))
    for one in done:
        assert_succeeded(one)
        assert f"{len(images) // 2} of {len(images) // 2} images predicted" in one.stdout
    assert contents(tmp_path / "run" / "results") == contents(tested[1])
    assert ["mIoU" in one.stdout for one in done] == [True, False]


def test_a_process_without_an_image_of_its_own_has_nothing_to_check(keys, images, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "tests", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert check_data(read_config(config_dict, settings(keys)["--set"]), [*images][:1]) == {}


def test_two_processes_keep_logits_and_say_once_that_a_submission_can_be_made(keys, data, tmp_path):
    (tmp_path / "test.txt").write_text((data.root / "test.txt").read_text().splitlines()[0])  # nothing for the second
    one_pass = {"TEST_MULTISCALE": (1.0,), "TEST_FLIP": False, "TEST_CRF": False, "TEST_LOGITS": tmp_path / "logits"}
    places = {"EXP_ROOT": tmp_path, "DATA_LISTS": tmp_path, "TEST_SPLIT": "test"}
    done = run_by_two(TEST, *words_of(settings(keys, one_pass, places)))
    for one in done:
        assert_succeeded(one)
    assert [one.stdout.count("segmentation.submission") for one in done] == [1, 0]
    label_maps = tmp_path / "run" / "results" / FOLDER.replace("val", "test")
    assert [len([*folder.iterdir()]) for folder in (tmp_path / "logits", label_maps)] == [1, 1]


def test_a_test_that_was_killed_leaves_the_files_of_one_that_was_not(keys, tested, tmp_path):
    words = settings(keys, {"EXP_ROOT": tmp_path})
    folder = tmp_path / "run" / "results" / FOLDER
    run_until_killed(TEST, words, kill_when=lambda: folder.exists() and any(folder.glob("[!.]*.png")))
    assert_succeeded(run(TEST, words))
    assert contents(tmp_path / "run" / "results") == contents(tested[1])


def test_predictions_of_unknown_settings_and_a_folder_in_use_are_left_alone(keys, tested, tmp_path):
    shutil.copytree(tested[1], tmp_path / "run" / "results")
    (tmp_path / "run" / "results" / "val_settings.json").unlink()
    before = contents(tmp_path)
    words = settings(keys, {"EXP_ROOT": tmp_path})
    folder = tmp_path / "run" / "results" / FOLDER
    assert_refused(run(TEST, words), f"{folder}: holds files made with unknown settings", "another EXP_NAME")
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert_refused(run(TEST, words), f"EXP_NAME {folder}: another run is writing into it")
    finally:
        os.close(descriptor)
    assert contents(tmp_path) == before
