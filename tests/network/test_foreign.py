"""Weights of other code are read for what they mean: SEAM's background is its first channel, ours the last."""

import pytest
import torch

from method import METHODS
from method.arguments import OF_SEAMS_FORM, network_meant
from method.hsc.config import CONFIGS
from network import EPS_SEAM
from network.affinity import build_affinity_net, load_trained
from network.build import build_network
from network.foreign import FIRST, LAST
from network.weights import load_weights, released_state_dict
from tool.cli import UserError

WIDTH = 0.0625


def without(state, *layers):
    return {name: value for name, value in state.items() if name.split(".")[0] not in layers}


def seam(state):
    """`state`, ours, as SEAM's code would have written it."""
    fc8 = torch.cat([state["fc8.weight"][-1:], state["fc8.weight"][:-1]])
    return {**without(state, "proj_fc", "extra_F"), "fc8.weight": fc8}


# Files of nets that users have, all with the same meaning, made of ours: whether SEAM's order is read.
FOREIGN = {
    "SEAM": (seam, FIRST),
    "SEAM on several GPUs": (lambda state: {f"module.{name}": value for name, value in seam(state).items()}, FIRST),
    "PPC on SEAM": (lambda state: {**seam(state), "fc_proj.weight": state["proj_fc.weight"]}, FIRST),
    "PPC on EPS": (lambda state: without(state, "extra_F"), None),
    "EPS": (lambda state: without(state, "proj_fc", "extra_F", "f8_3", "f8_4", "f9"), None),
    "ours": (dict, None),
}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return released_state_dict(build_network("resnet38_hsc", num_classes=20, width=WIDTH))


@pytest.mark.parametrize("name", FOREIGN)
def test_every_channel_of_the_head_comes_to_its_place(tmp_path, state, name):
    change, background = FOREIGN[name]
    torch.save(change(state), tmp_path / "net.pth")
    net = build_network("resnet38_hsc", num_classes=20, width=WIDTH)
    report = load_weights(net, tmp_path / "net.pth")
    assert torch.equal(net.fc8.weight, state["fc8.weight"])
    assert report.background == background
    assert ("first channel, as in SEAM" in str(report)) == (background == FIRST)


def test_seams_form_is_told_by_the_nets_own_number_of_classes(tmp_path):
    of_seven, read = (build_network("resnet38_hsc", num_classes=7, width=WIDTH) for _ in range(2))
    own = released_state_dict(of_seven)
    torch.save(FOREIGN["SEAM"][0](own), tmp_path / "net.pth")
    assert load_weights(read, tmp_path / "net.pth").background == FIRST
    assert torch.equal(read.fc8.weight, of_seven.fc8.weight)


@pytest.mark.parametrize("network", OF_SEAMS_FORM)
def test_a_file_of_seams_form_is_read_as_it_is_for_a_caller_who_knows_better(tmp_path, state, network):
    torch.save(without(state, "proj_fc", "extra_F"), tmp_path / "eps_seam.pth")
    net = build_network(network, num_classes=20, width=WIDTH)
    report = load_weights(net, tmp_path / "eps_seam.pth", background_last=True)
    assert torch.equal(net.fc8.weight, state["fc8.weight"])
    assert report.background == LAST and "SEAM" not in str(report)
    assert f"pass --network {EPS_SEAM} beside --method" in str(load_weights(net, tmp_path / "eps_seam.pth"))
    method = next(method for method in METHODS.values() if method.network == network)
    assert network_meant(EPS_SEAM, method) == network


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        ("f8_5.weight", "AffinityNet's weights; refine/affinity/infer.py takes them"),
        ("module.fc_edge6.weight", "IRN's weights; refine/irn/infer.py takes them"),
        ("deconv3.0.weight", "a superpixel network's weights; superpixel/infer.py takes them"),
        ("classifier.cls_conv.weight", "a segmentation network's weights; segmentation/experiment/test.py takes them"),
    ],
)
def test_the_nets_of_later_stages_are_named_as_what_they_are(tmp_path, state, layer, found):
    torch.save({**state, layer: torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=rf"net\.pth: expected a classifier's, .*, found {found}$"):
        load_weights(build_network("resnet38_hsc", num_classes=20, width=WIDTH), tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ({"module.deconv3.0.weight": (1,)}, "a superpixel network's weights; superpixel/infer.py takes them"),
        (
            {"classifier.weight": (1,), "seg_decoder.classifier.weight": (1,)},
            r"DHR's DeepLabv3\+'s weights; rebalance/masks\.py takes them",
        ),
        (
            {"module.head.weight": (7, 8, 3, 3)},
            r"CRT's transformer's weights; localise/test\.py or inference\.py --method crt takes them",
        ),
        ({"head.weight": (7, 8)}, r"head\.weight"),
    ],
    ids=["superpixels", "DHR", "localiser", "ImageNet's"],
)
def test_a_refinement_names_what_it_is_given_for_its_own(tmp_path, shapes, found):
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=rf"net\.pth: expected the weights of AffinityNet, .*; found {found}$"):
        load_trained(build_affinity_net(width=WIDTH), tmp_path / "net.pth")


@pytest.mark.parametrize("method", CONFIGS)
def test_what_our_methods_write_is_never_taken_for_seams(tmp_path, method):
    """However few of the layers a method trains."""
    config = CONFIGS[method]
    trained, read = (build_network(config.network, num_classes=20, width=WIDTH, **config.net) for _ in range(2))
    torch.save(released_state_dict(trained), tmp_path / "net.pth")
    report = load_weights(read, tmp_path / "net.pth")
    assert (report.background, report.missing, report.unexpected) == (None, [], [])
    assert torch.equal(read.fc8.weight, trained.fc8.weight)


@pytest.mark.parametrize(
    ("network", "channels", "said"),
    [
        ("resnet38_hsc", 20, "it scores 20 classes without background, as PSA's: inference.py reads it with --network"),
        ("resnet38_cls", 21, "it scores 20 classes and background: inference.py reads it with --network resnet38_hsc"),
        ("resnet38_hsc", 81, "it scores 81 labels, --data_set has another number: name the data set that it"),
    ],
)
def test_a_head_of_another_number_of_channels_is_named_with_what_reads_it(tmp_path, state, network, channels, said):
    head = state["fc8.weight"].repeat(4, 1, 1, 1)[:channels]
    torch.save({**without(state, "proj_fc", "extra_F", "f8_3", "f8_4", "f9"), "fc8.weight": head}, tmp_path / "net.pth")
    with pytest.raises(UserError) as error:
        load_weights(build_network(network, num_classes=20, width=WIDTH), tmp_path / "net.pth")
    assert said in str(error.value) and len(str(error.value).splitlines()) == 2


def test_vocs_nets_are_not_advised_for_another_data_set(tmp_path, state):
    torch.save(without(state, "proj_fc", "extra_F"), tmp_path / "net.pth")
    with pytest.raises(UserError, match="it scores 21 labels, --data_set has another number"):
        load_weights(build_network("resnet38_hsc", num_classes=7, width=WIDTH), tmp_path / "net.pth")


def test_a_head_without_channels_is_refused_like_any_other_misfit(tmp_path, state):
    torch.save({**state, "fc8.weight": torch.tensor(1.0)}, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"fc8\.weight: float32 \(\) in the file"):
        load_weights(build_network("resnet38_hsc", num_classes=20, width=WIDTH), tmp_path / "net.pth")
