"""CRT from its commands: crops, both files of weights, scores between epochs, and seeds at two sizes."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from data.labels import load_labels
from tests.scripts.conftest import Data, assert_refused, assert_succeeded, contents, load, run
from tool.artifact import load_cam
from tool.irn_cam import load_irn_cam, quarter
from voc12.classes import VOC12

NET = {"--backbone": "resnet18", "--transformer": "test_vit"}
TRAINING = {
    **{**NET, "--method": "crt", "--device": "cpu", "--num_workers": 0},
    **{"--weights": "none", "--transformer_weights": "none", "--lr": 0.01, "--log_every": 1},
    **{"--crop_size": 224, "--resize_size": (200, 240), "--batch_size": 2, "--max_epoches": 2},
}


@pytest.fixture(scope="module")
def small(data, tmp_path_factory) -> Data:
    """Four images, fewer than the release takes, one of them of 9 x 12 pixels; labels by number, as CRT and IRN have
    them; and a list of two to score."""
    made = data.copy(tmp_path_factory.mktemp("crt") / "data")
    first, *_ = made.ids
    path = made.images / f"{first}.jpg"
    Image.open(path).resize((12, 9)).save(path)
    made.train_list.write_text("\n".join(made.ids[:4]))
    labels = {int(name.replace("_", "")): label for name, label in load_labels(made.labels, VOC12).items()}
    np.save(made.labels, np.array(labels, dtype=object), allow_pickle=True)
    (made.root / "two.txt").write_text("\n".join(made.ids[2:4]))
    return made


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    work = tmp_path_factory.mktemp("run")
    flags = {**TRAINING, **small.for_training(), "--saliency_root": None, "--val_list": small.root / "two.txt"}
    done = run("train_voc.py", {**flags, "--work_dir": work})
    assert_succeeded(done)
    return work / "crt", done


def test_a_run_scores_the_cnn_after_each_epoch_and_writes_both_branches_alone_and_together(trained):
    folder, done = trained
    assert "random weights (--transformer_weights none)" in done.stdout
    log = (folder / "log").read_text()
    assert log.count(": cnn loss 0.") == 2 and "consistency 0.0000" in log.split("step 2/4")[1].split("step 3/4")[0]
    assert "consistency 0.0000" not in log.split("step 3/4")[1]
    both, cnn, transformer = (load(folder / f"crt{ending}.pth") for ending in ("", "_cnn", "_transformer"))
    assert (
        set(both) == {*cnn, *transformer} and "resnet50.layer4.0.conv1.weight" in cnn and "head.weight" in transformer
    )
    assert all(torch.equal(both[name], value) for name, value in [*cnn.items(), *transformer.items()])


def test_seeds_at_two_sizes_are_made_once_and_again_where_one_is_damaged(small, trained, tmp_path):
    folder, _ = trained
    flags = {
        **{
            **NET,
            **small.for_inference(),
            "--method": "crt",
            "--weights": folder / "crt_cnn.pth",
            "--cam_branch": "cnn",
        },
        **{"--work_dir": tmp_path / "out", "--cam_out_dir": tmp_path / "irn", "--crf_t": "none", "--device": "cpu"},
        "--sane": ("padding", "mirror"),
    }
    assert_succeeded(run("inference.py", flags))
    for image_id in small.ids:
        with Image.open(small.images / f"{image_id}.jpg") as image:
            shape = image.size[::-1]
        keys, cam, high_res = load_irn_cam(tmp_path / "irn" / f"{image_id}.npy", VOC12, shape=shape)
        by_class = load_cam(tmp_path / "out" / "cam_npy" / f"{image_id}.npy", VOC12, shape=shape)
        assert keys.tolist() == list(by_class) and cam.shape[1:] == quarter(shape)
        np.testing.assert_array_equal(high_res, np.stack([*by_class.values()]))
        assert 0 <= cam.min() and cam.max() <= 1
    before = contents(tmp_path)
    done = run("inference.py", flags)
    assert_succeeded(done)
    assert "nothing is missing of 4 images" in done.stdout and contents(tmp_path) == before
    first = tmp_path / "irn" / f"{small.ids[0]}.npy"
    first.write_bytes(first.read_bytes()[:-40])
    shutil.copy(tmp_path / "out" / "cam_npy" / f"{small.ids[1]}.npy", tmp_path / "irn")  # of another form
    done = run("inference.py", flags)
    assert_succeeded(done)
    assert "2 of 4 images inferred" in done.stdout and contents(tmp_path) == before
    assert_refused(run("inference.py", {**flags, "--sane": None}), "settings.json", "sane")


def test_mistakes_are_named(small, trained, tmp_path):
    folder, _ = trained
    training = {**TRAINING, **small.for_training(), "--saliency_root": None, "--work_dir": tmp_path}
    training |= {"--val_list": small.root / "two.txt"}
    done = run("train_voc.py", {**training, "--crop_size": 512})
    assert_refused(done, "--crop_size 512: expected a multiple of 112 from 224 on", "take 448 or 560")
    assert_refused(run("train_voc.py", {**training, "--crop_size": 100}), "take 224 or 336")
    missing = tmp_path / "deit.pth"
    assert_refused(
        run("train_voc.py", {**training, "--transformer_weights": missing}), "--transformer_weights", "deit.pth"
    )
    inference = {**NET, **small.for_inference(), "--method": "crt", "--work_dir": tmp_path, "--device": "cpu"}
    done = run("inference.py", {**inference, "--weights": folder / "crt_cnn.pth"})
    assert_refused(done, "crt_cnn.pth: expected a trained crt, these tensors are missing", "cls_token")
