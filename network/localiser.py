"""CRT's object localisation: a transformer and a CNN side by side, a map a class each (paper/method.md, Object
localisation)."""

from pathlib import Path

from torch import Tensor, nn

from data.normalisation import IMAGENET
from network.crt import CNNBranch
from network.names import under_own_names
from network.owners import OF_CRT_TRANSFORMER, require_own
from network.vit import GRID, ViT
from network.weights import LoadReport, read_weights
from network.whole import load_whole


class LocaliserTransformer(ViT):
    """A ViT in one pass, and a 3x3 convolution from its patches to classes, under timm's names with `head`."""

    def __init__(self, name: str, *, num_classes: int, drop_path: float = 0.0) -> None:
        super().__init__(name, drop_path=drop_path)
        self.head = nn.Conv2d(self.dim, num_classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Raw maps (N, K, 14, 14) from `image` (N, 3, 224, 224), normalised."""
        return self._score(super().forward(image).patches)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The raw maps and what the class token looks at, (N, 14, 14), summed over the blocks: their product, where it
        is positive, localises."""
        tokens = super().forward(image, with_attention=True)
        return self._score(tokens.patches), tokens.attention.unflatten(1, (GRID, GRID))

    def _score(self, patches: Tensor) -> Tensor:
        return self.head(patches.transpose(1, 2).unflatten(2, (GRID, GRID)))


class Localiser(nn.Module):
    """Both branches, with random weights. The input is the transformer's, which need not be ImageNet's."""

    def __init__(
        self, transformer: str, cnn: str, *, num_classes: int, drop_path: float = 0.0, frozen: bool = True
    ) -> None:
        super().__init__()
        self.transformer = LocaliserTransformer(transformer, num_classes=num_classes, drop_path=drop_path)
        self.cnn = CNNBranch(cnn, num_classes=num_classes, frozen=frozen)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The raw maps of the transformer and of the CNN, float32 (N, K, 14, 14), of `image` (N, 3, 224, 224),
        normalised as `transformer.normalisation` says."""
        as_imagenet = IMAGENET.of_others(image, self.transformer.normalisation)
        return self.transformer(image).float(), self.cnn(as_imagenet)


def load_trained(branch: LocaliserTransformer, path: str | Path) -> LoadReport:
    """Put trained weights into `branch`: of train.py's files, or of the released ones.

    Raises `UserError` for a file that is missing, damaged or of another net.
    """
    source = f"--weights {path}"
    state = under_own_names(read_weights(path, "--weights"), branch.state_dict(), source=source)
    require_own(state, OF_CRT_TRANSFORMER, source=source)
    advice = "expected what localise/train.py writes; was it trained with another --transformer, or on other classes?"
    return load_whole(branch, state, source=source, advice=advice)
