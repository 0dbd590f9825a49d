"""What the two branches learn: the class, and by turns to agree (paper/method.md, Object localisation)."""

from torch import Tensor
from torch.nn import functional as F

TURN = 5  # epochs without and with the consistency, by turns


def is_consistent(epoch: int) -> bool:
    """Whether the branches' maps are pulled together in `epoch`, from 1: in 5 to 9, 15 to 19, ..."""
    return epoch // TURN % 2 == 1


def branch_losses(transformer_map: Tensor, cnn_map: Tensor, label: Tensor, *, consistent: bool) -> dict[str, Tensor]:
    """The terms, scalars, and what is trained, `total`: in it the consistency counts only where `consistent`.

    Maps: float32 (N, K, h, w), raw. label: int64 (N). Cross entropy is of a map's means.
    """
    terms = {
        name: F.cross_entropy(maps.mean(dim=(2, 3)), label)
        for name, maps in (("transformer", transformer_map), ("cnn", cnn_map))
    }
    total = terms["transformer"] + terms["cnn"]
    consistency = (transformer_map - cnn_map).abs().mean()
    # The total comes last: where a loss is not finite, the term that it came from is named first.
    return {**terms, "consistency": consistency, "total": total + consistency if consistent else total}
