"""MSA's methods at work: what each switch and each part of the ablation changes, scores on masks, and refusals."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data.normalisation import IMAGENET
from method import METHODS
from method.arguments import check_arguments, parse_arguments
from method.learner import FIRST, LabelledImages
from method.msa.config import CONFIGS, SANE, MSAConfig
from method.msa.learner import MSALearner
from method.oddities import mend, mendable
from method.superpixels import Superpixels
from method.training import make_learner
from network.msa import COCO_STATISTICS
from network.scn import SCN
from network.superpixel import up
from tests.golden_inputs import rnd, uni
from tests.method.test_contract import helpers, start
from tool.cli import UserError
from tool.metric import iou, label_counts

CPU = torch.device("cpu")
METHOD_NAMES = ("msa_image", "msa_sal")


def arguments(monkeypatch, *words: str):
    argv = ["train_voc.py", "--data_root", "images", "--backbone", "timm:test_resnet", "--crop_size", "64", *words]
    monkeypatch.setattr(sys, "argv", argv)
    args = parse_arguments()
    check_arguments(args)
    return args


def learner_of(monkeypatch, method: str, *words: str) -> MSALearner:
    baseline = "--sp_cam" in words
    helper = [] if baseline else helpers(method)
    return make_learner(arguments(monkeypatch, "--method", method, *helper, *words), CPU)


def batch() -> dict[str, torch.Tensor]:
    label = torch.zeros(2, 20)
    label[[0, 1, 1], [3, 7, 11]] = 1
    image = rnd(1, 2, 3, 64, 64)
    image[1, :, :, 40:] = 0
    return {"image": image, "label": label, "saliency": uni(2, 2, 1, 64, 64)}


def losses(learner: MSALearner) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in learner.train()(batch(), FIRST).terms.items()}


@pytest.mark.parametrize(
    ("method", "oddity"),
    [
        ("msa_image", "statistics"),
        ("msa_image", "softmax"),
        ("msa_image", "channels"),
        ("msa_sal", "propagation"),
    ],
)
def test_each_sane_value_changes_what_is_trained(method, oddity, monkeypatch):
    plain, sane = (losses(learner_of(monkeypatch, method, "--th", "0.2", *words)) for words in ([], ["--sane", oddity]))
    assert plain != sane


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_all_oddities_are_those_of_the_method_and_those_of_the_other_are_refused(method, monkeypatch):
    def configured(*words: str) -> MSAConfig:
        return METHODS[method].configure(arguments(monkeypatch, "--method", method, "--scn", "scn.pth", *words))

    assert configured("--sane", "all") == mend(configured(), SANE, mendable(CONFIGS[method], SANE))
    if method == "msa_image":
        with pytest.raises(SystemExit):
            configured("--sane", "padding")


def test_the_oddities_are_those_that_the_config_has():
    assert mendable(CONFIGS["msa_image"], SANE) == ["statistics", "softmax", "patch", "channels"]
    assert mendable(CONFIGS["msa_sal"], SANE) == [name for name in SANE if name != "resize"]


@pytest.mark.parametrize(("method", "power"), [("msa_image", 0.5), ("msa_sal", 0.9)])
def test_the_released_recipe_reaches_the_optimiser(method, power):
    _, training = start(method, "--lr", "0.1")  # over 8 steps
    groups = training.optimizer.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.1, 0.2, 1.0, 2.0])
    assert [group["weight_decay"] for group in groups] == [4e-5, 0, 4e-5, 0]
    assert all(group["nesterov"] and group["momentum"] == 4e-5 for group in groups)
    assert training.max_gradient == 1
    training.optimizer.step()
    training.schedule.step()
    assert groups[0]["lr"] == pytest.approx(0.1 * (1 - 1 / 8) ** power)
    _, training = start(method, "--nesterov", "False")
    assert not any(group["nesterov"] for group in training.optimizer.param_groups)


@pytest.mark.parametrize("statistics", [COCO_STATISTICS, IMAGENET])
def test_both_nets_see_images_by_the_same_statistics(statistics, monkeypatch):
    words = ["--sane", "statistics"] if statistics == IMAGENET else []
    learner = learner_of(monkeypatch, "msa_image", "--backbone", "timm:test_efficientnet", *words)
    assert learner.net.normalisation == statistics
    seen = []
    learner.helper.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = batch()["image"]
    learner.train()(batch(), FIRST)
    assert torch.equal(seen[0], image)


def test_a_backbone_of_other_statistics_keeps_them_and_the_superpixel_network_gets_its_own(monkeypatch):
    learner = learner_of(monkeypatch, "msa_image")
    own = learner.net.backbone.normalisation
    assert own != IMAGENET and learner.net.normalisation == own
    seen = []
    learner.helper.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    one = {name: value[:1] for name, value in batch().items()}
    learner.train()({**one, "image": own.of_pixels(pixels)}, FIRST)
    torch.testing.assert_close(seen[0], COCO_STATISTICS.of_pixels(pixels), rtol=1e-4, atol=1e-5)


def test_inference_takes_the_oddities_of_the_net_that_its_run_corrected(tmp_path):
    method, weights = METHODS["msa_image"], tmp_path / "msa_image.pth"
    (tmp_path / "args.json").write_text('{"method": "msa_image", "sane": ["patch", "statistics"]}')
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights")
    parser.add_argument("--scn", default="scn.pth")
    parser.add_argument("--refine_list", type=int, default=0)
    method.add_inference_flags(parser)
    # resize is of seeds alone, patch of training alone
    for words in (["statistics"], ["statistics", "resize"], ["patch", "statistics"]):
        method.check_inference(parser.parse_args(["--weights", str(weights), "--sane", *words]))
    for words in ([], ["--sane", "softmax", "statistics"]):
        with pytest.raises(UserError, match=r"was trained with --sane patch statistics; take the same"):
            method.check_inference(parser.parse_args(["--weights", str(weights), *words]))
    walks = parser.parse_args(["--weights", str(weights), "--refine_list", "3", "--up", "False"])
    with pytest.raises(UserError, match="--refine_list 3: maps walk only on their way along superpixels"):
        method.check_inference(walks)


def test_the_ablation_is_a_matter_of_flags(monkeypatch):
    parts = {
        "baseline": ["--sp_cam", "off", "--alpha", "0"],
        "dcr": ["--beta", "0", "--alpha", "0"],
        "ap": ["--alpha", "0"],
        "ipc": [],
    }
    found = {}
    for name, words in parts.items():
        learner = learner_of(monkeypatch, "msa_image", "--th", "0.2", *words)
        found[name] = losses(learner)
    assert found["baseline"]["ipc"] == found["dcr"]["ipc"] == found["ap"]["ipc"] == 0 < found["ipc"]["ipc"]
    assert found["baseline"]["cls"] != found["dcr"]["cls"] == found["ap"]["cls"]  # of scores before propagation


def test_propagation_is_in_training_for_images_and_in_maps_for_both(monkeypatch):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
    classes = torch.tensor([3, 14])
    for method in METHOD_NAMES:
        none, some = (learner_of(monkeypatch, method, "--th", "0.2", "--beta", steps) for steps in ("0", "8.0"))
        assert (losses(none)["ipc"] != losses(some)["ipc"]) == (method == "msa_image")
        maps = [learner.eval().maps(picture, 1.0, classes, CPU).detach() for learner in (none, some)]
        assert not torch.allclose(*maps)


def test_maps_are_those_of_both_views_along_the_superpixels_of_the_whole_image(monkeypatch):
    learner = learner_of(monkeypatch, "msa_sal", "--beta", "0").eval()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 50, 3), np.uint8))
    classes, expected = torch.tensor([2, 9]), 0
    whole = learner.net.normalisation(picture)[None]
    with torch.no_grad():
        for view, turn in ((whole, lambda maps: maps), (whole.flip(-1), lambda maps: maps.flip(-1))):
            small = F.interpolate(view, (68, 75), mode="bilinear", align_corners=False)  # 1.5 x 45 is 67.5: 68
            seen = F.interpolate(small, (80, 80), mode="bilinear", align_corners=False)
            large = F.interpolate(view, (80, 80), mode="bilinear", align_corners=False)
            association = learner.helper(COCO_STATISTICS.of_others(large, learner.net.normalisation))
            logits = learner.net(seen, association, steps=0).logits[:, [3, 10]]
            expected = expected + turn(up(logits, association))[0]
        found = learner.maps(picture, 1.5, classes, CPU)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_maps_of_the_baseline_go_along_superpixels_where_some_are_given(monkeypatch):
    learner = learner_of(monkeypatch, "msa_image", "--sp_cam", "False").eval()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
    with torch.no_grad():
        assert learner.maps(picture, 1.0, torch.tensor([2, 9]), CPU).shape == (2, 3, 4)
        learner.superpixels = Superpixels(SCN().eval())
        assert learner.maps(picture, 1.0, torch.tensor([2, 9]), CPU).shape == (2, 48, 64)


def labelled(folder: Path, sizes) -> tuple[dict, dict, dict]:
    rng = np.random.default_rng(0)
    paths, labels, masks = {}, {}, {}
    for number, (width, height) in enumerate(sizes):
        name = f"2007_{number:06}"
        paths[name], masks[name] = folder / f"{name}.jpg", folder / f"{name}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(paths[name])
        mask = np.kron(rng.integers(0, 2, (4, 4)), np.ones((height // 4 + 1, width // 4 + 1)))[:height, :width]
        Image.fromarray((mask * (4 + number)).astype(np.uint8)).save(masks[name])
        labels[name] = np.eye(20, dtype=np.float32)[3 + number]
    return paths, labels, masks


@pytest.mark.parametrize("words", [("--th", "0.2"), ("--sp_cam", "False")], ids=["superpixels", "baseline"])
def test_scores_between_epochs_are_of_the_best_threshold_on_masks_and_of_labels_without(tmp_path, monkeypatch, words):
    learner = learner_of(monkeypatch, "msa_image", *words)
    paths, labels, masks = labelled(tmp_path, [(40, 56), (37, 20)])
    found = learner.validate(LabelledImages(paths, labels, masks), CPU)
    counts = dict.fromkeys(CONFIGS["msa_image"].thresholds, 0)
    with torch.no_grad():
        for name, path in paths.items():
            whole = learner.net.normalisation(Image.open(path))[None]
            index = torch.tensor([int(labels[name].argmax())])
            frame = [-(-side // 16) * 16 for side in whole.shape[2:]]
            maps = learner._maps_of(whole, 1.0, index)
            maps = F.interpolate(maps, frame, mode="bilinear", align_corners=False)[0]
            cam = (maps.relu() - 1e-5).relu() / (maps.relu().amax() + 1e-5)
            cam = F.interpolate(cam[None], whole.shape[2:], mode="bilinear", align_corners=False)[0, 0]
            for threshold in counts:
                seed = torch.where(cam > threshold, index[0] + 1, 0).numpy()
                counts[threshold] = counts[threshold] + label_counts(
                    seed, np.asarray(Image.open(masks[name])), num_labels=21
                )
    assert found == {"mIoU": pytest.approx(max(float(iou(each).mean()) for each in counts.values()))}
    assert found["mIoU"] > 0
    found = learner.validate(LabelledImages(paths, labels), CPU)
    assert list(found) == ["mean_average_precision"] and 0 < found["mean_average_precision"] <= 1


REFUSALS = {
    "--scn: --method msa_image needs a superpixel network's weights": [],
    r"--scn scn\.pth: the baseline, --sp_cam False, asks no": ["--scn", "scn.pth", "--sp_cam", "False"],
    "--patch_number 8: expected a square number": ["--scn", "scn.pth", "--patch_number", "8"],
    "--patch_number 36: expected at most 25, the cells": [
        "--scn",
        "s.pth",
        "--patch_number",
        "36",
        "--crop_size",
        "80",
    ],
    "--crop_size 90: expected a multiple of 16": ["--scn", "scn.pth", "--crop_size", "90"],
    "--crop_size 16: expected a multiple of 16 from 32": ["--scn", "s", "--crop_size", "16", "--patch_number", "1"],
    "--nesterov: expected a --momentum above 0": ["--scn", "scn.pth", "--momentum", "0"],
    "--select miou: needs --gt_dir": ["--scn", "scn.pth", "--select", "miou"],
    "--ig_th 1.5: expected a number from 0 to 1": ["--scn", "scn.pth", "--ig_th", "1.5"],
    "--beta -1: expected a number from 0": ["--scn", "scn.pth", "--beta", "-1"],
}


@pytest.mark.parametrize("message", REFUSALS)
def test_flags_that_are_wrong_or_do_not_go_together_are_named(message, monkeypatch):
    with pytest.raises(UserError, match=message):
        arguments(monkeypatch, "--method", "msa_image", *REFUSALS[message])


def test_steps_may_be_written_as_a_float_that_is_whole(monkeypatch, capsys):
    assert arguments(monkeypatch, "--method", "msa_image", "--scn", "f", "--beta", "8.0").beta == 8
    with pytest.raises(SystemExit):
        arguments(monkeypatch, "--method", "msa_image", "--scn", "f", "--beta", "8.5")
    assert "argument --beta: expected a whole number of steps, got '8.5'" in capsys.readouterr().err


def test_resnet38_and_other_widths_are_refused(monkeypatch):
    with pytest.raises(UserError, match="--backbone resnet38d: expected a net that has output stride 16"):
        learner_of(monkeypatch, "msa_image", "--backbone", "resnet38d")
    with pytest.raises(UserError, match=r"--width 0\.5: --method msa_image has one width only"):
        learner_of(monkeypatch, "msa_image", "--width", "0.5")


def test_a_classifiers_file_as_scn_and_the_reverse_are_named(tmp_path, monkeypatch):
    learner = learner_of(monkeypatch, "msa_image")
    torch.save(learner.released()[""], tmp_path / "cls.pth")
    torch.save({f"module.{name}": value for name, value in SCN().state_dict().items()}, tmp_path / "scn.pth")
    with pytest.raises(
        UserError, match=r"--scn .*cls\.pth: expected the weights of a superpixel network.*a classifier's"
    ):
        learner_of(monkeypatch, "msa_image", "--scn", str(tmp_path / "cls.pth"))
    with pytest.raises(UserError, match=r"--weights .*scn\.pth: expected a classifier's.*found a superpixel network's"):
        learner.load(tmp_path / "scn.pth")
    assert learner_of(monkeypatch, "msa_image", "--scn", str(tmp_path / "scn.pth")).helper is not None
