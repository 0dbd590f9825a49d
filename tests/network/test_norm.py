import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from network.backbones import fix_norms
from network.norm import FixedAffine, FixedNorm

LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture
def norm():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(values, 0.2, 2)
    fix_norms(norm)
    return norm


def of_norm(norm, x):
    return FixedAffine.apply(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_output_and_gradient_are_batch_norms(norm, layout, dtype):
    x = torch.randn(2, 6, 5, 4).to(dtype, memory_format=layout)
    norm = norm.double() if dtype == torch.float64 else norm
    gradient = torch.randn_like(x)
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    actual = of_norm(norm, found)
    actual.backward(gradient)
    F.batch_norm(expected, norm.running_mean, norm.running_var, norm.weight, norm.bias).backward(gradient)
    assert torch.equal(actual, norm(x))
    torch.testing.assert_close(found.grad, expected.grad, rtol={torch.bfloat16: 2**-8}.get(dtype, 1e-6), atol=0)
    assert found.grad.is_contiguous(memory_format=layout)


def test_half_precision_rounds_once(norm):
    x = torch.randn(2, 6, 5, 4, dtype=torch.bfloat16).requires_grad_()
    gradient = torch.randn_like(x)
    of_norm(norm, x).backward(gradient)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(x.grad, (gradient.float() * scale[:, None, None]).bfloat16(), rtol=2**-7, atol=0)
    assert ((x.grad.float() - gradient.float() * scale[:, None, None]).abs() <= 2**-8 * x.grad.float().abs()).all()


def test_fixed_norms_train_again_when_they_are_told_to():
    torch.manual_seed(0)
    usual = nn.BatchNorm2d(3)
    norm = copy.deepcopy(usual)
    fix_norms(norm)
    assert type(norm) is FixedNorm and not norm.training and not norm.weight.requires_grad
    assert list(norm.state_dict()) == list(usual.state_dict())
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(norm.train()(x), usual(x)) and torch.equal(norm.running_mean, usual.running_mean)
