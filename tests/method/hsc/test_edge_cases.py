"""Batches at the edge of what training meets: losses, gradients and banks stay finite."""

import pytest
import torch

from method.hsc.config import ConsistencyConfig, ContrastConfig, HSCConfig
from method.hsc.criterion import HSCCriterion
from method.terms.maps import View
from network.hsc import HSCOutput
from tests.golden_inputs import rnd, uni

SANE = ContrastConfig(
    norm_along_width=False,
    clamp_normalised_cam=True,
    random_background_row=False,
    absent_prototypes=False,
    normalise_pixel_bank=True,
)
CONFIGS = {
    "released": HSCConfig(),
    "sane": HSCConfig(contrast=SANE, consistency=ConsistencyConfig(spared_channel=None)),
    "clamped": HSCConfig(contrast=ContrastConfig(clamp_normalised_cam=True)),
    "without bank": HSCConfig(bank=False),
    "without cross": HSCConfig(cross=False),
}


class Batch:
    """Outputs, views and labels of an ordinary small batch, to be bent before a step."""

    def __init__(self, images=2, size1=(8, 8), size2=(4, 4)):
        sizes = (size1, size2)
        self.cam = [rnd(1 + v, images, 21, *sizes[v]) for v in range(2)]
        self.cam_rv = [uni(3 + v, images, 21, *sizes[v]) for v in range(2)]
        self.feat_pixel = [rnd(5 + v, images, 128, *sizes[v]).relu() for v in range(2)]
        self.feat_region = [rnd(7 + v, images, 256, *sizes[v]) for v in range(2)]
        self.image = [rnd(9 + v, images, 3, 8 * sizes[v][0], 8 * sizes[v][1]) for v in range(2)]
        self.saliency = [uni(11 + v, images, 1, *self.image[v].shape[-2:]) for v in range(2)]
        self.label = torch.zeros(images, 20)
        self.label[0, [3, 17]] = 1
        self.label[-1, 8] = 1

    def maps(self):
        return [*self.cam, *self.cam_rv, *self.feat_pixel, *self.feat_region]

    def outputs(self):
        return [
            HSCOutput(
                logits=self.cam[v].mean((2, 3)),
                cam=self.cam[v],
                cam_rv=self.cam_rv[v],
                feat_pixel=self.feat_pixel[v],
                feat_region=self.feat_region[v],
            )
            for v in range(2)
        ]


def assert_finite(criterion, losses, inputs):
    for name, loss in losses.items():
        assert torch.isfinite(loss), f"{name} is {loss}"
    gradients = torch.autograd.grad(sum(losses.values()), inputs, allow_unused=True, materialize_grads=True)
    for gradient in gradients:
        assert torch.isfinite(gradient).all()
    for name, rows in criterion.banks.named_buffers():
        assert torch.isfinite(rows).all(), f"{name} is not finite"


def step(batch, config):
    """Two steps, so that what the first leaves in the banks is used; every number must be finite."""
    for maps in batch.maps():
        maps.requires_grad_()
    views = [View(batch.image[v], batch.saliency[v]) for v in range(2)]
    criterion = HSCCriterion(config, num_classes=20)
    for _ in range(2):
        losses = criterion(batch.outputs(), views, batch.label)
        assert list(losses) == ["cls", "sal", "er", "ecr", "rsc", "csc", "psc"]
        assert_finite(criterion, losses, batch.maps())
    return losses


def one_image(batch):
    return Batch(images=1)


def one_class_in_the_batch(batch):
    batch.label = torch.zeros_like(batch.label)
    batch.label[:, 19] = 1
    return batch


def no_class_in_the_batch(batch):
    batch.label = torch.zeros_like(batch.label)
    return batch


def every_class_in_every_image(batch):
    batch.label = torch.ones_like(batch.label)
    return batch


def cams_all_zero(batch):
    batch.cam, batch.cam_rv = ([torch.zeros_like(view) for view in views] for views in (batch.cam, batch.cam_rv))
    return batch


