"""The commands of DHR that the fault tests disturb; conftest.py has their fixtures from here."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from data.images import image_size
from network.backbones import build_backbone
from rebalance.feature_files import grid_of, save_features
from tests.fault.commands import words_of
from tests.scripts.conftest import WIDTH

if TYPE_CHECKING:
    from tests.fault.conftest import Activity


@pytest.fixture(scope="session")
def features(data, tmp_path_factory) -> Path:
    """Unsupervised features, random ones, of every training image."""
    folder = tmp_path_factory.mktemp("features")
    for number, image_id in enumerate(data.ids):
        grid = grid_of(image_size(data.images / f"{image_id}.jpg"), 14)
        save_features(folder / f"{image_id}.pt", torch.randn(5, *grid, generator=torch.Generator().manual_seed(number)))
    return folder


@pytest.fixture(scope="session")
def rebalancing(undisturbed, data, features) -> "Activity":
    """Three epochs of eight images."""
    flags = {"--data_root": data.images, "--train_list": data.train_list, "--labels": data.labels, "--work_dir": "exps"}
    flags |= {"--wss_masks": data.root / "VOC2012" / "SegmentationClassAug", "--uss_features": features}
    flags |= {"--backbone": "resnet38d", "--width": WIDTH, "--weights": "none", "--crop_size": 32, "--min_image": 32}
    flags |= {"--max_image": 48, "--batch_size": 4, "--max_epoches": 3, "--lr": 1e-4, "--device": "cpu"}
    more = {"--num_workers": 0, "--crf_workers": 1, "--save_every": 3, "--log_every": 1}
    return undisturbed(words_of("rebalance/train.py", {**flags, **more}), again=("--resume",))


@pytest.fixture(scope="session")
def uss_features(undisturbed, data, tmp_path_factory) -> "Activity":
    """Features of a net with random weights, reduced by PCA, and their pictures."""
    torch.manual_seed(0)
    weights = tmp_path_factory.mktemp("backbone") / "resnet38d.pth"
    torch.save(build_backbone("resnet38d", width=WIDTH).state_dict(), weights)
    net = {"--uss": "Backbone", "--backbone": "resnet38d", "--width": WIDTH, "--uss_backbone_weights": weights}
    flags = {"--uss_dim": 4, "--img_root": data.images, "--infer_list": data.train_list, "--device": "cpu"}
    outputs = {"--out_dir": "exps/features", "--pictures": "exps/pictures"}
    return undisturbed(words_of("rebalance/features.py", {**net, **flags, **outputs}))


@pytest.fixture(scope="session")
def rebalanced(undisturbed, rebalancing, data) -> "Activity":
    """Label maps of the trained net."""
    net = {"--weights": rebalancing.folder / "exps" / "dhr" / "last.pth", "--backbone": "resnet38d", "--width": WIDTH}
    flags = {"--img_root": data.images, "--infer_list": data.train_list, "--out_dir": "exps/masks", "--device": "cpu"}
    return undisturbed(words_of("rebalance/masks.py", {**net, **flags, "--crf_workers": 1}))
