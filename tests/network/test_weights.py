"""Weights come back from every form of file, the report is true, and no file runs code or half-loads."""

import os
import pickle
import re
from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from network.build import build_network
from network.weights import load_released_state_dict, load_weights, released_name, released_state_dict
from tests.golden_inputs import fill
from tests.network.mxnet_writer import mxnet_name, params_of
from tool.cli import UserError


def tiny(name: str = "resnet38_hsc", width: float = 0.125) -> nn.Module:
    return build_network(name, num_classes=20, width=width)


@pytest.fixture(scope="module")
def state() -> dict:
    return {key: fill(key, tuple(value.shape), "x") for key, value in released_state_dict(tiny()).items()}


def advised(error, code: str) -> str:
    """The part of a message that says what to run."""
    return re.search(code, str(error.value))[0]


def assert_holds(net: nn.Module, state: dict) -> None:
    own = released_state_dict(net)
    for key, value in state.items():
        assert torch.equal(own[key], value), key


WRAPPED = {
    "bare": lambda state: state,
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "state_dict, data parallel": lambda state: {"state_dict": {f"module.{key}": v for key, v in state.items()}},
    "our last.ckpt": lambda state: {"model": state, "optimizer": {"lr": 0.1}, "position": (1, 2)},
    "DHR's last.ckpt": lambda state: {"model": {name: value + 1 for name, value in state.items()}, "average": state},
    "in two dicts": lambda state: {"model": {"state_dict": state, "epoch": 3}},
    "under another key": lambda state: {"net_weights": state, "optimizer": {"state": {}, "param_groups": [1]}},
    "compiled, in a trainer": lambda state: {"state_dict": {f"_orig_mod.net.{key}": v for key, v in state.items()}},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_every_form_of_checkpoint_loads_whole(tmp_path, state, form):
    path = tmp_path / "net.pth"
    torch.save(WRAPPED[form](state), path)
    net = tiny()
    report = load_weights(net, path)
    assert_holds(net, state)
    assert (set(report.loaded), report.missing, report.unexpected) == (set(state), [], [])


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.model."])
def test_a_nets_own_state_dict_loads_whole(tmp_path, state, prefix):
    """As messages advise to save it; its backbone's names begin with `backbone.`"""
    first, second = tiny(), tiny()
    load_released_state_dict(first, state, source="here")
    torch.save({f"{prefix}{name}": value for name, value in first.state_dict().items()}, tmp_path / "net.pth")
    report = load_weights(second, tmp_path / "net.pth")
    assert_holds(second, state)
    assert (set(report.loaded), report.missing, report.unexpected) == (set(state), [], [])


def test_safetensors_load_whole_whatever_the_file_is_called(tmp_path, state):
    for name in ("net.safetensors", "net.pth"):
        save_file({f"model.{key}": value.contiguous() for key, value in state.items()}, tmp_path / name)
        net = tiny()
        report = load_weights(net, tmp_path / name)
        assert_holds(net, state)
        assert (set(report.loaded), report.missing, report.unexpected) == (set(state), [], [])


def test_a_damaged_safetensors_file_is_named(tmp_path, state):
    path = tmp_path / "net.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    content = path.read_bytes()
    for damaged in (content[:-100], content[:9] + b"#" + content[10:], content[:500], content[:7]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"--weights {re.escape(str(path))}: expected .*again"):
            load_weights(tiny(), path)


def test_weights_of_eight_bits_are_read(tmp_path, state):
    eight = state["fc8.weight"].to(torch.float8_e4m3fn)
    torch.save({**state, "fc8.weight": eight}, tmp_path / "net.pth")
    net = tiny()
    load_weights(net, tmp_path / "net.pth")
    assert torch.equal(net.fc8.weight, eight.float())


def test_several_state_dicts_are_refused_and_one_alone_is_read_as_advised(tmp_path, state, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"student": state, "teacher": state, "epoch": 3}, "net.pth")
    with pytest.raises(UserError, match=r"expected a state dict, found 2, 'student', 'teacher'; save one") as error:
        load_weights(tiny(), "net.pth")
    exec(advised(error, r"torch\.save\(.*\)$"), {"torch": torch, "path": "one.pth"})
    net = tiny()
    load_weights(net, "one.pth")
    assert_holds(net, state)


def test_what_is_saved_under_released_names_loads_again(tmp_path, state):
    first, second = tiny(), tiny()
    load_released_state_dict(first, state, source="here")
    torch.save(released_state_dict(first), tmp_path / "net.pth")
    load_weights(second, tmp_path / "net.pth")
    assert_holds(second, state)


