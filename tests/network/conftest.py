"""The nets at full width, filled as the golden nets are."""

import pytest
import torch

from network.build import build_network
from network.weights import load_released_state_dict, released_state_dict
from tests.golden_inputs import fill


def filled(name: str, salt: str, device: torch.device) -> torch.nn.Module:
    net = build_network(name, num_classes=20).eval()
    state = {key: fill(key, tuple(value.shape), salt) for key, value in released_state_dict(net).items()}
    load_released_state_dict(net, state, source="the golden numbers")
    return net.to(device)


@pytest.fixture(scope="session")
def hsc_net(meta, golden_device) -> torch.nn.Module:
    return filled("resnet38_hsc", meta["salt"], golden_device)


@pytest.fixture(scope="session")
def cls_net(meta, golden_device) -> torch.nn.Module:
    return filled("resnet38_cls", meta["salt"], golden_device)
