"""From the flags of `train_voc.py` to what is trained: each arrives where it belongs; none is the released recipe."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo import OptimizedModule

from data.normalisation import IMAGENET
from data.training import EpochSampler
from method.arguments import parse_arguments
from method.hsc.config import CONFIGS, SANE
from method.oddities import mend
from method.terms.maps import two_scales
from method.training import make_learner, make_loader, make_training
from network.cls import ClsNet
from network.resnet38d import ResNet38d
from tests.data.places import images_in
from tests.scripts.conftest import words_of
from tool.cli import cores

REQUIRED = {"--data_root": "images", "--saliency_root": "maps"}
# The method, its files and its recipe (paper/method.md, docs/files.md), then what came later and is off, then the run.
RELEASED = {
    "method": "hsc", "session": "hsc", "network": None, "backbone": "resnet38d", "width": 1,
    "weights": "network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params",
    "data_root": "images", "saliency_root": "maps", "labels": "voc12/cls_labels.npy",
    "train_list": "voc12/train_aug.txt", "val_list": "voc12/val.txt", "work_dir": "./exps",
    "batch_size": 12, "max_iters": 10000, "iter_size": 2, "max_epoches": 15,
    "lr": 0.01, "wt_dec": 5e-4, "momentum": 5e-4,
    "crop_size": 448, "resize_size": [448, 768], "view2_size": 128, "tau": 0.5, "alpha": 0.5,
    "without": [], "sane": [], "from_scratch": False, "clip_grad": None, "amp": "off", "compile": False,
    "crf_backend": "auto", "seed": 0, "device": None, "num_workers": 12, "eval": False, "resume": False,
    "data_set": "voc12",
}  # fmt: skip
RELEASED_IMAGES = 10_582
# No number is a default, and no two are alike.
FLAGS = {
    **REQUIRED,
    "--lr": 0.02, "--wt_dec": 3e-3, "--momentum": 0.7, "--clip_grad": 6.5, "--batch_size": 4, "--max_epoches": 3,
    "--tau": 0.3, "--alpha": 0.2, "--crop_size": 56, "--resize_size": (60, 90), "--view2_size": 40,
    "--width": 0.0625, "--seed": 13, "--num_workers": 1,
}  # fmt: skip
IMAGES = 30
DECAY_STEPS = 21  # 30 images make 7 whole batches, three times


@pytest.fixture
def parse(monkeypatch):
    """From flags to what the script makes of them."""

    def arguments(flags):
        monkeypatch.setattr(sys, "argv", ["train_voc.py", *words_of(flags)])
        return parse_arguments()

    return arguments


@pytest.fixture
def build(parse):
    """From flags, beside those above, to what is trained."""

    def training(flags=None):
        args = parse({**FLAGS, **(flags or {})})
        return make_training(args, make_learner(args, torch.device("cpu")), num_images=IMAGES)

    return training


def rates(training):
    return [group["lr"] for group in training.optimizer.param_groups]


def rate_of(training, parameter):
    (group,) = [group for group in training.optimizer.param_groups if any(parameter is one for one in group["params"])]
    return group["lr"]


# -- the released recipe -----------------------------------------------------------------------------------------------


def test_without_other_flags_the_recipe_is_the_released_one(parse):
    args = vars(parse(REQUIRED))
    assert {name: value for name, value in args.items() if not name.endswith("_every")} == RELEASED
    assert CONFIGS["hsc"].network == "resnet38_hsc"


def test_the_released_momentum_is_5e_4_and_the_rate_decays_over_13215_of_20000_steps(parse):
    args = parse({**REQUIRED, "--width": FLAGS["--width"]})
    learner = make_learner(args, torch.device("cpu"))
    training = make_training(args, learner, num_images=RELEASED_IMAGES)
    assert learner.criterion.config == CONFIGS["hsc"]
    assert {group["momentum"] for group in training.optimizer.param_groups} == {5e-4}
    share_at = training.schedule.lr_lambdas[0]
    assert share_at(0) == 1 and share_at(6_000) == pytest.approx((1 - 6_000 / 13_215) ** 0.9)
    assert args.max_iters * args.iter_size == 20_000
    assert share_at(13_213) > share_at(13_214) == share_at(13_215) == share_at(19_999) > 0


# -- what is trained ---------------------------------------------------------------------------------------------------


def test_rate_decay_and_momentum_reach_the_optimiser(build):
    training = build()
    groups = training.optimizer.param_groups
    assert isinstance(training.optimizer, torch.optim.SGD)
    assert rates(training) == pytest.approx([0.02, 0.04, 0.2, 0.4])
    assert [group["weight_decay"] for group in groups] == [3e-3, 0, 3e-3, 0]
    assert [group["momentum"] for group in groups] == [0.7] * 4
    assert rate_of(training, training.objective.net.backbone.b7.conv_branch1.weight) == pytest.approx(0.02)
    assert rate_of(training, training.objective.net.fc8.weight) == pytest.approx(0.2)


@pytest.mark.parametrize("step", [0, 5, DECAY_STEPS - 1, DECAY_STEPS, DECAY_STEPS + 9])
def test_the_rate_decays_over_epochs_of_whole_batches_and_then_stays(build, step):
    training = build()
    for _ in range(step):
        training.optimizer.step()
        training.schedule.step()
    share = (1 - min(step, DECAY_STEPS - 1) / DECAY_STEPS) ** 0.9
    assert rates(training) == pytest.approx([share * rate for rate in (0.02, 0.04, 0.2, 0.4)])


def test_tau_alpha_view_2_and_crf_reach_the_criterion(build):
    config = build().objective.criterion.config
    assert (config.saliency.overlap, config.saliency.foreground_share) == (0.3, 0.2)
    assert (config.second_view, config.crf_backend) == (40, "auto")
    views = two_scales(torch.zeros(1, 3, 56, 56), torch.zeros(1, 1, 56, 56), config.second_view)
    assert [view.image.shape[-2:] for view in views] == [(56, 56), (40, 40)]


@pytest.mark.parametrize("method", CONFIGS)
def test_a_method_trains_its_own_config(build, method):
    training, expected = build({"--method": method}), CONFIGS[method]
    assert isinstance(training.objective.net, ClsNet) == (method == "cls")
    config = training.objective.criterion.config
    assert (config.terms, config.refined, config.network) == (expected.terms, expected.refined, expected.network)
    assert config.second_view == (40 if method in ("hsc", "eps_seam") else None)


@pytest.mark.parametrize("name", ["rsc", "csc", "psc", "bank", "cross"])
def test_without_switches_off_what_it_names_and_nothing_else(build, name):
    whole = build().objective.criterion.config
    changed = {name: False} if name in ("bank", "cross") else {"terms": whole.terms - {name}}
    assert build({"--without": name}).objective.criterion.config == replace(whole, **changed)


@pytest.mark.parametrize("name", SANE)
def test_sane_mends_what_it_names_and_nothing_else(build, name):
    whole = build().objective.criterion.config
    mended = build({"--sane": name}).objective.criterion.config
    assert mended == mend(whole, SANE, [name]) and asdict(mended) != asdict(whole)


def test_the_mended_region_head_learns_at_the_heads_rate(build):
    for flags, rate in (({}, 0.02), ({"--sane": "region_rate"}, 0.2)):
        training = build(flags)
        assert rate_of(training, training.objective.net.extra_F[0].weight) == pytest.approx(rate)
        assert not training.objective.net.extra_F[1].weight.requires_grad


def test_the_mended_region_norm_trains(build):
    for flags, trains in (({}, False), ({"--sane": "region_norm"}, True)):
        training = build(flags)
        norm = training.objective.net.extra_F[1]
        assert (norm.training, norm.weight.requires_grad) == (trains, trains)
        assert rate_of(training, training.objective.net.extra_F[0].weight) == pytest.approx(0.02)


def test_width_backbone_and_from_scratch_reach_the_net(build):
    net = build().objective.net
    assert net.backbone.channels == ResNet38d(width=0.0625).channels and net.frozen
    assert not build({"--from_scratch": ()}).objective.net.frozen
    other = build({"--backbone": "mobilenet_v2", "--width": 1}).objective.net
    assert type(other.backbone).__name__ == "MobileNetV2"


def test_clip_grad_amp_and_compile_reach_the_step(build):
    plain = build({"--clip_grad": None})
    assert (plain.max_gradient, plain.objective.amp, plain.scaler.is_enabled()) == (None, "off", False)
    assert plain.objective.training_net is plain.objective.net
    assert (build().max_gradient, build({"--amp": "bf16"}).objective.amp) == (6.5, "bf16")
    compiled = build({"--compile": ()})
    assert isinstance(compiled.objective.training_net, OptimizedModule)


def test_a_seed_gives_the_same_weights_and_banks_and_another_gives_others(build):
    def start(**flags):
        torch.rand(3)  # whatever was drawn before
        training = build(flags)
        return torch.cat(
            [training.objective.net.fc8.weight.flatten(), training.objective.criterion.banks.region_bank.flatten()]
        )

    first = start()
    assert torch.equal(start(), first) and not start(**{"--seed": 14}).eq(first).any()


# -- what it is fed ----------------------------------------------------------------------------------------------------


def loader_of(args):
    ids = [f"image {number}" for number in range(IMAGES)]
    labels = {name: np.eye(20, dtype=np.float32)[number % 20] for number, name in enumerate(ids)}
    images = images_in(Path(args.data_root), ids)
    return make_loader(args, images, labels, steps=range(5, 19), normalisation=IMAGENET, pin_memory=False)


def test_sizes_folders_and_seed_reach_the_training_set(parse):
    loader = loader_of(parse(FLAGS))
    dataset = loader.dataset
    assert (dataset.augmentation.crop_size, dataset.augmentation.resize) == (56, (60, 90))
    assert (dataset.paths[21], str(dataset.saliency_root), dataset.seed) == ("images/image 21.jpg", "maps", 13)
    assert len(dataset) == IMAGES and torch.equal(dataset.labels[21], torch.eye(20)[1])


def test_batches_of_the_flags_size_in_the_seeds_order_go_on_where_a_run_stopped(parse):
    batches = list(loader_of(parse(FLAGS)).batch_sampler)
    assert [len(batch) for batch in batches] == [4] * 14
    assert [batch[0][0] for batch in batches] == [0] * 2 + [1] * 7 + [2] * 5  # epochs
    assert batches == list(EpochSampler(IMAGES, 4, seed=13, num_steps=19))[5:]
    assert batches != list(EpochSampler(IMAGES, 4, seed=14, num_steps=19))[5:]


@pytest.mark.parametrize(("asked", "started"), [(0, 0), (1, 1), (4096, cores())])
def test_no_more_loader_processes_than_asked_for_and_than_cores(parse, asked, started):
    assert loader_of(parse({**FLAGS, "--num_workers": asked})).num_workers == started
