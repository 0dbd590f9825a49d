"""MSA's seeds: what each switch of inference changes, and flags that do not go together."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import inference
from method import METHODS
from method.msa.config import CONFIGS
from method.msa.learner import MSALearner
from method.superpixels import Superpixels
from network.msa import CAMNet, MSANet
from network.scn import SCN
from network.superpixel import up
from tool.cam import BACKGROUND
from tool.cli import UserError
from voc12.classes import VOC12

CPU = torch.device("cpu")
CLASSES = torch.tensor([3, 14])
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 53, 3), np.uint8))


def learner_of(kind: type, **changes) -> MSALearner:
    torch.manual_seed(0)
    net = kind("timm:test_resnet", num_classes=20)
    learner = MSALearner(net, replace(CONFIGS["msa_image"], threshold=0.2, **changes), VOC12).eval()
    learner.superpixels = Superpixels(SCN().eval())
    return learner.requires_grad_(False)


def test_maps_come_to_pixels_along_superpixels_or_are_left_on_their_grid():
    along, plain = (learner_of(MSANet, along=way).maps(PICTURE, 1.0, CLASSES, CPU) for way in (True, False))
    assert along.shape == (2, 48, 64) and plain.shape == (2, 3, 4)
    assert not torch.allclose(along, F.interpolate(plain[None], (48, 64))[0], rtol=1e-2)


def test_the_baseline_too_has_them_where_superpixels_are_given():
    learner = learner_of(CAMNet, sp_cam=False)
    along = learner.maps(PICTURE, 1.0, CLASSES, CPU)
    whole = learner.net.normalisation(PICTURE)[None]
    expected = 0
    for view, turn in ((whole, lambda maps: maps), (whole.flip(-1), lambda maps: maps.flip(-1))):
        seen = F.interpolate(view, (48, 64), mode="bilinear", align_corners=False)
        expected = expected + turn(up(learner.net(seen).logits[:, [4, 15]], learner._association(seen)))[0]
    torch.testing.assert_close(along, expected, rtol=1e-4, atol=1e-5)
    learner.superpixels = None
    assert learner.maps(PICTURE, 1.0, CLASSES, CPU).shape == (2, 3, 4)


@pytest.mark.parametrize(("kind", "changes"), [(MSANet, {}), (MSANet, {"along": False}), (CAMNet, {"sp_cam": False})])
def test_an_image_and_its_mirror_image_have_the_same_maps_together_as_a_gpu_has_them_as_alone(kind, changes):
    learner = learner_of(kind, **changes)
    whole = learner.net.normalisation(PICTURE)[None]
    pair = torch.cat([whole, whole.flip(-1)])
    alone = torch.cat([learner._maps_of(view, 1.5, CLASSES) for view in pair.split(1)])
    torch.testing.assert_close(learner._maps_of(pair, 1.5, CLASSES), alone, rtol=1e-4, atol=1e-5)


def test_background_is_a_class_of_its_maps():
    learner = learner_of(MSANet)
    every = learner.maps(PICTURE, 1.0, torch.tensor([BACKGROUND, 3]), CPU)
    torch.testing.assert_close(every[1:], learner.maps(PICTURE, 1.0, CLASSES[:1], CPU))
    learner.net.classifier[0].weight[0] = 0
    assert not learner.maps(PICTURE, 1.0, torch.tensor([BACKGROUND]), CPU).any()


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_the_sane_resize_shows_both_nets_the_same_pixels(scale):
    seen = {}
    for resized_once in (False, True):
        learner = learner_of(MSANet, resized_once=resized_once)
        found = seen[resized_once] = []
        learner.net.register_forward_pre_hook(lambda _, inputs, found=found: found.append(inputs[0]))
        learner.superpixels.net.register_forward_pre_hook(lambda _, inputs, found=found: found.append(inputs[0]))
        learner.maps(PICTURE, scale, CLASSES, CPU)
    own = learner.net.normalisation
    for of_scn, of_net in zip(seen[True][::2], seen[True][1::2], strict=True):
        torch.testing.assert_close(learner._association(of_net), learner.superpixels.net(of_scn))
    assert own is not None and not torch.equal(seen[False][1], seen[True][1])
    torch.testing.assert_close(seen[False][0], seen[True][0])


@pytest.mark.parametrize(("size", "frame"), [((72, 96), (144, 192)), ((83, 107), (176, 224)), ((1, 1), (16, 16))])
def test_scales_are_summed_on_the_released_size(size, frame):
    assert METHODS["msa_image"].seeds.frame(size) == frame
    assert METHODS["msa_sal"].seeds.frame(size) == tuple(-(-side // 16) * 16 for side in size)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--scn: --method msa_image needs a superpixel network's weights"),
        (("--scn", "x", "--beta", "-1"), "--beta -1: expected a number from 0 to 1000"),
        (("--scn", "x", "--gama", "2"), "--th 2.0: expected a number from 0 to 1"),
    ],
)
def test_flags_that_are_wrong_are_named(words, message, monkeypatch):
    flags = ["--method", "msa_image", "--weights", "net.pth", "--img_root", ".", *words]
    monkeypatch.setattr(sys, "argv", ["inference.py", *flags])
    with pytest.raises(UserError, match=message):
        inference.check_arguments(inference.parse_arguments())


def test_the_baseline_asks_for_no_superpixels(monkeypatch):
    flags = ["--method", "msa_sal", "--weights", "net.pth", "--img_root", ".", "--sp_cam", "no", "--beta", "4.0"]
    monkeypatch.setattr(sys, "argv", ["inference.py", *flags])
    args = inference.parse_arguments()
    inference.check_arguments(args)
    config = METHODS["msa_sal"].configure_inference(args)
    assert (config.sp_cam, config.steps, config.along) == (False, 4, True)
