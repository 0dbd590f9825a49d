"""The generated inputs of the golden numbers, and what counts as equal to them."""

import math
import zlib

import numpy as np
import torch


def fill(name: str, shape: tuple[int, ...], salt: str) -> torch.Tensor:
    """The value that the golden nets hold for the parameter or buffer `name`."""
    generator = torch.Generator().manual_seed(zlib.crc32((salt + name).encode()))
    kind = name.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.long)
    if kind == "running_var" or (kind == "weight" and len(shape) == 1):
        return 0.5 + torch.rand(shape, generator=generator)
    if kind in ("running_mean", "bias"):
        return 0.1 * torch.randn(shape, generator=generator)
    return torch.randn(shape, generator=generator).mul_(math.sqrt(1 / math.prod(shape[1:])))


def crt_fill(name: str, shape: tuple[int, ...], crt_meta: dict) -> torch.Tensor:
    """`fill` as CRT's golden nets have it: positions matter, residual blocks do not explode, edges are shifted."""
    value = fill(name, shape, crt_meta["salt"])
    if name == "pos_embed":
        return 100 * value
    if name.endswith((".bn3.weight", ".increase.bn.weight")):
        return 0.2 * value
    return value + crt_meta["edge_shift"] if name == "fc_edge6.bias" else value


def rnd(seed: int, *shape: int) -> torch.Tensor:
    """Standard normal values from `seed`."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uni(seed: int, *shape: int) -> torch.Tensor:
    """Uniform values in [0, 1) from `seed`."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def assert_golden(actual, expected, *, rtol: float = 1e-3, atol: float | None = None) -> None:
    """Equal within the golden tolerance: `rtol` 1e-3 and an `atol` of 1e-5 of the largest golden value."""
    expected = np.asarray(expected)
    if atol is None:
        atol = 1e-5 * float(np.abs(expected).max())
    actual = actual.cpu() if isinstance(actual, torch.Tensor) else actual
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=rtol, atol=atol)
