"""What a step computes never waits for a GPU, shown without one: on tensors that have a device and a shape, but no
values. Whoever asks for a value, as for one that decides a size, gets an error there."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.amp import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tool.crf
from data.normalisation import IMAGENET
from method import METHODS
from method.base import NetFlags
from method.learner import Moment
from network import vit
from network.scn import SCN
from segmentation import engine
from tool.optim import PortableSGD
from voc12.classes import VOC12


def can_pretend() -> bool:
    """Whether this torch makes such tensors without a GPU (2.6 does not, 2.11 does)."""
    try:
        with FakeTensorMode():
            torch.empty(3, device="cuda") + torch.empty(3).to("cuda")
    except RuntimeError:
        return False
    return True


pytestmark = pytest.mark.skipif(not can_pretend(), reason="this torch pretends no GPU")


@pytest.fixture(autouse=True)
def no_kept_kernels():
    """The CRF keeps kernels; those without values are of no use to others."""
    yield
    sys.modules["tool.crf.mean_field"]._build_smoothness_kernel.cache_clear()


class Copies(TorchDispatchMode):
    """Collects the copies between devices that make the host wait."""

    def __init__(self):
        super().__init__()
        self.number, self.waiting = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if "copy" in function._schema.name and len({tensor.device.type for tensor in tensors}) > 1:
            self.number += 1
            if not (kwargs or {}).get("non_blocking"):
                self.waiting.append(str(function))
        return result


@pytest.fixture(autouse=True)
def nothing_is_recorded(monkeypatch):
    """What a GPU would record and replay is computed each time."""
    monkeypatch.setattr(tool.crf, "_replay", lambda refinement, *_: refinement.refined)


def hollow_vit(build: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    """timm's net, which asks for values while it is built, with weights that have none."""
    with unset_fake_temporarily(), torch.device("cpu"):
        net = build(*arguments)
    for part in net.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(torch.empty(tuple(parameter.shape))))
    return net


def compute_losses(method: str) -> dict[str, torch.Tensor]:
    """Forward passes and losses on a GPU that is not there, twice; banks from an earlier step."""
    made = METHODS[method]
    device = torch.device("cuda")
    config, net, side = made.configure(None), NetFlags(width=1 / 8), 160
    if method == "crt":
        config, net, side = replace(config, transformer="test_vit"), NetFlags("resnet18"), 224
    if "scn" in made.helper_flags:
        config, net = replace(config, scn="scn.pth"), NetFlags("resnet18")
    with device:
        learner = made.learner(config, net, VOC12, device=device)
        shapes = {"image": (4, 3, side, side), "label": (4, 20), "saliency": (4, 1, side, side)}
        batch = {name: torch.empty(shape) for name, shape in shapes.items() if name in {"image", "label", *made.reads}}
    with Copies() as copies:
        for step in range(2):
            losses = learner(batch, Moment(step, epoch=step))
    assert copies.number == 0  # constants are made where they are used
    return losses.terms


@pytest.mark.parametrize("method", METHODS)
def test_forward_passes_and_losses_ask_for_no_value(method, monkeypatch):
    monkeypatch.setattr(Moment, "generator", lambda moment, device: None)  # there is none of a GPU that is not there
    monkeypatch.setattr(vit, "_build", partial(hollow_vit, vit._build))
    monkeypatch.setattr("tool.device.place", lambda net, device, amp: net)  # it is there, and cannot be moved
    monkeypatch.setattr("network.scn.frozen_scn", lambda *_, **__: SCN())  # whose file has values
    with FakeTensorMode():
        losses = compute_losses(method)
    assert {loss.device.type for loss in losses.values()} == {"cuda"}


def test_the_losses_of_several_grids_copy_what_they_pick_once_and_ask_for_no_value():
    engine._picked.cache_clear()
    copied = []
    with FakeTensorMode():
        label = torch.empty(2, 33, 33, dtype=torch.long, device="cuda")
        logits = [torch.empty(2, 21, side, side, device="cuda") for side in (5, 3, 4, 5)]
        for _ in range(2):
            with Copies() as copies:
                assert engine.loss_of_scales(logits, label).device.type == "cuda"
            copied.append(copies.number)
    engine._picked.cache_clear()
    assert copied[0] > 0 == copied[1]


def test_pixels_become_the_nets_input_and_back_without_a_copy():
    with FakeTensorMode(), Copies() as copies:
        image = IMAGENET.of_pixels(torch.empty(3, 8, 9, dtype=torch.uint8, device="cuda"))
        assert (IMAGENET.truncated(image).device.type, image.dtype) == ("cuda", torch.float32)
    assert copies.number == 0


def test_a_step_of_the_optimiser_leaves_fp16s_question_to_the_kernel(monkeypatch):
    # The kernel itself takes no tensors without values.
    asked = []
    monkeypatch.setattr(torch, "_fused_sgd_", lambda *_, found_inf, **__: asked.append(found_inf.device.type))
    with FakeTensorMode():
        weight = nn.Parameter(torch.empty(3, device="cuda"))
        optimizer = PortableSGD([{"params": [weight]}], lr=0.1, momentum=0.9)
        scaler = GradScaler("cpu")  # which is where its first loss is
        with Copies() as copies:
            for _ in range(2):
                scaler.scale(torch.empty((), device="cuda"))
                weight.grad = torch.empty_like(weight)
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_([weight], 1.0)
                scaler.step(optimizer)
                scaler.update()
    assert copies.waiting == [] and asked == ["cuda", "cuda"]


@pytest.mark.parametrize("ask", [lambda tensor: tensor.sum().item(), lambda tensor: tensor[tensor > 0] + 1])
def test_asking_is_noticed(ask):
    with FakeTensorMode():
        tensor = torch.empty(3, device="cuda")
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            ask(tensor)


def test_a_copy_that_waits_is_noticed():
    with FakeTensorMode(), Copies() as copies:
        torch.empty(3).to("cuda", non_blocking=True)
        assert (copies.number, copies.waiting) == (1, [])
        torch.empty(3).to("cuda")
    assert (copies.number, len(copies.waiting)) == (2, 1)
