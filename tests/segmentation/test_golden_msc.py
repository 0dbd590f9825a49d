"""DeepLab v2 of CRT as deeplab-pytorch trains it: golden logits, three steps with accumulated batches, its inputs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from network.deeplab_msc import CAFFE, DeepLabMSC
from segmentation.crf import crf_labels, seen_by_crf
from segmentation.data import crop_or_pad, scale_by
from segmentation.engine import build_training, make_step, nearest_labels
from segmentation.experiment.config import config_dict, configurations
from segmentation.net import net_of
from segmentation.settings import read_config
from tests.golden_inputs import assert_golden, fill, rnd, uni
from tool.crf import resolve_backend
from tool.loop import run_steps
from tool.metric import accuracies, label_counts
from tool.optim import parameter_groups
from voc12.classes import VOC12

pytestmark = pytest.mark.golden
CONFIG = read_config({**config_dict, **configurations["CRT_deeplabv2_resnet101_msc"]}, [])
SLICES = {
    "aspp.c0.weight": np.s_[:, ::64],
    "aspp.c3.bias": np.s_[:],
    "layer5.block3.increase.conv.weight": np.s_[::64, ::32, 0, 0],
    "layer1.conv1.conv.weight": np.s_[::4],
    "layer3.block1.shortcut.conv.weight": np.s_[::32, ::16, 0, 0],
}


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "crt" / "deeplab.npz") as file:
        return dict(file)


def value_of(key: str, value: torch.Tensor, salt: str) -> torch.Tensor:
    return fill(key, tuple(value.shape), salt) * (0.2 if key.endswith("increase.bn.weight") else 1)


@pytest.fixture(scope="module")
def filled(crt_meta, golden_device) -> tuple[DeepLabMSC, dict]:
    net = net_of(CONFIG)
    state = {key: value_of(key, value, crt_meta["salt"]) for key, value in net.state_dict().items()}
    net.load_state_dict(state)
    return net.to(golden_device), state


def test_names_shapes_and_groups_are_the_released_ones(golden, filled):
    net, state = filled
    released = json.loads((golden / "crt" / "state_dict_deeplab.json").read_text())
    assert {key: list(value.shape) for key, value in state.items()} == released
    groups = parameter_groups(net, head_layers=net.head_layers, lr=1.0, weight_decay=5e-4)
    names = {id(parameter): key for key, parameter in net.named_parameters()}
    found = {f"{group['lr']:g}x": sorted(names[id(each)] for each in group["params"]) for group in groups}
    released = json.loads((golden / "crt" / "parameter_groups_deeplab.json").read_text())
    assert found == {key: sorted(value) for key, value in released.items()} | {"2x": []}
    assert [group["weight_decay"] for group in groups if group["params"]] == [5e-4, 5e-4, 0]


def test_logits_of_the_maximum_and_in_training_of_each_scale(crt_meta, golden_device, expected, filled):
    net, state = filled
    net.load_state_dict(state)
    height, width = (97, 66) if expected["logits"].shape[2] > expected["logits"].shape[3] else (65, 98)
    image = 3 * rnd(crt_meta["seed"] + 70, 1, 3, height, width).to(golden_device)
    with torch.no_grad():
        assert_golden(net.eval()(image), expected["logits"])
        for number, logits in enumerate(net.train()(image)):
            assert_golden(logits[:, ::3], expected[f"train_logits_{number}"])


def test_labels_are_brought_to_the_logits_grid_as_by_pil(crt_meta, expected):
    label = torch.floor(22 * uni(crt_meta["seed"] + 71, 2, 65, 65)).long()
    label = label.masked_fill(label == 21, 255)
    for key in expected:
        if key.startswith("labels_"):
            side = int(key.removeprefix("labels_"))
            np.testing.assert_array_equal(nearest_labels(label, (side, side)), expected[key])


def test_three_steps_of_two_batches_each(crt_meta, golden_device, expected, filled):
    net, state = filled
    net.load_state_dict(state)
    seed, count = crt_meta["seed"], 12
    shapes = torch.floor(4 * uni(seed + 72, count, 1, 5, 6))
    labels = torch.tensor([0, 7, 15, 255])[F.interpolate(shapes, (65, 65)).long()[:, 0]]
    images = torch.stack([3 * rnd(seed + 80 + number, 3, 65, 65) for number in range(count)])
    # The released loader gives the parts of a step one after the other; ours are every second image of its batch.
    parts = [[start, start + 2, start + 1, start + 3] for start in range(0, count, 4)]
    batches = [{"image": images[part], "label": labels[part], "id": list(map(str, part))} for part in parts]
    training = build_training(
        net, lr=expected["step_lrs"][0, 0], momentum=0.9, weight_decay=5e-4, power=0.9, num_steps=3, lr_decay=2
    )
    training.objective.train()
    take_step = make_step(training, amp="off", normalisation=CAFFE, data_set=VOC12, log=None, iter_size=2)
    rates, losses = [], []
    for step, batch in enumerate(batches):
        rates.append([group["lr"] for group in training.optimizer.param_groups if group["params"]])
        means = run_steps(
            take_step,
            [batch],
            **{"optimizer": training.optimizer, "steps": range(step, step + 1), "seed": 0, "log": None, "log_every": 1},
            **{"save": lambda step: None, "save_due": lambda step: False},
        )
        losses.append(means["total"])
    assert_golden(rates, expected["step_lrs"], rtol=1e-9)
    assert_golden(losses, expected["step_losses"])
    after = net.weights.state_dict()
    for name, part in SLICES.items():
        golden_change = expected[f"update base.{name}"]
        change = (after[name].cpu() - state[f"base.{name}"]).numpy()[part]
        assert np.linalg.norm(change - golden_change) <= 5e-2 * np.linalg.norm(golden_change), name
    norms = [name for name in after if ".bn." in name]
    assert norms and all(torch.equal(after[name].cpu(), state[f"base.{name}"]) for name in norms)


def test_the_rates_of_20000_iterations(expected):
    keys = {"lr": CONFIG.TRAIN_LR, "power": CONFIG.TRAIN_POWER, "lr_decay": CONFIG.TRAIN_LR_DECAY}
    net = torch.nn.Conv2d(1, 1, 1)
    net.head_layers = ()
    training = build_training(net, **keys, num_steps=CONFIG.TRAIN_ITERATION, momentum=0.9, weight_decay=0)
    (rate, _), *_ = zip(training.schedule.lr_lambdas, training.optimizer.param_groups, strict=True)
    found = [CONFIG.TRAIN_LR * rate(int(iteration) - 1) for iteration in expected["lr_iterations"]]
    np.testing.assert_allclose(found, expected["lrs"], rtol=1e-9)


def test_the_crf_sees_the_image_wrapped_or_as_it_is(expected):
    images = [key for key in expected if key.startswith("crf_image_")]
    assert images
    for key in images:
        number = int(key.removeprefix("crf_image_"))
        pixels = expected[key][..., ::-1]
        assert_golden(
            seen_by_crf(pixels, "wrapped", CAFFE.mean), expected[f"crf_wrapped_image_{number}"], rtol=0, atol=0
        )
        np.testing.assert_array_equal(seen_by_crf(pixels, "bgr", CAFFE.mean), expected[key])


@pytest.mark.parametrize("kind", ["wrapped", "bgr"])
def test_labels_of_the_crf(crt_meta, expected, kind):
    backend = resolve_backend("auto", torch.device("cpu"))
    name = {"wrapped": "crf_label_", "bgr": "crf_label_plain_image_"}[kind]
    for number in range(sum(key.startswith("crf_image_") for key in expected)):
        pixels = expected[f"crf_image_{number}"][..., ::-1]
        scores = F.interpolate(rnd(crt_meta["seed"] + 75 + number, 1, 21, 10, 12), pixels.shape[:2], mode="bilinear")
        labels = crf_labels(seen_by_crf(pixels, kind, CAFFE.mean), scores[0].softmax(dim=0), backend=backend)
        assert (labels == expected[f"{name}{number}"]).mean() >= 0.995


def test_the_scores_are_the_golden_ones(golden, crt_meta):
    seed, shape = crt_meta["seed"], (3, 40, 50)
    truth = torch.floor(19 * uni(seed + 76, *shape))
    truth[..., :4] = 255
    truth[truth == 3] = 0
    right = torch.where(truth == 255, 0, truth)
    predicted = torch.where(uni(seed + 77, *shape) < 0.6, right, torch.floor(21 * uni(seed + 78, *shape)))
    pairs = zip(predicted.long().numpy(), truth.long().numpy(), strict=True)
    found = accuracies(sum(label_counts(*pair, num_labels=21) for pair in pairs))
    released = json.loads((golden / "crt" / "scores_deeplab.json").read_text())
    assert list(found) == list(released)
    for name, value in released.items():
        assert found[name] == (pytest.approx(value, abs=1e-9) if None not in np.atleast_1d(value) else value), name


@pytest.mark.parametrize(("number", "factor"), [(0, 1.25), (1, 0.75)])
def test_an_image_is_scaled_padded_and_normalised(crt_meta, expected, number, factor):
    seed = crt_meta["seed"]
    pixels = torch.floor(255 * uni(seed + 73, 37, 51, 3)).byte().numpy()[:, :, ::-1]
    labels = torch.floor(22 * uni(seed + 74, 37, 51)).byte().numpy()
    image, label = crop_or_pad(*scale_by(pixels, labels, factor), top=0, left=0, size=64, normalise=CAFFE)
    assert_golden(image[:, ::3, ::2], expected[f"augmented_{number}"])
    np.testing.assert_array_equal(label, expected[f"augmented_label_{number}"])


def test_pils_nearest_is_matched_at_every_size():
    """Beyond the golden sizes: those that crops and their logits have."""
    for side, new in [(321, 41), (321, 21), (321, 31), (96, 12), (64, 8), (7, 13), (33, 5), (448, 57), (1, 3)]:
        row = np.arange(side, dtype=np.int32)[None]
        pil = np.asarray(Image.fromarray(row).resize((new, 1), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(nearest_labels(torch.from_numpy(row)[None], (1, new))[0], pil)
