"""Every term of SEAM, PPC and PPC on EPS, its gradients, pseudo labels and prototypes, against the golden numbers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from method.learner import FIRST
from method.ppc.config import CONFIGS, PPCConfig
from method.ppc.criterion import PPCCriterion
from method.terms.classification import min_pool_loss
from method.terms.contrast import contrast_cam, flatten_pixels, on_grid, pixel_prototypes
from method.terms.maps import View, resize
from method.terms.saliency import saliency_loss
from tests.golden_inputs import assert_golden, rnd, uni

pytestmark = pytest.mark.golden
PREFIX = {"seam": "seam", "ppc": "ppc", "ppc_eps": "eps"}
SIDES = {"seam": (192, 57), "ppc": (192, 128), "ppc_eps": (192, 128)}  # of the views, pixels
LABELS = ((3, 14), (7,), (0, 14))
CASES = ["", "b_"]
CONTRASTING = [name for name, config in CONFIGS.items() if "intra" in config.terms]


def even_first(pseudo: Tensor, moment: object = None) -> Tensor:
    """Keys for the draw of the golden numbers: of each label's pixels those with an even number, in their order."""
    flat = pseudo.flatten(1)
    is_label = flat[:, None] == torch.arange(flat.max() + 1, device=flat.device)[None, :, None]
    number = ((is_label.cumsum(2) - 1) * is_label).sum(1)
    return (number % 2).float()


