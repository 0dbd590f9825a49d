"""The nets are found by our names and by the released module paths."""

import pytest
from torch import nn

from network import BACKBONES, NETWORKS, RELEASED_MODULES, resolve_network
from network.backbones import BUILDERS
from network.build import NETS, build_network
from tool.cli import UserError


def test_the_names_are_those_of_what_there_is():
    assert (NETWORKS, BACKBONES) == ((*NETS, "crt", "msa"), tuple(BUILDERS))  # which are built by themselves


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet38_hsc", "resnet38_hsc"),
        ("resnet38_cls", "resnet38_cls"),
        ("network.resnet38_eps_seam_hsc", "resnet38_hsc"),
        ("network.resnet38_eps_seam", "resnet38_hsc"),
        ("network.resnet38_hsc", "resnet38_hsc"),
        ("network.resnet38_cls", "resnet38_cls"),
    ],
)
def test_names_and_released_module_paths_are_understood(name, expected):
    assert resolve_network(name) == expected
    assert type(build_network(name, num_classes=20, width=0.125)) is NETS[expected]


@pytest.mark.parametrize("name", ["resnet38", "network.resnet38", "", "os.path"])
def test_an_unknown_network_is_refused_with_the_names_there_are(name):
    with pytest.raises(UserError, match=f"--network {name}: .*" + ".*".join([*NETWORKS, *RELEASED_MODULES])):
        build_network(name, num_classes=20)


@pytest.mark.parametrize(("frozen", "some_dropped"), [(True, True), (False, False)])
@pytest.mark.parametrize("name", NETS)
def test_a_net_from_random_weights_drops_nothing(name, frozen, some_dropped):
    net = build_network(name, num_classes=20, width=0.0625, frozen=frozen)
    assert any(part.p > 0 for part in net.modules() if isinstance(part, nn.Dropout2d)) is some_dropped
