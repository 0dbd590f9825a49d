"""A net's tensors are found whatever wrapped it, and nothing is taken for them that is not."""

import re

import pytest
import torch

from network.build import build_network
from network.names import under_own_names
from network.weights import load_weights, released_state_dict
from tool.cli import UserError


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return released_state_dict(build_network("resnet38_hsc", num_classes=20, width=0.0625))


def put_before(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "",
            "module.",
            "module.module.",
            "_orig_mod.",
            "model.",
            "net.",
            "backbone.",
            "network.",
            "encoder.backbone.",
        ),
        *("_orig_mod.module.", "module._orig_mod.model.net.", "_forward_module.model.", "student.0."),
    ],
)
def test_any_prefix_comes_off(state, prefix):
    found = under_own_names(put_before(state, prefix), state, source="a.pth")
    assert found.keys() == state.keys() and all(found[name] is state[name] for name in state)


def test_wrappers_of_torch_come_off_amid_a_name_too(state):
    wrapped = {name.replace("b6.", "b6._checkpoint_wrapped_module."): value for name, value in state.items()}
    wrapped = {name.replace("fc8.", "fc8.module."): value for name, value in wrapped.items()}
    assert wrapped.keys() != state.keys()
    assert under_own_names(wrapped, state, source="a.pth").keys() == state.keys()


def test_a_backbone_under_a_name_of_its_own_comes_with_its_heads(state):
    heads = {name: value for name, value in state.items() if name.startswith(("fc8", "proj_fc", "extra_F", "f8", "f9"))}
    backbone = {name: value for name, value in state.items() if name not in heads}
    file = {**put_before(heads, "model."), **put_before(backbone, "model.trunk."), "model.trunk.linear.weight": heads}
    found = under_own_names(file, state, source="a.pth")
    assert found.keys() == {*state, "linear.weight"}


def test_irns_backbone_is_found_and_what_it_lists_twice_is_left_over(tmp_path):
    """IRN's classifier keeps its ResNet-50 as `resnet50`, and its parts again as stages and as a list."""
    net = build_network("resnet38_cls", num_classes=20, backbone="resnet50")
    own = released_state_dict(net)
    body = {name: value for name, value in own.items() if name != "fc8.weight"}
    stages = {
        f"stage{int(name[5])}.{'4.' if name[5] == '1' else '0.'}{name[7:]}": value
        for name, value in body.items()
        if name.startswith("layer")
    }
    head = {"classifier.weight": torch.zeros(20, 2048, 1, 1), "newly_added.0.weight": torch.zeros(20, 2048, 1, 1)}
    torch.save({**put_before(body, "resnet50."), **stages, **head}, tmp_path / "irn.pth")
    report = load_weights(net, tmp_path / "irn.pth")
    assert report.missing == ["fc8.weight"] and {*report.unexpected} == {*stages, *head}


def test_a_block_with_a_layers_name_is_no_prefix():
    """conv1 of a block of a ResNet is not the net's conv1."""
    with torch.device("meta"):
        own = released_state_dict(build_network("resnet38_cls", num_classes=20, backbone="resnet50"))
    deeper = {**own, "layer3.20.conv1.weight": own["layer3.1.conv1.weight"]}
    for prefix in ("", "module.", "model."):
        found = under_own_names(put_before(deeper, prefix), own, source="a.pth")
        assert found.keys() == deeper.keys()
        assert found["conv1.weight"] is own["conv1.weight"]


def test_two_nets_in_a_file_are_refused_and_one_alone_is_read_as_advised(tmp_path, state):
    file = {**put_before(state, "module.student."), **put_before(state, "module.teacher.")}
    with pytest.raises(
        UserError, match=r"a\.pth: the network is in it 2 times, under 'student\.', 'teacher\.'"
    ) as error:
        under_own_names(file, state, source="a.pth")
    advice = re.search(r"torch\.save\(.*\)$", str(error.value))[0]
    exec(advice, {"torch": torch, "state": file, "path": tmp_path / "one.pth"})
    load_weights(build_network("resnet38_hsc", num_classes=20, width=0.0625), tmp_path / "one.pth")


def test_two_tensors_for_one_are_refused(state):
    with pytest.raises(UserError, match=r"two tensors for one.*\n  fc8\.weight: fc8\.weight and module\.fc8\.weight$"):
        under_own_names({**state, "module.fc8.weight": state["fc8.weight"]}, state, source="a.pth")
