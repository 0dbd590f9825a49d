"""MSA's classifiers as the golden numbers have them."""

import torch

from network.msa import CAMNet, MSAClassifier, MSANet, load_msa_state_dict, msa_state_dict
from tests.golden_inputs import fill

KINDS = {"association": MSANet, "features": MSANet, "cam": CAMNet}


def filled(kind: str, meta: dict, device: torch.device, *, num_classes: int = 20) -> MSAClassifier:
    """The net of `KINDS` on ResNet-50, in evaluation mode."""
    options = {} if kind == "cam" else {"dcr": kind}
    net = KINDS[kind]("resnet50", num_classes=num_classes, **options)
    names = {name: value for name, value in msa_state_dict(net).items() if not name.startswith("stage")}
    state = {name: fill(name, tuple(value.shape), meta["salt"]) for name, value in names.items()}
    load_msa_state_dict(net, state, source="the golden numbers")
    return net.eval().to(device)
