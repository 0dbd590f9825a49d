"""`inference.py --scn`: another way to pixels, the same files; which superpixels they are of is told and kept."""

import json

import numpy as np
import pytest
import torch

from network.build import build_network
from network.scn import SCN
from network.weights import released_state_dict
from tests.scripts.conftest import WIDTH, assert_refused, assert_succeeded, contents, run
from tool.artifact import load_cam
from voc12.classes import VOC12

SCRIPT = "inference.py"


@pytest.fixture(scope="module")
def flags(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(0)
    torch.save(released_state_dict(build_network("resnet38_cls", num_classes=20, width=WIDTH)), folder / "cls.pth")
    torch.save({f"module.{name}": value for name, value in SCN().state_dict().items()}, folder / "scn.pth")
    (folder / "list.txt").write_text("\n".join(data.ids[:3]))
    common = {"--width": WIDTH, "--device": "cpu", "--crf_workers": 1, "--crf_t": 1, "--network": "resnet38_cls"}
    return {
        **{**common, **data.for_inference(), "--infer_list": folder / "list.txt"},
        **{"--weights": folder / "cls.pth", "--scn": folder / "scn.pth"},
    }


@pytest.fixture(scope="module")
def made(flags, tmp_path_factory):
    """The work_dir of a run."""
    folder = tmp_path_factory.mktemp("made")
    done = run(SCRIPT, {**flags, "--work_dir": folder, "--refine_list": 2})
    assert_succeeded(done)
    assert "scn.pth" in done.stdout
    return folder


def test_the_files_are_those_of_any_run_and_their_settings_say_which_superpixels(flags, made, data, tmp_path):
    plain = run(SCRIPT, {**flags, "--scn": None, "--work_dir": tmp_path})
    assert_succeeded(plain)
    assert contents(made).keys() == contents(tmp_path).keys()
    for image_id in data.ids[:3]:
        one, other = (load_cam(folder / "cam_npy" / f"{image_id}.npy", VOC12) for folder in (made, tmp_path))
        assert list(one) == list(other)
        assert all(
            one[index].shape == cam.shape and not np.array_equal(one[index], cam) for index, cam in other.items()
        )
    for folder in ("cam_npy", "cam_png", "crf/crf_1_7"):
        settings = json.loads((made / folder / "settings.json").read_text())
        assert settings["refine_list"] == 2 and len(settings["scn_sha256"]) == 64
        assert json.loads((tmp_path / folder / "settings.json").read_text())["scn_sha256"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--refine_list": 1}, "cam_npy: refine_list: 2 then, 1 now"),
        ({"--scn": None, "--refine_list": None}, "cam_npy: scn_sha256: "),
    ],
)
def test_files_of_other_superpixels_are_not_mixed_with_them(flags, made, changes, message):
    before = contents(made)
    assert_refused(run(SCRIPT, {**flags, "--refine_list": 2, **changes, "--work_dir": made}), message)
    assert contents(made) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--scn": "nowhere.pth"}, "--scn nowhere.pth: expected a file (weights of a superpixel network)"),
        ({"--scn": None, "--refine_list": 1}, "--refine_list 1: maps walk between superpixels; give their network"),
        ({"--refine_list": -1}, "--refine_list -1: expected a number from 0"),
    ],
)
def test_a_mistake_is_named(flags, tmp_path, changes, message):
    assert_refused(run(SCRIPT, {**flags, **changes, "--work_dir": tmp_path}), message)
    assert not list(tmp_path.iterdir())


def test_the_classifier_is_no_superpixel_network(flags, tmp_path):
    done = run(SCRIPT, {**flags, "--scn": flags["--weights"], "--work_dir": tmp_path})
    assert_refused(done, "--scn ", "expected the weights of a superpixel network", "found a classifier's")
