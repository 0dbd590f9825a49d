"""Each key of the configuration reaches what it is the key of: the loader, the net, the training, the prediction.

What these are made of has tests of its own; here every key has a value that no other key and no default has.
"""

import functools
import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader

from data.normalisation import Normalisation
from data.training import EpochSampler, LabelMapSet
from network.deeplab import DeepLab, DeepLabV1
from segmentation import engine, inference, training
from segmentation.crf import refine
from segmentation.data import SegmentationAugmentation, start_loader_process
from segmentation.experiment import train as train_script
from segmentation.experiment.config import config_dict
from segmentation.net import net_of
from segmentation.settings import Config, read_config
from tests.network.nets import with_many_labels
from tests.scripts.conftest import assert_same, contents, load
from tests.segmentation.test_augmentation import random_image, random_labels
from tests.segmentation.test_predict import plain_probability
from tool.artifact import load_label_map, save_label_map
from tool.cli import cores
from tool.device import AMP_TYPES
from tool.per_image import Job, NetProcess, Processes, Work, process_images
from tool.pipeline import Pool, queue_of, run_pools
from voc12.classes import VOC12

IDS = [f"image {number}" for number in range(7)]
MEAN, STD = (0.41, 0.52, 0.63), (0.34, 0.25, 0.16)
NORMALISATION = Normalisation(MEAN, STD)
NET = {"MODEL_BACKBONE": "resnet38d", "MODEL_BACKBONE_WIDTH": 0.0625, "MODEL_ASPP_OUTDIM": 8}
DATA = {
    **{"DATA_MEAN": MEAN, "DATA_STD": STD, "DATA_RANDOMCROP": 33, "DATA_RANDOMSCALE": (0.6, 1.3)},
    **{"DATA_RANDOM_H": 70, "DATA_RANDOM_S": 90, "DATA_RANDOM_V": 120, "DATA_RANDOMFLIP": 0.8, "DATA_WORKERS": 0},
}
TRAINING = {
    **{"TRAIN_LR": 3e-3, "TRAIN_MOMENTUM": 0.7, "TRAIN_WEIGHT_DECAY": 0.02, "TRAIN_POWER": 2.5, "TRAIN_SEED": 11},
    **{"TRAIN_BATCHES": 3, "TRAIN_ITERATION": 2},
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """The keys that lead to seven images of about 40 x 45 pixels and label maps."""
    root = tmp_path_factory.mktemp("data")
    (root / "VOC2012" / "JPEGImages").mkdir(parents=True)
    (root / "labels").mkdir()
    for number, identifier in enumerate(IDS):
        shape = 40 + number, 45
        pixels = cv2.resize(random_image((6, 7), number), shape[::-1])
        Image.fromarray(pixels).save(root / "VOC2012" / "JPEGImages" / f"{identifier}.jpg")
        save_label_map(root / "labels" / f"{identifier}.png", random_labels(shape, number), VOC12)
    (root / "train_aug.txt").write_text("".join(f"{identifier}\n" for identifier in IDS))
    return {"DATA_ROOT": root / "VOC2012", "DATA_LISTS": root, "DATA_PSEUDO_GT": root / "labels"}


def path_of(places: dict[str, Path], identifier: str) -> Path:
    return places["DATA_ROOT"] / "JPEGImages" / f"{identifier}.jpg"


def image_of(places: dict[str, Path], identifier: str) -> np.ndarray:
    return np.asarray(Image.open(path_of(places, identifier)))


def words_of(*dicts: dict) -> list[str]:
    return [f"{key}={value}" for key, value in {k: v for d in dicts for k, v in d.items()}.items()]


def images_of(places: dict) -> dict[str, Path]:
    return {image_id: path_of(places, image_id) for image_id in IDS}


def config_of(*dicts: dict) -> Config:
    return read_config(config_dict, words_of(*dicts))


def loader_of(places: dict, config: Config, steps: range, *, pin_memory: bool) -> DataLoader:
    return training.make_loader(config, images_of(places), steps, normalisation=NORMALISATION, pin_memory=pin_memory)


# -- the loader --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_loader_gives_the_batches_that_the_keys_ask_for(places, shuffle):
    config = config_of(places, DATA, TRAINING, {"TRAIN_SHUFFLE": shuffle})
    augmentation = SegmentationAugmentation(
        crop_size=33, scale=(0.6, 1.3), jitter=(70, 90, 120), mirrored=0.8, normalisation=NORMALISATION
    )
    dataset = LabelMapSet(
        images_of(places),
        label_root=places["DATA_PSEUDO_GT"],
        augmentation=augmentation,
        seed=11,
        data_set=VOC12,
    )
    sampler = EpochSampler(len(IDS), 3, seed=11, shuffle=shuffle, start_step=1, num_steps=4)
    for batch, keys in zip(
        loader_of(places, config, range(1, 5), pin_memory=False),
        sampler,
        strict=True,
    ):
        samples = [dataset[key] for key in keys]
        assert batch["id"] == [sample["id"] for sample in samples]
        for name in ("image", "label"):
            assert torch.equal(batch[name], torch.stack([sample[name] for sample in samples])), name


def test_the_loader_has_the_processes_and_the_memory_that_are_asked_for(places):
    for workers in (0, 1, cores() + 1):
        config = config_of(places, DATA, TRAINING, {"DATA_WORKERS": workers})
        loader = loader_of(places, config, range(2), pin_memory=workers > 0)
        assert (loader.num_workers, loader.pin_memory) == (min(workers, cores()), workers > 0)
        assert loader.worker_init_fn is start_loader_process


# -- the net -----------------------------------------------------------------------------------------------------------


def dilations_of(layer: nn.Module) -> set[int]:
    return {conv.dilation[0] for conv in layer.modules() if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3)}