class Golden:
    """The maps of a method as the golden numbers have them, background brought to the last channel, with gradients."""

    def __init__(self, method: str, seed: int, device: torch.device, case: str = "") -> None:
        self.config: PPCConfig = CONFIGS[method]
        self.shift = -1 if self.config.background_first else 0
        n, grid = 3, -(-SIDES[method][1] // 8)
        cam = [2 * rnd(seed + 2, n, 21, 24, 24), 2 * rnd(seed + 3, n, 21, grid, grid)]
        rv = [uni(seed + 4, n, 21, 24, 24), uni(seed + 5, n, 21, grid, grid)]
        weight = rnd(seed + 9, 21, 128)
        feat = []
        for number, maps in enumerate(rv):
            mixed = 2 * torch.einsum("nchw,cd->ndhw", maps - 0.5, weight)
            feat.append((rnd(seed + 6 + number, n, 128, *maps.shape[2:]) + mixed).relu())
        if case == "b_":
            k7, k5, k3 = (index + self.config.background_first for index in (7, 5, 3))
            for maps, row, column in zip(rv, (5, 3), (6, 9), strict=True):
                maps[1, k7] *= 0.05
                maps[1, k7, row, column] = 3
                maps[:, k5] = 0
                maps[0, k3] += 1
        self.label = torch.zeros(n, 20)
        for image, classes in enumerate(LABELS):
            self.label[image, list(classes)] = 1
        self.label = self.label.to(device)
        parts = {"cam": [each.roll(self.shift, 1) for each in cam], "rv": [each.roll(self.shift, 1) for each in rv]}
        parts["p"] = feat
        self.leaves = {
            f"{name}{view + 1}": maps.to(device).requires_grad_()
            for name, of_views in parts.items()
            for view, maps in enumerate(of_views)
        }
        saliency = ((uni(seed + 10, n, 1, 192, 192) > 0.5) * uni(seed + 11, n, 1, 192, 192)).to(device)
        self.views = [
            View(saliency.new_empty(n, 3, side, side), resize(saliency, (side, side))) for side in SIDES[method]
        ]
        self.criterion = PPCCriterion(self.config)
        self.criterion.draw = even_first

    def pair(self, name: str) -> list[Tensor]:
        return [self.leaves[f"{name}{view}"] for view in (1, 2)]

    def terms(self) -> dict[str, Tensor]:
        outputs = [
            SimpleNamespace(cam=cam, cam_rv=rv, feat_pixel=feat)
            for cam, rv, feat in zip(*(self.pair(name) for name in ("cam", "rv", "p")), strict=True)
        ]
        return self.criterion(outputs, self.views, self.label, FIRST)

    def released(self, name: str, gradient: Tensor) -> Tensor:
        """A gradient with its channels in the released order, cut as the golden ones are."""
        if name.startswith("p"):
            return gradient[:, ::32, ::2, ::2]
        return gradient.roll(-self.shift, 1)[:, ::4, ::3, ::3]


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "ppc" / "losses.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def seed(ppc_meta):
    return ppc_meta["seed"]


@pytest.mark.parametrize("method", CONFIGS)
def test_classification_and_consistency(method, expected, seed, golden_device):
    golden, prefix = Golden(method, seed, golden_device), PREFIX[method]
    losses = golden.terms()
    names = {"er": "er", "ecr": "ecr"} | ({"cls": "cls"} if prefix != "eps" else {})
    for name, key in names.items():
        assert_golden(losses[name].detach(), expected[f"{prefix}_{key}"], rtol=1e-4)
    if prefix == "eps":
        for view in (1, 2):
            lowest = min_pool_loss(golden.leaves[f"rv{view}"].detach(), golden.label)
            assert_golden(lowest, expected[f"eps_rvmin{view}"], rtol=1e-4)
    else:
        total = sum(losses.values()).detach()
        assert_golden(total, expected[f"{prefix}_total"], rtol=1e-4)


@pytest.mark.parametrize("overlap", [0.4, 0.5])
@pytest.mark.parametrize("maps", ["cam1", "cam2", "rv1", "rv2"])
def test_saliency(maps, overlap, expected, seed, golden_device):
    golden = Golden("ppc_eps", seed, golden_device)
    saliency = golden.views[int(maps[-1]) - 1].saliency
    with torch.no_grad():
        loss, _ = saliency_loss(golden.leaves[maps], saliency, golden.label, overlap=overlap, foreground_share=0.5)
    assert_golden(loss, expected[f"eps_sal{overlap}_{maps}"], rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", CONTRASTING)
def test_contrast(method, case, expected, seed, golden_device):
    golden, prefix = Golden(method, seed, golden_device, case), f"{PREFIX[method]}_{case}"
    losses = golden.terms()
    for name, key in {"cross": "cross_nce", "cross2": "cross_nce2", "intra": "intra_nce"}.items():
        assert_golden(losses[name].detach(), expected[f"{prefix}{key}"], rtol=1e-4)
    pseudo = golden.criterion.pseudo.cpu().numpy()
    for view in (1, 2):
        released = (pseudo[view - 1] - golden.shift) % 21
        np.testing.assert_array_equal(released, expected[f"{prefix}pseudo{view}"])
    for name, terms in {"cross": ("cross", "cross2"), "intra": ("intra",)}.items():
        gradients = torch.autograd.grad(
            sum(losses[term] for term in terms), list(golden.leaves.values()), retain_graph=True, allow_unused=True
        )
        for leaf, gradient in zip(golden.leaves, gradients, strict=True):
            if leaf.startswith("p"):
                scale = float(np.abs(expected[f"{prefix}{name}_grad_{leaf}"]).max())
                found = golden.released(leaf, gradient)
                assert_golden(found, expected[f"{prefix}{name}_grad_{leaf}"], rtol=0, atol=1e-4 * scale)
            else:
                assert gradient is None


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", CONTRASTING)
def test_prototypes(method, case, expected, seed, golden_device):
    golden, config = Golden(method, seed, golden_device, case), CONFIGS[method].contrast
    size = golden.leaves["rv2"].shape[-2:]
    with torch.no_grad():
        cam, feat = (on_grid(golden.pair(name), size) for name in ("rv", "p"))
        cam = contrast_cam(cam, clamp=False, background_score=config.background_score)
        score_VLP = flatten_pixels(cam).transpose(1, 2)
        rows = pixel_prototypes(flatten_pixels(feat), score_VLP, 256 // config.pixel_share)
    for view in (1, 2):
        released = rows[view - 1].roll(-golden.shift, 0)
        assert_golden(released[:, ::4], expected[f"{PREFIX[method]}_{case}prototype{view}"], rtol=1e-3, atol=1e-5)


# Which maps a term reaches; every gradient that is not here is zero.
REACHES = {"cls": ("cam1", "cam2", "rv1", "rv2"), "er": ("cam1", "cam2"), "ecr": ("rv1", "rv2")}


@pytest.mark.parametrize("method", CONFIGS)
def test_gradients_of_classification_and_consistency(method, expected, seed, golden_device):
    golden, prefix = Golden(method, seed, golden_device), PREFIX[method]
    losses = golden.terms()
    for term in REACHES if prefix != "eps" else ("er", "ecr"):
        gradients = torch.autograd.grad(
            losses[term], list(golden.leaves.values()), retain_graph=True, allow_unused=True
        )
        for leaf, gradient in zip(golden.leaves, gradients, strict=True):
            if leaf in REACHES[term]:
                values = expected[f"{prefix}_{term}_grad_{leaf}"]
                assert_golden(golden.released(leaf, gradient), values, rtol=0, atol=1e-4 * float(np.abs(values).max()))
            else:
                assert gradient is None or not gradient.any()