def test_mxnet_weights_fill_the_backbone_and_leave_the_heads(tmp_path, state):
    heads = ("fc8", "proj_fc", "extra_F", "f8_3", "f8_4", "f9")
    backbone = {
        key: value
        for key, value in state.items()
        if not key.startswith(heads) and not key.endswith("num_batches_tracked")
    }
    arrays = {mxnet_name(key): value.numpy() for key, value in backbone.items()}
    arrays["arg:linear1000_weight"] = np.zeros((2, 3), np.float32)
    (tmp_path / "net.params").write_bytes(params_of(arrays))
    net = tiny()
    report = load_weights(net, tmp_path / "net.params")
    assert_holds(net, backbone)
    assert set(report.loaded) == set(backbone)
    assert report.unexpected == ["arg:linear1000_weight"]
    assert set(report.missing) == {
        key for key in state if key.startswith(heads) and not key.endswith("num_batches_tracked")
    }


def test_the_names_that_mxnet_wrote_are_all_understood(golden):
    with torch.device("meta"):
        own = released_state_dict(build_network("resnet38_hsc", num_classes=20))
    names = np.load(golden / "mxnet" / "expected.npz").files
    unknown = [name for name in names if released_name(name) not in own]
    assert unknown and all("linear1000" in name for name in unknown)
    assert len({released_name(name) for name in names}) == len(names)


def test_the_report_says_what_was_loaded_missing_and_left(state):
    partial = {key: value for key, value in state.items() if not key.startswith(("fc8", "f9"))}
    partial["classifier.weight"] = torch.zeros(3)
    text = str(load_released_state_dict(tiny(), partial, source="some.pth"))
    assert text.splitlines() == [
        f"some.pth: {len(partial) - 1} tensors loaded",
        "  not in the file, left as they were (2): fc8.weight, f9.weight",
        "  in the file but not in the network (1): classifier.weight",
    ]


def test_missing_heads_keep_their_values(state):
    net = tiny()
    before = net.fc8.weight.clone()
    load_released_state_dict(net, {key: value for key, value in state.items() if "fc8" not in key}, source="here")
    assert torch.equal(net.fc8.weight, before)


def test_tensors_of_another_shape_are_all_named_and_the_net_is_untouched(state):
    net = tiny()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    wrong = {**state, "fc8.weight": torch.zeros(20, 512, 1, 1), "bn7.bias": torch.zeros(7)}
    with pytest.raises(UserError) as error:
        load_released_state_dict(net, wrong, source="some.pth")
    message = str(error.value)
    assert "some.pth" in message and "--width" in message and "--backbone" in message
    assert re.search(r"fc8\.weight: .*\(20, 512, 1, 1\).*\(21, 512, 1, 1\)", message)
    assert re.search(r"bn7\.bias: .*\(7,\).*\(512,\)", message)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_another_width_is_an_error_that_says_so(state):
    with pytest.raises(UserError, match="--width"):
        load_released_state_dict(tiny(width=0.25), state, source="some.pth")


@pytest.mark.parametrize(("kind", "change"), [("int64", torch.Tensor.long), ("sparse", torch.Tensor.to_sparse)])
def test_a_tensor_of_another_kind_is_an_error(state, kind, change):
    with pytest.raises(UserError, match=rf"fc8\.weight: {kind}"):
        load_released_state_dict(tiny(), {**state, "fc8.weight": change(state["fc8.weight"])}, source="some.pth")


def test_half_precision_weights_load(state):
    net = tiny()
    load_released_state_dict(net, {**state, "fc8.weight": state["fc8.weight"].half()}, source="some.pth")
    assert torch.equal(net.fc8.weight, state["fc8.weight"].half().float())


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet50"])
def test_a_checkpoint_of_another_backbone_fits_nowhere(state, backbone):
    with pytest.raises(UserError, match=r"some\.pth: fits nowhere.*conv1a\.weight.*--backbone"):
        load_released_state_dict(
            build_network("resnet38_hsc", num_classes=20, backbone=backbone), state, source="some.pth"
        )


def test_a_segmentation_networks_weights_are_named_as_such(tmp_path, state):
    torch.save({"backbone.conv1a.weight": state["conv1a.weight"], "cls_conv.weight": torch.zeros(1)}, tmp_path / "a")
    with pytest.raises(UserError, match=r"--weights .*a: expected a classifier's.*found a segmentation network"):
        load_weights(tiny(), tmp_path / "a")


def test_weights_of_a_net_of_timms_are_told_what_to_add(tmp_path):
    with pytest.raises(UserError, match=r"conv_stem\.weight; name the net that they are of with --backbone.*timm:NAME"):
        load_released_state_dict(tiny(), {"conv_stem.weight": torch.zeros(8, 3, 3, 3)}, source="some.pth")


def test_a_head_alone_fits_nowhere():
    with pytest.raises(UserError, match="fits nowhere"):
        load_released_state_dict(tiny(), {"fc8.weight": torch.zeros(21, 512, 1, 1)}, source="some.pth")


