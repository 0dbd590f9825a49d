"""Features' PCA and pictures by plain NumPy; what fits a PCA's file."""

import numpy as np
import pytest
import torch

from rebalance.uss import cells_for_pca, evenly_spaced, fit_pca, load_pca, picture_of, save_pca
from tests.golden_inputs import rnd
from tool.cli import UserError

ABOUT = {"backbone": "resnet50", "sha256": "0" * 64}


def samples():
    mixing = rnd(1, 6, 6)
    return [rnd(seed, 40 + seed, 6) @ mixing + 3 for seed in range(2, 7)]


def test_components_are_the_leading_eigenvectors_of_what_is_less_its_mean():
    reduction = fit_pca(samples(), 4)
    cells = torch.cat(samples()).double().numpy()
    values, vectors = np.linalg.eigh(np.cov(cells.T))
    np.testing.assert_allclose(reduction.mean, cells.mean(axis=0), rtol=1e-5)
    for component, expected in zip(reduction.components.numpy(), vectors.T[np.argsort(-values)], strict=False):
        assert component[np.abs(component).argmax()] > 0
        np.testing.assert_allclose(component * np.sign(component @ expected), expected, atol=1e-4)
    found = reduction(torch.cat(samples()).T[None, :, :, None])[0, :, :, 0]
    assert found.mean(dim=1).abs().max() < 1e-4  # the mean is gone
    spread = found.var(dim=1)
    assert (spread[:-1] > spread[1:]).all()  # and nothing is whitened


def test_images_and_cells_are_evenly_spaced_from_the_first_to_the_last():
    assert evenly_spaced(3, 500).tolist() == [0, 1, 2]
    assert evenly_spaced(1001, 500)[[0, 1, -1]].tolist() == [0, 2, 1000]
    layer = torch.nn.Conv2d(3, 2, 8, stride=8)
    image = rnd(1, 3, 161, 240)
    found = cells_for_pca(layer, image, patch=8)
    assert found.shape == (200, 2)
    assert cells_for_pca(layer, image[:, :20, :20], patch=8).shape == (9, 2)


def test_a_pca_fits_its_own_backbone_and_weights_alone(tmp_path):
    path, reduction = tmp_path / "pca.pt", fit_pca(samples(), 4)
    save_pca(path, reduction, **ABOUT)
    sizes = {"channels": 6, "dim": 4, "flag": "--out_dir"}
    found = load_pca(path, **ABOUT, **sizes)
    assert torch.equal(found.components, reduction.components) and torch.equal(found.mean, reduction.mean)
    for change in ({"backbone": "resnet101"}, {"sha256": "1" * 64}, {"channels": 7}, {"dim": 5}):
        with pytest.raises(UserError, match=r"pca\.pt: expected the PCA of these features, found .*remove it"):
            load_pca(path, **{**ABOUT, **sizes, **change})
    torch.save([1], path)
    with pytest.raises(UserError, match=r"pca\.pt: expected the PCA"):
        load_pca(path, **ABOUT, **sizes)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"pca\.pt: cannot be read.*remove it and the features beside it") as error:
        load_pca(path, **ABOUT, **sizes)
    assert "download" not in str(error.value)


def test_a_picture_shows_regions_and_has_the_images_size():
    features = rnd(1, 5, 4, 6) * 0.01
    features[:, :, 3:] += rnd(2, 5, 1, 1)  # the right half is another region
    picture = picture_of(features.half(), (20, 31))
    assert picture.shape == (20, 31, 3) and picture.dtype == np.uint8
    left, right = picture[:, :14, 0].astype(int), picture[:, 17:, 0].astype(int)
    assert abs(left.mean() - right.mean()) > 200 and max(np.ptp(left), np.ptp(right)) < 30
    assert picture_of(rnd(1, 2, 3, 3), (9, 9)).shape == (9, 9, 3)
    assert picture_of(torch.zeros(4, 3, 3), (9, 9)).shape == (9, 9, 3)
