"""A net made fast for inference on a CPU: batch norms folded into convolutions, 1x1 convolutions by oneDNN."""

import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from network import resnet, resnet38d

# The convolutions of a module and the norms that alone read their outputs, where the module is no `nn.Sequential`.
NORM_AFTER = {
    resnet38d.ResidualBlock: {"conv_branch2a": "bn_branch2b1"},
    resnet38d.Bottleneck: {"conv_branch2a": "bn_branch2b1", "conv_branch2b1": "bn_branch2b2"},
    resnet.ResNet: {"conv1": "bn1"},
}
# The same of torchvision's blocks, by their names in `torchvision.models.resnet`.
NORM_AFTER_OF_TORCHVISION = {
    "BasicBlock": {"conv1": "bn1", "conv2": "bn2"},
    "Bottleneck": {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3"},
}


class Pointwise(nn.Conv2d):
    """A 1x1 convolution of one group that oneDNN computes on a CPU in float32; what it computes is `nn.Conv2d`'s.

    With one thread and fewer than 16 images PyTorch takes a routine of its own there, about half as fast.
    """

    def forward(self, x: Tensor) -> Tensor:
        usual = x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        if usual or torch.is_grad_enabled() or not torch.backends.mkldnn.is_available():
            return super().forward(x)
        return torch.ops.aten.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def fold_norms(net: nn.Module) -> nn.Module:
    """`net`, in place, for inference: each norm that reads a convolution alone is part of it, an identity in its place,
    and 1x1 convolutions are `Pointwise`.

    The outputs are equal but for rounding. The net can then neither be trained nor take a checkpoint.

    Raises ValueError for a net in training mode, whose norms change with each batch.
    """
    if net.training:
        raise ValueError("fold_norms: expected a net in evaluation mode")
    norm_after = _norm_after()
    for module in net.modules():
        for convolution, norm in _pairs(module, norm_after):
            folded = fuse_conv_bn_eval(module.get_submodule(convolution), module.get_submodule(norm))
            setattr(module, convolution, folded)
            setattr(module, norm, nn.Identity())
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.groups == 1:
            module.__class__ = Pointwise
    return net


def _norm_after() -> dict[type[nn.Module], Mapping[str, str]]:
    """By the modules' types. torchvision is slow to import: who built a net of its blocks has imported it already."""
    torchvisions = sys.modules.get("torchvision.models.resnet")
    blocks = {} if torchvisions is None else NORM_AFTER_OF_TORCHVISION
    return {**NORM_AFTER, **{getattr(torchvisions, name): pairs for name, pairs in blocks.items()}}


def _pairs(module: nn.Module, norm_after: Mapping[type[nn.Module], Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """The names of a module's convolutions, each with its norm's."""
    for convolution, norm in norm_after.get(type(module), {}).items():
        if isinstance(module.get_submodule(convolution), nn.Conv2d):  # a ResNet's stem may be three
            yield convolution, norm
    if isinstance(module, nn.Sequential):
        layers = list(module.named_children())
        for (first, convolution), (second, norm) in pairwise(layers):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield first, second
