"""The dilated depthwise convolution is `nn.Conv2d`, gradients too."""

import pytest
import torch
from torch import nn

from network.depthwise import DilatedDepthwise


def gradients_of(forward, layer: DilatedDepthwise, x: torch.Tensor, of_y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = forward(x)
    return y, *torch.autograd.grad(y, (x, layer.weight), of_y)


@pytest.mark.parametrize("side", (3, 5))
@pytest.mark.parametrize("dilation", (1, 2, 3, 4))
@pytest.mark.parametrize(("height", "width"), ((12, 22), (13, 11), (1, 5), (3, 2)))
@pytest.mark.parametrize("memory_format", (torch.contiguous_format, torch.channels_last))
def test_output_and_gradients_are_those_of_the_plain_convolution(side, dilation, height, width, memory_format):
    torch.manual_seed(0)
    layer = DilatedDepthwise(6, side, dilation=dilation).double()
    x = torch.randn(2, 6, height, width).double().contiguous(memory_format=memory_format).requires_grad_()
    of_y = torch.randn(2, 6, height, width).double()
    ours = gradients_of(layer, layer, x, of_y)
    plain = gradients_of(lambda x: nn.Conv2d.forward(layer, x), layer, x, of_y)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain[0], rtol=1e-12, atol=1e-12)


def test_in_half_precision_it_computes_as_autocast_says_and_its_weight_keeps_float32():
    torch.manual_seed(0)
    layer = DilatedDepthwise(8, 3, dilation=2)
    x = torch.randn(2, 8, 10, 10, requires_grad=True)
    of_y = torch.randn(2, 8, 10, 10)
    exact = gradients_of(layer, layer, x, of_y)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    of_x, of_weight = torch.autograd.grad(y, (x, layer.weight), of_y.bfloat16())
    assert of_x.dtype == of_weight.dtype == torch.float32
    for half, full in zip((y, of_x, of_weight), exact, strict=True):
        torch.testing.assert_close(half.float(), full, rtol=0.03, atol=0.03)


def test_a_frozen_weight_gets_no_gradient_and_a_fixed_input_none_either():
    layer = DilatedDepthwise(4, 3, dilation=2)
    x = torch.randn(1, 4, 6, 6)
    layer(x).sum().backward()
    assert layer.weight.grad is not None and x.grad is None
    layer.weight.requires_grad_(False).grad = None
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None and layer.weight.grad is None


def test_an_even_kernel_keeps_no_grid():
    with pytest.raises(ValueError, match="odd"):
        DilatedDepthwise(4, 2, dilation=2)
