"""`inference.py` names what is wrong with flags and files before it writes anything."""

from argparse import Namespace

import numpy as np
import pytest
import torch

from data.labels import load_labels, save_labels
from method.inference import load_learner
from network.build import build_network
from network.weights import released_state_dict
from tests.scripts.conftest import WIDTH, Attack, Case, Data, assert_refused_untouched, attempt_all, truncate
from tool.cli import UserError
from voc12.classes import VOC12


def damage_images(data, folder):
    paths = [data.images / f"{identifier}.jpg" for identifier in data.ids]
    paths[0].unlink()
    truncate(paths[1], 40)
    paths[2].write_bytes(b"")
    paths[3].unlink()


def damage_labels(data, folder):
    labels = load_labels(data.labels, VOC12)
    del labels[data.ids[0]], labels[data.ids[1]]
    labels[data.ids[2]] = np.full(20, 0.5, np.float32)
    save_labels(data.labels, labels)


def save_state(change, **options):
    """A deed: `net.pth` becomes the changed state of a net."""

    def save(data, folder):
        torch.save(
            change(released_state_dict(build_network("resnet38_hsc", num_classes=20, **options))), folder / "net.pth"
        )

    return save


def save_truncated_state(data, folder):
    save_state(dict, width=WIDTH)(data, folder)
    truncate(folder / "net.pth", 1000)


def without_heads(state):
    """As torchvision's checkpoints: the backbone, and a classifier of its own."""
    backbone = {name: value for name, value in state.items() if name.startswith("features.")}
    return {**backbone, "classifier.1.weight": torch.zeros(1000, 1280), "classifier.1.bias": torch.zeros(1000)}


