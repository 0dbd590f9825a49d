"""Whose a file of weights is, by a layer that only one net's files have."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from network.foreign import HEAD
from tool.cli import UserError, first_few

OF_SEGMENTATION = "cls_conv.weight"
OF_AFFINITY_NET = "f8_5.weight"  # classifiers have an f8_3, an f8_4 and an f9, too, which are other layers
OF_IRN = "fc_edge6.weight"
OF_SCN = "deconv3.0.weight"
OF_DHR = "seg_decoder.classifier.weight"
OF_CRT_TRANSFORMER, KERNEL = "head.weight", (3, 3)  # timm's nets have a matrix of this name


class Owner(NamedTuple):
    """A net, the command that writes its weights, and the one that takes them; as text what a message says of them."""

    net: str
    writer: str
    reader: str

    def __str__(self) -> str:
        return f"{self.net}'s weights; {self.reader} takes them"


CLASSIFIER = Owner("a classifier", "train_voc.py", "inference.py")
# By layer; of a file that has two the first counts.
OWNERS = {
    OF_SEGMENTATION: Owner(
        "a segmentation network", "segmentation/experiment/train.py", "segmentation/experiment/test.py"
    ),
    OF_AFFINITY_NET: Owner("AffinityNet", "refine/affinity/train.py", "refine/affinity/infer.py"),
    OF_IRN: Owner("IRN", "refine/irn/train.py", "refine/irn/infer.py"),
    OF_SCN: Owner("a superpixel network", "superpixel/train.py", "superpixel/infer.py"),
    OF_DHR: Owner("DHR's DeepLabv3+", "rebalance/train.py", "rebalance/masks.py"),
    **dict.fromkeys((HEAD, "classifier.0.weight", "classifier.weight"), CLASSIFIER),
    # The localiser's; CRT's own is the same net.
    OF_CRT_TRANSFORMER: Owner(
        "CRT's transformer", "localise/train.py", "localise/test.py or inference.py --method crt"
    ),
}


def whose(state: Mapping[str, Tensor]) -> Owner | None:
    """Whose the weights `state` are, under names with any prefix; None for those of no net in `OWNERS`."""
    return next((owner for layer, owner in OWNERS.items() if _has(state, layer)), None)


def _has(state: Mapping[str, Tensor], layer: str) -> bool:
    found = (value for name, value in state.items() if name.endswith(layer))
    return any(layer != OF_CRT_TRANSFORMER or value.shape[2:] == KERNEL for value in found)


def require_own(state: Mapping[str, Tensor], layer: str, *, source: str) -> None:
    """Raise `UserError` where `state` lacks `layer`, a key of `OWNERS`: it is another net's, which is named."""
    if layer not in state:
        expected = OWNERS[layer]
        raise UserError(
            f"{source}: expected the weights of {expected.net}, which {expected.writer} writes, with {layer}; found"
            f" {whose(state) or first_few(list(state))}"
        )
