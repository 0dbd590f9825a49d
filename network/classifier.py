"""What stage 1's nets share: a backbone under heads, kept as it was loaded or trained whole."""

from typing import ClassVar, TypeVar

from torch import nn

from data.normalisation import Normalisation
from network.backbones import drop_nothing, fix_norms, freeze_stem

Net = TypeVar("Net", bound="Classifier")


class Classifier(nn.Module):
    """A backbone and its heads, which a subclass adds before it calls `finish`.

    With `frozen`, the batch norms of `fixed` keep their statistics and affine also in training mode, and the stem its
    weights. Without, everything trains and nothing is dropped.
    """

    # Layers of the checkpoint that inference does without.
    training_only_layers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, backbone: nn.Module, *, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen = frozen

    def finish(self) -> None:
        """Set the net into training mode, frozen or not, when all its layers are there."""
        if self.frozen:
            freeze_stem(self.backbone)
        else:
            drop_nothing(self)
        self.train()

    @property
    def normalisation(self) -> Normalisation:
        """What turns pixels into the input."""
        return self.backbone.normalisation

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        """The layers that learn at the heads' rate."""
        raise NotImplementedError

    @property
    def fixed(self) -> tuple[nn.Module, ...]:
        """The layers whose norms a frozen net keeps."""
        return (self.backbone,)

    def train(self: Net, mode: bool = True) -> Net:
        """`nn.Module.train`, but a frozen net's norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            for layers in self.fixed:
                fix_norms(layers)
        return self