class Dangerous:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def test_code_in_a_checkpoint_is_refused_and_never_runs(tmp_path):
    path, trace = tmp_path / "net.pth", tmp_path / "trace"
    torch.save({"conv1a.weight": Dangerous(str(trace))}, path)
    with pytest.raises(UserError, match=r"net\.pth.*mkdir"):
        load_weights(tiny(), path)
    path.write_bytes(pickle.dumps({"conv1a.weight": Dangerous(str(trace))}))
    with pytest.raises(UserError, match=r"net\.pth"):
        load_weights(tiny(), path)
    assert not trace.exists()


def test_a_whole_pickled_net_is_refused_and_read_as_advised(tmp_path):
    saved, read = tiny(), tiny()
    torch.save(saved, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"HSCNet, which could run code") as error:
        load_weights(read, tmp_path / "net.pth")
    advice = advised(error, r"net = torch\.load.*?; torch\.save\(net\.state_dict\(\), path\)")
    exec(advice, {"torch": torch, "path": tmp_path / "state.pth"})
    load_weights(read, tmp_path / "state.pth")
    assert_holds(read, released_state_dict(saved))


def test_a_dict_with_more_than_tensors_is_refused_and_read_as_advised(tmp_path, state):
    torch.save({"state_dict": state, "args": Namespace(lr=0.1)}, tmp_path / "net.pth")
    net = tiny()
    with pytest.raises(UserError, match=r"argparse\.Namespace, which could run code") as error:
        load_weights(net, tmp_path / "net.pth")
    advice = advised(error, r"net = torch\.load.*?;") + advised(error, r"torch\.save\(net\['state_dict'\], path\)$")
    exec(advice, {"torch": torch, "path": tmp_path / "state.pth"})
    load_weights(net, tmp_path / "state.pth")
    assert_holds(net, state)


BROKEN = {
    "empty": b"",
    "text": b"hello world\n",
    "web page": b"<!DOCTYPE html><html></html>",
    "pointer": b"version https://git-lfs.example/spec/v1\noid sha256:0\n",
    "zip head": b"PK\x03\x04" + bytes(40),
}


@pytest.mark.parametrize("name", ["net.pth", "net.ckpt", "net.params"])
@pytest.mark.parametrize("content", BROKEN)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(BROKEN[content])
    with pytest.raises(UserError, match=re.escape(f"--weights {tmp_path / name}")):
        load_weights(tiny(), tmp_path / name)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint_is_named(tmp_path, zipped):
    path = tmp_path / "net.pth"
    torch.save({"conv1a.weight": torch.zeros(8, 3, 3, 3)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    net = tiny()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=re.escape(f"--weights {path}")):
            load_weights(net, path)


@pytest.mark.parametrize(
    "content",
    [torch.zeros(3), {}, {"model": {}}, [1], {"epoch": 3}, {1: torch.zeros(1)}, {"state_dict": "none"}],
    ids=str,
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"--weights .*net\.pth: expected a state dict"):
        load_weights(tiny(), tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["absent.pth", "absent.params", "."])
def test_a_path_without_a_file_is_named(tmp_path, name):
    with pytest.raises(UserError, match=r"--weights .*expected a file"):
        load_weights(tiny(), tmp_path / name)


def test_weights_of_another_width_are_one_line_that_names_it(tmp_path):
    made, asked = (build_network("resnet38_cls", num_classes=20, width=width) for width in (0.0625, 0.125))
    torch.save(released_state_dict(made), tmp_path / "narrow.pth")
    with pytest.raises(UserError) as refusal:
        load_weights(asked, tmp_path / "narrow.pth")
    said = "made with --width 0.0625, the network here has --width 0.125; pass --width 0.0625"
    assert str(refusal.value) == f"{tmp_path / 'narrow.pth'}: {said}"
    load_weights(build_network("resnet38_cls", num_classes=20, width=0.0625), tmp_path / "narrow.pth")


def test_arrays_of_numpy_are_named_and_the_advice_makes_tensors_of_them(tmp_path, state):
    path, net = tmp_path / "arrays.pth", tiny()
    torch.save({name: value.numpy() for name, value in state.items()}, path)
    with pytest.raises(UserError, match="found arrays of NumPy") as error:
        load_weights(net, path)
    exec(advised(error, r"state = torch\.load.*$"), {"torch": torch, "path": tmp_path / "state.pth"})
    load_weights(net, tmp_path / "state.pth")
    assert_holds(net, state)


def test_weights_cast_to_half_with_their_counters_are_read(tmp_path, state):
    halves = {name: value.half() for name, value in state.items()}
    torch.save(halves, tmp_path / "half.pth")
    net = tiny()
    load_weights(net, tmp_path / "half.pth")
    assert_holds(net, {name: halves[name].to(value.dtype) for name, value in state.items()})
