"""`train_voc.py` names what is wrong with flags and files before it writes anything."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.labels import load_labels, save_labels
from network.build import build_network
from network.weights import released_state_dict
from tests.scripts.conftest import TINY, WIDTH, Attack, Case, Data, assert_refused_untouched, attempt_all, truncate
from voc12.classes import VOC12


def damage_images(data, folder):
    paths = [data.images / f"{identifier}.jpg" for identifier in data.ids]
    paths[0].unlink()
    truncate(paths[1], 40)
    paths[2].write_bytes(b"")
    paths[3].write_text("<html>not found</html>")
    (data.saliency / f"{data.ids[4]}.png").unlink()
    Image.new("L", (7, 5)).save(data.saliency / f"{data.ids[5]}.png")
    truncate(data.saliency / f"{data.ids[6]}.png", 20)


def damage_labels(data, folder):
    labels, ids = load_labels(data.labels, VOC12), data.ids
    del labels[ids[0]]
    labels[ids[1]] = np.zeros(20, np.float32)
    labels[ids[2]] = np.ones(19, np.float32)
    labels[ids[3]] = np.where(labels[ids[3]] == 1, np.nan, 0)
    labels[ids[4]] = 0.5 * labels[ids[4]]
    save_labels(data.labels, labels)


def damage_one_of_each(data, folder):
    (data.images / f"{data.ids[0]}.jpg").unlink()
    (data.saliency / f"{data.ids[1]}.png").unlink()
    labels = load_labels(data.labels, VOC12)
    del labels[data.ids[2]]
    save_labels(data.labels, labels)


def save_weights(change):
    """A file `net.pth` with the state of a tiny net, changed."""

    def save(data, folder):
        torch.save(
            change(released_state_dict(build_network("resnet38_hsc", num_classes=20, width=WIDTH))), folder / "net.pth"
        )

    return save


def save_truncated_weights(data, folder):
    save_weights(dict)(data, folder)
    truncate(folder / "net.pth", 1000)


CASES = {
    "no images folder": Case({"--data_root": "nowhere"}, ["--data_root nowhere: expected a folder"]),
    "a file as images folder": Case(
        {"--data_root": "data/train_aug.txt"}, ["--data_root data/train_aug.txt: expected a folder", "found a file"]
    ),
    "no saliency folder": Case({"--saliency_root": "nowhere"}, ["--saliency_root nowhere: expected a folder"]),
    "no saliency flag": Case({"--saliency_root": None}, ["--saliency_root", "--method hsc"]),
    "no list": Case({"--train_list": "nowhere.txt"}, ["--train_list nowhere.txt: expected a file"]),
    "a folder as list": Case({"--train_list": "data"}, ["--train_list data: expected a file", "found a folder"]),
    "bytes as list": Case(
        {},
        ["--train_list data/train_aug.txt", "UTF-8"],
        lambda data, folder: data.train_list.write_bytes(b"\xff\xfe\0"),
    ),
    "an empty list": Case(
        {}, ["--train_list data/train_aug.txt", "empty"], lambda data, folder: data.train_list.write_text("\n\n")
    ),
    "duplicates": Case(
        {},
        ["--train_list data/train_aug.txt", "duplicate of line 1: {0}", "duplicate of line 3: {2}"],
        lambda data, folder: data.train_list.write_text("\n".join([*data.ids, data.ids[0], data.ids[2]])),
    ),
    "no labels": Case({"--labels": "nowhere.npy"}, ["--labels nowhere.npy: expected a file"]),
    "labels with code": Case(
        {},
        ["data/cls_labels.npy", "can run code"],
        lambda data, folder: np.save(data.labels, {"a": Attack()}, allow_pickle=True),
    ),
    "one of each missing": Case({}, ["{0}.jpg", "{1}.png", "{2}: no label", "(3)"], damage_one_of_each),
    "damaged images": Case(
        {},
        [
            "{0}.jpg: no such file",
            "{1}.jpg: the image is truncated",
            "{2}.jpg: cannot be read as an image (the file is empty)",
            "{3}.jpg: cannot be read as an image",
            "{4}.png: no such file",
            "{5}.png: expected the size of its image",
            "{6}.png: the image is truncated",
            "(7)",
        ],
        damage_images,
    ),
    "damaged labels": Case(
        {},
        [
            "{0}: no label",
            "{1}: label without any class",
            "{2}: label of shape (19,)",
            "{3}: label with NaN",
            "{4}: label with values other than 0 and 1",
            "(5)",
        ],
        damage_labels,
    ),
    "batch beyond the data": Case({"--batch_size": 17}, ["--batch_size 17", "16 images"]),
    "batch of nothing": Case({"--batch_size": 0}, ["--batch_size"]),
    "released weights not there": Case({"--weights": None}, ["--weights network/ilsvrc", ".params: expected a file"]),
    "no weights": Case({"--weights": "nowhere.pth"}, ["--weights nowhere.pth: expected a file"]),
    "weights of another net": Case(
        {"--weights": "net.pth"},
        ["net.pth: fits nowhere"],
        save_weights(lambda state: {f"resnet_{name}": value for name, value in state.items()}),
    ),
    "weights of another width": Case(
        {"--weights": "net.pth", "--width": 0.125}, ["net.pth", "--width"], save_weights(dict)
    ),
    "weights of a classifier": Case(
        {"--weights": "net.pth"},
        ["fc8.weight", "20 classes without background", "train_voc.py with --method cls", "a copy without fc8.weight"],
        save_weights(lambda state: {**state, "fc8.weight": state["fc8.weight"][:20]}),
    ),
    "weights of another data set": Case(
        {"--weights": "net.pth"},
        ["fc8.weight", "81 labels, --data_set has another number", "a copy without fc8.weight"],
        save_weights(lambda state: {**state, "fc8.weight": state["fc8.weight"].repeat(4, 1, 1, 1)[:81]}),
    ),
    "truncated weights": Case(
        {"--weights": "net.pth"}, ["--weights net.pth", "without its end"], save_truncated_weights
    ),
    "weights with code": Case(
        {"--weights": "net.pth"}, ["--weights net.pth"], save_weights(lambda state: {**state, "a": Attack()})
    ),
    "tau": Case({"--tau": 2}, ["--tau 2.0: expected a number from 0 to 1"]),
    "alpha": Case({"--alpha": -0.5}, ["--alpha -0.5: expected a number from 0 to 1"]),
    "sizes turned round": Case({"--resize_size": (5, 3)}, ["--resize_size 5 3"]),
    "another method's net": Case({"--network": "resnet38_cls"}, ["--network resnet38_cls", "--method hsc"]),
    "an unknown net": Case({"--network": "resnet99"}, ["--network resnet99", "resnet38_hsc"]),
    "an unknown method": Case({"--method": "nonsense"}, ["--method", "nonsense", "eps_seam"]),
    "an ablation of other terms": Case({"--method": "eps", "--without": "psc"}, ["--without psc", "--method eps"]),
    "an ablation of a baseline": Case(
        {"--method": "eps_seam", "--without": ("rsc", "bank")}, ["--without rsc bank", "--method eps_seam"]
    ),
    "another method's flag": Case(
        {"--method": "msa_image", "--view2_size": None, "--without": "psc"},
        ["--without: --method msa_image has no such flag (hsc, ", "ppc_eps have it); leave it out"],
    ),
    "another method's oddity": Case(
        {"--method": "eps_seam", "--sane": ("ecr_channel", "rsc_norm")}, ["--sane rsc_norm: ", "--method eps_seam"]
    ),
    "a session outside": Case({"--session": "../x"}, ["--session ../x"]),
    "a work_dir that is a file": Case({"--work_dir": "data/train_aug.txt"}, ["--work_dir data/train_aug.txt"]),
    "a GPU that is not there": Case({"--device": "cuda:99"}, ["--device cuda:99"]),
    "no device": Case({"--device": "nonsense"}, ["--device nonsense"]),
    "a device we do not compute on": Case({"--device": "mps"}, ["--device mps"]),
    "a width of nothing": Case({"--width": 0}, ["--width 0"]),
    "a width that the backbone lacks": Case({"--backbone": "mobilenet_v2", "--width": 0.5}, ["--width 0.5"]),
    "a negative seed": Case({"--seed": -1}, ["--seed -1"]),
    "a negative rate": Case({"--lr": -1}, ["--lr -1"]),
    "a negative momentum": Case({"--momentum": -1}, ["--momentum -1"]),
    **{
        f"{flag} {value}": Case({f"--{flag}": value}, [f"--{flag} {float(value)}: expected a number from 0 to {high}"])
        for flag, high, values in (
            ("lr", "1e+30", ("inf", "nan", "1e38")),
            ("wt_dec", "1e+30", ("inf", "nan", "1e39")),
            ("momentum", "1", ("inf", "nan", "1.5")),
        )
        for value in values
    },
    "compiling for a CPU": Case({"--compile": True}, ["--compile", "expected a GPU"]),
    **{f"clipping at {norm}": Case({"--clip_grad": norm}, [f"--clip_grad {norm}"]) for norm in ("inf", "nan", "0.0")},
    "a width that is no number": Case({"--width": "nan"}, ["--width nan"]),
    "an absurd crop": Case({"--crop_size": 10**7}, ["--crop_size 10000000: expected a number from 1 to 4096"]),
    "an absurd second view": Case({"--view2_size": 10**7}, ["--view2_size 10000000: expected a number from 1 to 4096"]),
    "absurd sizes": Case({"--resize_size": (48, 10**7)}, ["--resize_size 48 10000000", "at most 4096"]),
    "absurdly many steps": Case({"--max_iters": 10**30}, [f"--max_iters {10**30}: expected at most 1000000000 steps"]),
    "a negative number of processes": Case({"--num_workers": -1}, ["--num_workers"]),
}


@pytest.fixture(scope="module")
def attempts(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals")
    return attempt_all("train_voc.py", {**TINY, "--max_iters": 2}, CASES, data, Data.for_training, folder)


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_named_before_anything_is_written(attempts, name):
    assert_refused_untouched(attempts[name])