def cams_all_equal(batch):
    batch.cam, batch.cam_rv = ([torch.ones_like(view) for view in views] for views in (batch.cam, batch.cam_rv))
    return batch


def present_class_without_activation(batch):
    for view in [*batch.cam, *batch.cam_rv]:
        view[:, 8] = 0
    return batch


def absent_classes_without_activation(batch):
    for view in [*batch.cam, *batch.cam_rv]:
        view[:, :20] *= batch.label[:, :, None, None]
    return batch


def huge_cams(batch):
    batch.cam = [1e4 * view for view in batch.cam]
    return batch


def nothing_salient(batch):
    batch.saliency = [torch.zeros_like(view) for view in batch.saliency]
    return batch


def everything_salient(batch):
    batch.saliency = [torch.ones_like(view) for view in batch.saliency]
    return batch


def constant_features(batch):
    batch.feat_pixel = [torch.ones_like(view) for view in batch.feat_pixel]
    batch.feat_region = [torch.full_like(view, -0.5) for view in batch.feat_region]
    return batch


def features_of_zero(batch):
    batch.feat_pixel = [torch.zeros_like(view) for view in batch.feat_pixel]
    batch.feat_region = [torch.zeros_like(view) for view in batch.feat_region]
    return batch


def three_by_three_grid(batch):
    """Nine pixels: fewer than the 16 and 128 of csc, and a sixteenth of them is none."""
    return Batch(images=1, size1=(4, 4), size2=(3, 3))


def two_pixels(batch):
    return Batch(images=1, size1=(3, 2), size2=(2, 1))


def one_pixel(batch):
    return Batch(images=1, size1=(2, 2), size2=(1, 1))


CASES = [
    one_image,
    one_class_in_the_batch,
    no_class_in_the_batch,
    every_class_in_every_image,
    cams_all_zero,
    cams_all_equal,
    present_class_without_activation,
    absent_classes_without_activation,
    huge_cams,
    nothing_salient,
    everything_salient,
    constant_features,
    features_of_zero,
    three_by_three_grid,
    two_pixels,
    one_pixel,
]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("bend", CASES, ids=lambda bend: bend.__name__)
def test_a_step_is_finite(bend, config):
    step(bend(Batch()), config)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("value", [20, 8], ids=["background", "foreground"])
def test_images_that_are_one_region_throughout(value, config):
    """Image 1's labels are one value in both views, then both images': a region without a pixel has no mean."""
    batch = Batch(size1=(4, 4))
    pixel, region = torch.stack(batch.feat_pixel), torch.stack(batch.feat_region)
    cam, pseudo = torch.stack(batch.cam_rv), torch.full((2, 2, 4, 4), 3)
    pseudo[:, 0, 1:3] = 20
    criterion = HSCCriterion(config, num_classes=20)
    for images in (slice(1, 2), slice(None)):
        pseudo[:, images] = value
        pixel, region = pixel.detach().requires_grad_(), region.detach().requires_grad_()
        losses = criterion.contrast_terms(pixel, region, cam, cam, pseudo, batch.label)
        assert_finite(criterion, losses, [pixel, region])


def test_classes_outside_the_batch_keep_their_class_rows_and_give_no_anchor():
    """Adding activation to an absent class changes no anchor and no row of it."""
    batch = Batch(size1=(4, 4))
    region, pixel = torch.stack(batch.feat_region), torch.stack(batch.feat_pixel)
    cam = torch.stack(batch.cam_rv)
    pseudo = torch.full((2, 2, 4, 4), 20)
    results = []
    for activation in (0.0, 0.9):
        cam[:, :, 12] = activation
        torch.manual_seed(0)
        criterion = HSCCriterion(HSCConfig(), num_classes=20)
        before = criterion.banks.class_bank.clone()
        loss = criterion.contrast_terms(pixel, region, cam, cam, pseudo, batch.label)["csc"]
        results.append(loss)
        present = batch.label.any(0).tolist()
        moved = (criterion.banks.class_bank != before).any(-1).all(0).tolist()
        assert moved == [*present, False]
    assert results[0] == results[1]