CASES = {
    "no images folder": Case({"--img_root": "nowhere"}, ["--img_root nowhere: expected a folder"]),
    "no list": Case({"--infer_list": "nowhere.txt"}, ["--infer_list nowhere.txt: expected a file"]),
    "duplicates": Case(
        {},
        ["--infer_list data/train_aug.txt", "duplicate of line 1: {0}"],
        lambda data, folder: data.train_list.write_text("\n".join([*data.ids, data.ids[0]])),
    ),
    "damaged images": Case(
        {},
        ["{0}.jpg: no such file", "{1}.jpg: the image is truncated", "{2}.jpg: ", "{3}.jpg: no such file", "(4)"],
        damage_images,
    ),
    "no labels": Case({"--labels": "nowhere.npy"}, ["--labels nowhere.npy: expected a file"]),
    "damaged labels": Case(
        {},
        [
            "--labels data/cls_labels.npy",
            "{0}: no label",
            "{1}: no label",
            "{2}: label with values other than 0 and 1",
            "(3)",
        ],
        damage_labels,
    ),
    "labels with code": Case(
        {},
        ["data/cls_labels.npy", "can run code"],
        lambda data, folder: np.save(data.labels, {"a": Attack()}, allow_pickle=True),
    ),
    "no weights": Case({"--weights": "nowhere.pth"}, ["--weights nowhere.pth: expected a file"]),
    "truncated weights": Case({"--weights": "net.pth"}, ["--weights net.pth", "without its end"], save_truncated_state),
    "weights with code": Case(
        {"--weights": "net.pth"},
        ["--weights net.pth"],
        save_state(lambda state: {**state, "a": Attack()}, width=WIDTH),
    ),
    "weights of another width": Case({"--width": 0.125}, ["hsc.pth", "--width"]),
    "weights of another network": Case(
        {"--network": "resnet38_cls"}, ["hsc.pth", "fc8.weight", "20 classes and background", "--network resnet38_hsc"]
    ),
    "weights of a classifier": Case(
        {"--weights": "net.pth"},
        ["net.pth", "fc8.weight", "20 classes without background", "inference.py reads it with --network resnet38_cls"],
        save_state(lambda state: {**state, "fc8.weight": state["fc8.weight"][:20]}, width=WIDTH),
    ),
    "weights without heads": Case(
        {"--weights": "net.pth", "--backbone": "mobilenet_v2", "--width": None},
        ["net.pth: expected a trained resnet38_hsc", "does not have the file's classifier.1.weight", "\n  fc8.weight"],
        save_state(without_heads, backbone="mobilenet_v2"),
    ),
    "an unknown network": Case({"--network": "resnet99"}, ["--network resnet99", "resnet38_hsc"]),
    "threshold": Case({"--thr": 2}, ["--thr 2.0: expected a background score from 0 to 1"]),
    "scale of nothing": Case({"--scales": (1, 0)}, ["--scales 1.0 0.0"]),
    "iterations that are no number": Case({"--crf_t": "x"}, ["--crf_t x"]),
    "no iterations": Case({"--crf_t": (8, 0)}, ["--crf_t 8 0"]),
    "iterations of another script": Case({"--crf_t": "²"}, ["--crf_t ²: expected numbers of iterations, 1 to 1000"]),
    "iterations without end": Case({"--crf_t": 99999999999}, ["--crf_t 99999999999"]),
    "more iterations than any use": Case({"--crf_t": (8, 1001)}, ["--crf_t 8 1001"]),
    "one folder for two kinds of files": Case(
        {"--cam_npy": "out", "--cam_png": "exps/../out"}, ["/out: CAM dicts; label maps", "--cam_npy", "(1)"]
    ),
    "the CRF's folder for CAMs": Case({"--cam_npy": "exps/crf/crf_8_7"}, ["crf_8_7: CAM dicts; CRF seeds of 8 it"]),
    "exponents that share a folder": Case({"--crf_alpha": (7, 7.0000001)}, ["alpha 7.0; ", "alpha 7.0000001", "(1)"]),
    "exponent of nothing": Case({"--crf_alpha": 0}, ["--crf_alpha 0.0"]),
    "too many GPUs": Case({"--device": None, "--n_gpus": 99}, ["--n_gpus 99"]),
    "a negative number of GPUs": Case({"--device": None, "--n_gpus": -1}, ["--n_gpus -1"]),
    "processes for GPUs that are not used": Case(
        {"--n_gpus": 0, "--n_processes_per_gpu": (1, 2)}, ["--n_processes_per_gpu 1 2"]
    ),
    "no processes": Case({"--n_processes_per_gpu": 0}, ["--n_processes_per_gpu"]),
    "a GPU that is not there": Case({"--device": "cuda:99"}, ["--device cuda:99"]),
    "no device": Case({"--device": "nonsense"}, ["--device nonsense"]),
    "a work_dir that is a file": Case({"--work_dir": "data/train_aug.txt"}, ["--work_dir data/train_aug.txt"]),
    "cam_npy that is a file": Case(
        {"--cam_npy": "data/train_aug.txt"}, ["--cam_npy data/train_aug.txt: cannot be created"]
    ),
}
if not torch.cuda.is_available():
    CASES["one GPU where there is none"] = Case({"--device": None, "--n_gpus": 1}, ["--n_gpus 1", "0 GPUs"])


@pytest.fixture(scope="module")
def attempts(data, undisturbed, tmp_path_factory):
    common = {"--weights": undisturbed / "hsc.pth", "--width": WIDTH, "--device": "cpu"}
    return attempt_all("inference.py", common, CASES, data, Data.for_inference, tmp_path_factory.mktemp("refusals"))


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_named_before_anything_is_written(attempts, name):
    assert_refused_untouched(attempts[name])


def test_a_checkpoint_without_the_layers_that_only_training_uses_is_whole(tmp_path):
    torch.manual_seed(0)
    net = build_network("resnet38_hsc", num_classes=20, width=WIDTH).eval()
    heads = ("proj_fc.", "extra_F.", "f8_", "f9.")  # which EPS with SEAM has only in part
    state = {name: value for name, value in released_state_dict(net).items() if not name.startswith(heads)}
    torch.save(state, tmp_path / "net.pth")
    args = Namespace(
        **{"method": "hsc", "network": "resnet38_hsc", "backbone": "resnet38d", "width": WIDTH, "amp": "off"},
        **{"weights": tmp_path / "net.pth", "background_last": False, "data_set": "voc12"},
    )
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_learner(args)[0].net.foreground_cam(image), net.foreground_cam(image))
    del state["fc8.weight"]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"these tensors are missing.*\n  fc8\.weight"):
        load_learner(args)
