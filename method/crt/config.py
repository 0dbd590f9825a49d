"""The constants of CRT (Huo, Su, Wu, arXiv 2209.15211): paper/method.md, CRT."""

from dataclasses import dataclass

BRANCHES = ("transformer", "cnn")
# What inference.py's `--sane` takes: the oddities (**Q**) of CRT's seeds that have a sane way.
SANE = ("padding", "mirror")


@dataclass(frozen=True)
class CRTConfig:
    """A training of both branches, and what seeds are made of.

    transformer: timm's name of the ViT. consistency_weight: lambda, in front of the difference of the branches' maps.
    side: that maps are resized to before they are compared, and of the crops that are scored between epochs, in pixels.
    batch_size: of these crops. branch: whose maps seeds are made of.
    """

    transformer: str = "deit_small_patch16_224"
    consistency_weight: float = 0.1
    consistency_from: int = 1  # the first epoch, counted from 0, in which the branches are pulled together
    side: int = 336
    batch_size: int = 16
    branch: str = "transformer"
    # Q: as released, an input whose side is a multiple of 112 gets 112 zeros more; False: none.
    pad_multiples: bool = True
    # Q: as released, the mirror image is padded at its own right, so that its maps, turned back, lie up to a cell off
    # where 16 does not divide the width; False: the padded image is mirrored.
    pad_mirror: bool = True
