"""The backbone's width, taps and initial values; the golden forward of the whole nets pins the rest."""

import pytest
import torch

from network.resnet38d import ResNet38d
from tests.golden_inputs import rnd
from tool.cli import UserError


@pytest.mark.parametrize(
    ("width", "channels"), [(1, (512, 1024, 4096)), (0.5, (256, 512, 2048)), (0.125, (64, 128, 512))]
)
def test_width_multiplies_every_channel_count(width, channels):
    with torch.device("meta"):
        net, full = ResNet38d(width=width), ResNet38d()
    assert net.channels == channels
    for (name, value), (_, reference) in zip(net.named_parameters(), full.named_parameters(), strict=True):
        inputs = [3] if name == "conv1a.weight" else [int(size * width) for size in reference.shape[1:2]]
        assert list(value.shape) == [int(reference.shape[0] * width), *inputs, *reference.shape[2:]], name


@pytest.mark.parametrize("width", [0.01, 0.1, 0.3, 0.77])
def test_an_uneven_width_still_makes_a_net(width):
    net = ResNet38d(width=width).eval()
    with torch.no_grad():
        taps = net(rnd(1, 1, 3, 32, 40))
    assert [tuple(tap.shape) for tap in taps] == [(1, channels, 4, 5) for channels in net.channels]


@pytest.mark.parametrize("width", [0, -1, 9, float("nan"), float("inf")])
def test_a_senseless_width_is_refused(width):
    with pytest.raises(UserError, match="--width"):
        ResNet38d(width=width)


def test_taps_are_activated_and_on_one_grid():
    net = ResNet38d(width=0.125).eval()
    with torch.no_grad():
        taps = net(rnd(2, 2, 3, 33, 56))
    assert {tuple(tap.shape[2:]) for tap in taps} == {(5, 7)}
    assert all(tap.min() == 0 and tap.max() > 0 for tap in taps)


def test_convolutions_start_from_he_values_in_fan_out_mode():
    torch.manual_seed(0)
    net = ResNet38d(width=0.25)
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 20_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert abs(module.weight.std() / (2 / fan_out) ** 0.5 - 1) < 0.05, name
