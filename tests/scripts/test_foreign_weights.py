"""The commands read other code's weights for what they mean, say what they took them for, and keep the two apart."""

import numpy as np
import pytest
import torch

from network import EPS_SEAM
from network.build import build_network
from network.weights import released_state_dict
from tests.network.test_foreign import seam, without
from tests.scripts.conftest import (
    TINY,
    WIDTH,
    assert_old_torch_reads,
    assert_refused,
    assert_succeeded,
    load,
    run,
)
from tool.artifact import load_cam
from voc12.classes import VOC12

SAID = "background is taken to be its first channel, as in SEAM"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return released_state_dict(build_network("resnet38_hsc", num_classes=20, width=WIDTH))


@pytest.fixture(scope="module")
def infer(data, tmp_path_factory):
    """Runs inference on two images; what it said, and their CAMs."""
    listed = tmp_path_factory.mktemp("list") / "two.txt"
    listed.write_text("\n".join(data.ids[:2]))
    quick = {"--width": WIDTH, "--device": "cpu", "--crf_t": "none", "--scales": 1}

    def infer(weights, work_dir, **changes):
        flags = {**quick, **data.for_inference(), "--infer_list": listed, "--weights": weights, "--work_dir": work_dir}
        done = run("inference.py", {**flags, **changes})
        return done, [load_cam(path, VOC12) for path in sorted((work_dir / "cam_npy").glob("*.npy"))]

    return infer


def same(ones, others):
    return len(ones) == len(others) == 2 and all(
        list(one) == list(other) and all(np.array_equal(one[key], other[key]) for key in one)
        for one, other in zip(ones, others, strict=True)
    )


def test_seams_file_gives_every_class_its_own_map_and_one_of_eps_with_seam_is_named(infer, state, tmp_path):
    torch.save(state, tmp_path / "hsc.pth")
    torch.save(seam(state), tmp_path / "seam.pth")
    torch.save(without(state, "proj_fc", "extra_F"), tmp_path / "eps_seam.pth")
    done, expected = infer(tmp_path / "hsc.pth", tmp_path / "hsc")
    assert_succeeded(done)
    assert f"{tmp_path / 'hsc.pth'}: {len(state)} tensors loaded\n" in done.stdout

    done, cams = infer(tmp_path / "seam.pth", tmp_path / "seam")
    assert_succeeded(done)
    assert SAID in done.stdout and "left as they were (9): proj_fc.weight, extra_F.0.weight" in done.stdout
    assert same(cams, expected)

    named = {"--network": EPS_SEAM}  # as the line about the first channel says
    assert f"--network {EPS_SEAM}" in done.stdout
    done, cams = infer(tmp_path / "eps_seam.pth", tmp_path / "eps_seam", **named)
    assert_succeeded(done)
    assert SAID not in done.stdout and same(cams, expected)
    # Seeds of the two readings are never mixed.
    done, cams = infer(tmp_path / "eps_seam.pth", tmp_path / "eps_seam")
    assert_refused(done, "cam_npy: background in fc8: last then, first now")
    assert same(cams, expected)


def test_training_starts_from_seams_weights_in_our_order(data, state, tmp_path):
    torch.save(seam(state), tmp_path / "seam.pth")
    flags = {**TINY, **data.for_training(), "--work_dir": tmp_path, "--max_iters": 1, "--lr": 0}
    done = run("train_voc.py", {**flags, "--weights": tmp_path / "seam.pth"})
    assert_succeeded(done)
    assert SAID in done.stdout and SAID in (tmp_path / "hsc" / "log").read_text()
    assert torch.equal(load(tmp_path / "hsc" / "hsc.pth")["fc8.weight"], state["fc8.weight"])


def test_a_classifier_without_background_is_taken_as_the_message_advises(infer, data, state, tmp_path):
    """As PSA's. The message is among both commands' refusals."""
    psa = {**without(state, "proj_fc", "extra_F", "f8_3", "f8_4", "f9"), "fc8.weight": state["fc8.weight"][:20]}
    torch.save(psa, tmp_path / "psa.pth")
    torch.save(without(psa, "fc8"), tmp_path / "backbone.pth")
    done, cams = infer(tmp_path / "psa.pth", tmp_path / "out", **{"--network": "resnet38_cls"})
    assert_succeeded(done)
    assert len(cams) == 2
    flags = {**TINY, **data.for_training(), "--max_iters": 1, "--work_dir": tmp_path}
    assert_succeeded(run("train_voc.py", {**flags, "--weights": tmp_path / "psa.pth", "--method": "cls"}))
    assert_succeeded(run("train_voc.py", {**flags, "--weights": tmp_path / "backbone.pth"}))


def test_old_versions_of_pytorch_read_what_training_writes(undisturbed):
    assert_old_torch_reads(undisturbed / "hsc.pth")
    assert_old_torch_reads(undisturbed / "last.ckpt")