def keys_of(net: DeepLab) -> dict:
    """The keys that a net on resnet18 was built with, found in its layers."""
    norms = {name: norm for name, norm in net.named_modules() if isinstance(norm, nn.BatchNorm2d)}
    (head_momentum,) = {norm.momentum for name, norm in norms.items() if not name.startswith("backbone.")}
    (frozen,) = {not norm.training for name, norm in norms.items() if name.startswith("backbone.")}
    assert all(norm.training for name, norm in norms.items() if not name.startswith("backbone."))
    last = dilations_of(net.backbone.layer4)
    return {
        "MODEL_BACKBONE_DILATED": last != {1},
        "MODEL_BACKBONE_MULTIGRID": 8 in last,
        "MODEL_BACKBONE_DEEPBASE": isinstance(net.backbone.conv1, nn.Sequential),
        "MODEL_ASPP_OUTDIM": net.cls_conv.in_channels,
        "MODEL_ASPP_HASGLOBAL": net.aspp.image_mean,
        "MODEL_FREEZEBN": frozen,
        "TRAIN_BN_MOM": head_momentum,
    }


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"MODEL_BACKBONE_DILATED": False},
        {"MODEL_BACKBONE_MULTIGRID": True},
        {"MODEL_BACKBONE_DEEPBASE": False},
        {"MODEL_ASPP_OUTDIM": 12},
        {"MODEL_ASPP_HASGLOBAL": False},
        {"MODEL_FREEZEBN": True},
        {"TRAIN_BN_MOM": 0.07},
    ],
    ids=lambda change: "".join(change) or "defaults",
)
def test_each_key_of_the_net_changes_what_it_names_and_nothing_else(change):
    with torch.device("meta"):
        net = net_of(config_of({"MODEL_BACKBONE": "resnet18"}, change))
    assert keys_of(net) == {key: config_dict[key] for key in keys_of(net)} | change
    assert net.cls_conv.out_channels == VOC12.num_labels


