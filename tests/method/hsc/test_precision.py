"""Half the precision in the net's forward pass: nearly the same losses, and weights, losses and state in float32."""

from copy import deepcopy

import pytest
import torch

from method.hsc.config import CONFIGS
from network.build import build_network
from tests.golden_inputs import rnd
from tests.method.hsc.steps import build_training, training_step


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build_network("resnet38_hsc", num_classes=20, width=0.0625, frozen=False).train()


def training_of(net, amp):
    return build_training(
        deepcopy(net), CONFIGS["hsc"], lr=0.01, momentum=0.9, weight_decay=5e-4, max_step=10, max_gradient=1.0, amp=amp
    )


def steps(training, count):
    label = torch.zeros(2, 20)
    label[0, 3] = label[1, 7] = 1
    image, saliency = rnd(1, 2, 3, 32, 32), rnd(2, 2, 1, 32, 32).sigmoid()
    return [training_step(training, image=image, saliency=saliency, label=label) for _ in range(count)]


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_losses_are_nearly_those_of_full_precision_and_float32(net, amp):
    (whole,), (half,) = steps(training_of(net, "off"), 1), steps(training_of(net, amp), 1)
    assert half.keys() == whole.keys()
    for name, loss in half.items():
        assert loss.dtype == torch.float32 and loss.isfinite()
        if name in ("cls", "sal", "er", "ecr"):  # the contrast hangs on the labels of single pixels
            torch.testing.assert_close(loss, whole[name], rtol=0.05, atol=0.02, msg=name)
    assert any(not torch.equal(loss, whole[name]) for name, loss in half.items())


def test_every_tensor_of_the_state_stays_float32_and_moves(net):
    training = training_of(net, "bf16")
    before = deepcopy(training.objective.net.state_dict())
    steps(training, 1)
    state = training.state()
    tensors = [value for value in state["model"].values() if value.is_floating_point()]
    tensors += [entry["momentum_buffer"] for entry in state["optimizer"]["state"].values()]
    assert {value.dtype for value in tensors} == {torch.float32}
    moved = [not torch.equal(value, before[name]) for name, value in training.objective.net.state_dict().items()]
    assert sum(moved) > len(moved) / 2


def test_fp16_goes_on_with_the_scale_of_its_gradients(net):
    first, second = training_of(net, "fp16"), training_of(net, "fp16")
    steps(first, 1)
    first.scaler.update(128.0)
    second.restore(deepcopy(first.state()))
    assert second.scaler.get_scale() == 128.0