def test_the_nets_version_backbone_and_width_are_those_asked_for():
    with torch.device("meta"):
        assert type(net_of(config_of({"MODEL_BACKBONE": "resnet18", "MODEL_NAME": "deeplabv1"}))) is DeepLabV1
        assert net_of(config_of({"MODEL_BACKBONE": "resnet34"})).backbone.channels.conv6 == 512
        assert net_of(config_of({"MODEL_BACKBONE": "resnet50"})).backbone.channels.conv6 == 2048
        assert net_of(config_of(NET)).backbone.channels.conv6 == 4096 * NET["MODEL_BACKBONE_WIDTH"]


# -- the training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(places, tmp_path_factory) -> Path:
    """The folder of a run of two steps, in this process; it draws a picture at the second."""
    root = tmp_path_factory.mktemp("exps")
    keys = {"GPUS": 0, "EXP_ROOT": root, "EXP_NAME": "run", "MODEL_BACKBONE_PRETRAIN": False, "MODEL_FREEZEBN": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", "--set", *words_of(places, NET, DATA, TRAINING, keys)])
        patch.setattr(engine, "PICTURE_EVERY", 2)
        train_script.main()
    return root / "run"


def test_the_run_trains_at_the_rates_momentum_and_decay_asked_for(run):
    state = load(run / "last.ckpt")
    groups = state["optimizer"]["param_groups"]
    assert [group["initial_lr"] for group in groups] == pytest.approx([3e-3 * factor for factor in (1, 2, 10, 20)])
    after = (1 - 2 / 3) ** 2.5  # of the second step of two
    assert [group["lr"] for group in groups] == pytest.approx([3e-3 * after * factor for factor in (1, 2, 10, 20)])
    assert [group["weight_decay"] for group in groups] == [0.02, 0, 0.02, 0]
    assert [group["momentum"] for group in groups] == [0.7] * 4


def test_the_run_starts_from_the_net_that_the_keys_and_the_seed_give_and_its_norms_are_frozen(run):
    torch.manual_seed(11)
    start, end = net_of(config_of(NET, {"MODEL_FREEZEBN": True})).state_dict(), load(run / "last.ckpt")["model"]
    assert list(end) == list(start)
    statistics = [name for name in start if name.endswith(("running_mean", "running_var"))]
    assert {name for name in statistics if torch.equal(start[name], end[name])} == {
        name for name in statistics if name.startswith("backbone.")
    }
    first = "backbone.conv1a.weight"  # two steps at a small rate
    torch.testing.assert_close(end[first], start[first], rtol=0, atol=0.05 * start[first].abs().mean().item())


def test_the_runs_picture_shows_the_pixels_of_what_the_loader_gave(run, places):
    config = config_of(places, DATA, TRAINING)
    (batch,) = loader_of(places, config, range(1, 2), pin_memory=False)
    expected = 255 * (batch["image"][0].permute(1, 2, 0).numpy() * np.array(STD) + np.array(MEAN))
    events = EventAccumulator(str(run)).Reload()
    (name,) = events.Tags()["images"]
    picture = np.asarray(Image.open(io.BytesIO(events.Images(name)[0].encoded_image_string)))
    np.testing.assert_allclose(picture[:, :33], expected, atol=0.51)


# -- the prediction ----------------------------------------------------------------------------------------------------

SCALES = (0.7, 1.2)


@pytest.fixture(scope="module")
def checkpoint(places, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    image = NORMALISATION(image_of(places, IDS[2]))
    path = tmp_path_factory.mktemp("checkpoint") / "net.pth"
    torch.save(with_many_labels(net_of(config_of(NET)), image[None]).state_dict(), path)
    return path


def become(config: Config) -> None:
    """Make this process one of test.py's with the net."""
    NetProcess.start(queue_of(["cpu"]), functools.partial(inference.load_on, config), 1)


@pytest.fixture(params=[True, False], ids=["mirrored too", "as it is"])
def predicting(request, places, checkpoint) -> Config:
    """The configuration of a process of test.py's network, which this process has become."""
    keys = {"TEST_CKPT": checkpoint, "TEST_MULTISCALE": SCALES, "TEST_FLIP": request.param, "TEST_CRF": True}
    config = config_of(places, NET, {"DATA_MEAN": MEAN, "DATA_STD": STD}, keys)
    become(config)
    return config


def test_the_tested_net_is_the_checkpoints_in_evaluation_mode(predicting, checkpoint):
    net = inference.load_net(predicting)
    assert not any(module.training for module in net.modules())
    assert_same(dict(net.state_dict()), dict(load(checkpoint)))


def test_an_image_is_predicted_at_the_scales_mirrored_and_normalised_as_asked_for(predicting, places, tmp_path):
    net, image = inference.load_net(predicting), image_of(places, IDS[2])
    expected = plain_probability(net, image, SCALES, predicting.TEST_FLIP, mean=MEAN, std=STD)
    probability = inference.predict(IDS[2], path_of(places, IDS[2]), tmp_path, predicting)
    np.testing.assert_allclose(probability, expected, rtol=1e-3, atol=1e-5)
    assert not list(tmp_path.iterdir())  # the CRF's part


def test_without_the_crf_the_likeliest_labels_are_written(places, checkpoint, tmp_path):
    keys = {"TEST_CKPT": checkpoint, "TEST_MULTISCALE": SCALES, "TEST_CRF": False}
    config = config_of(places, NET, {"DATA_MEAN": MEAN, "DATA_STD": STD}, keys)
    become(config)
    assert inference.predict(IDS[2], path_of(places, IDS[2]), tmp_path, config) is None
    net, image = inference.load_net(config), image_of(places, IDS[2])
    expected = plain_probability(net, image, SCALES, True, mean=MEAN, std=STD).argmax(axis=0)
    labels = load_label_map(tmp_path / f"{IDS[2]}.png", VOC12, shape=image.shape[:2], ignore=False)
    assert len(np.unique(expected)) > 2 and (labels == expected).mean() >= 0.999


def test_the_net_predicts_in_the_precision_asked_for(places, checkpoint):
    keys = {"TEST_CKPT": checkpoint, "TEST_MULTISCALE": SCALES}
    probabilities = {}
    for precision in AMP_TYPES:
        config = config_of(places, NET, keys, {"TEST_AMP": precision})
        become(config)
        probabilities[precision] = inference.probability_of(path_of(places, IDS[2]), config)
    whole = probabilities.pop("off")
    errors = {amp: (half - whole).abs().mean().item() for amp, half in probabilities.items()}
    assert 0 < 2 * errors["fp16"] < errors["bf16"] < 0.02  # which has 3 bits less
    assert {half.dtype for half in probabilities.values()} == {torch.float32}


def test_threads_that_do_all_of_an_image_write_what_two_pools_write(places, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the number of these changes the last bits
    keys = {"TEST_CKPT": checkpoint, "TEST_MULTISCALE": SCALES, "TEST_CRF": True}
    config = config_of(places, NET, keys)
    load_net = functools.partial(inference.load_on, config)
    folders = {name: tmp_path / name for name in ("apart", "together")}
    for folder in folders.values():
        folder.mkdir()

    def jobs(folder):
        paths = {image_id: path_of(places, image_id) for image_id in IDS}
        return [
            Job(image_id, (path, folder, config), (path, folder, VOC12, "rgb", MEAN))
            for image_id, path in paths.items()
        ]

    work = Work(inference.predict, refine, load_net)
    assert process_images(jobs(folders["apart"]), work, Processes(["cpu"], "torch", 1)) == []
    start = functools.partial(NetProcess.start, queue_of(["cpu"]), load_net, 1)
    both = Pool("predict", work.both, 1, threads=3, start=start)
    both.waiting.extend(jobs(folders["together"]))
    assert run_pools(both) == []
    files = contents(folders["apart"])
    assert len(files) == len(set(files.values())) == len(IDS)
    assert contents(folders["together"]) == files
