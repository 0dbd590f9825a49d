"""HSC's losses, their gradients and the banks they leave, against the naive formulas beside this file."""

from itertools import product

import numpy as np
import pytest
import torch

from method.hsc.config import ConsistencyConfig, ContrastConfig, HSCConfig
from method.hsc.contrast import class_contrast, pixel_contrast, region_contrast
from method.hsc.criterion import HSCCriterion
from method.hsc.pseudo import pseudo_labels
from method.terms.classification import classification_loss, min_pool_loss
from method.terms.consistency import consistency_losses
from method.terms.contrast import normalise_cam
from method.terms.saliency import saliency_guidance, saliency_loss
from tests.golden_inputs import rnd, uni
from tests.method.hsc import naive
from tests.needs import needs_pydensecrf

SETTINGS = [(1, (4, 5)), (2, (6, 4)), (3, (5, 4))]  # images, grid
SWITCHES = list(product((True, False), (True, False)))  # bank, cross
# Top-k small enough that on these grids it leaves pixels out.
SMALL = {"class_pixels": 13, "class_bank_pixels": 4, "pixel_share": 5}


def assert_equal(actual, expected, *, rtol=2e-4):
    """Equal but for float32's rounding."""
    expected = torch.as_tensor(expected).detach().double()
    actual = actual.detach().double()
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-5 * float(expected.abs().max()))


def assert_same_gradients(loss, expected_loss, inputs):
    actual = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    expected = torch.autograd.grad(expected_loss, inputs, allow_unused=True, materialize_grads=True)
    for one, other in zip(actual, expected, strict=True):
        assert_equal(one, other, rtol=2e-3)


def assert_same_contrast(actual, loss, moved, feat, *, bank):
    """Loss and gradient, and, where banks take part, the rows they have afterwards."""
    assert_equal(actual.loss, loss)
    assert_same_gradients(actual.loss, loss, [feat])
    if bank:
        assert_equal(actual.bank, moved)


def labels(seed, images):
    """Image n has n + 1 classes, the last image class 0 besides; images 1 and 2 share one."""
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed)).tolist()
    label = torch.zeros(images, 20)
    for n in range(images):
        label[n, order[n : 2 * n + 1]] = 1
    label[images - 1, 0] = 1
    return label


def contrast_inputs(seed, images, grid, *, ties=False):
    """(pixel or region features, normalised CAMs, psc's scores, pseudo labels, image labels), views stacked."""
    label = labels(seed, images)
    raw = rnd(seed + 1, 2, images, 21, *grid)
    if ties:
        # Whole pixels repeat, so that scores tie exactly whatever is computed from them.
        palette = rnd(seed + 1, 21, 4)
        raw = palette[:, torch.randint(4, (2, images, *grid), generator=torch.Generator().manual_seed(seed))]
        raw = raw.permute(1, 2, 0, 3, 4).contiguous()
    cam = torch.stack([naive.normalised_cam(view, clamp=False) for view in raw])
    score = torch.stack([naive.psc_score(view) for view in cam]).float()
    cam[:, :, 20] = 0.1
    present = torch.tensor([*naive.present_classes(label), 20])
    pseudo = present[torch.randint(len(present), (2, images, *grid), generator=torch.Generator().manual_seed(seed))]
    return rnd(seed + 2, 2, images, 6, *grid).requires_grad_(), cam.float(), score, pseudo, label


@pytest.mark.parametrize(("images", "grid"), [*SETTINGS, (3, (3, 5))])
def test_min_pool_is_the_mean_of_the_lowest_quarter_rounded_down(images, grid):
    cam_rv = (uni(images, images, 21, *grid) - 0.3).requires_grad_()
    label = labels(images, images)
    loss, expected = min_pool_loss(cam_rv, label), naive.min_pool(cam_rv, label)
    assert_equal(loss, expected)
    assert_same_gradients(loss, expected, [cam_rv])


@pytest.mark.parametrize("tau", [0.3, 0.6])
@pytest.mark.parametrize(("images", "grid"), SETTINGS)
def test_saliency_loss_and_predicted_map_with_classes_kept_and_rejected(images, grid, tau):
    cam = (8 * rnd(images, images, 21, *grid)).requires_grad_()
    target, label = uni(images + 1, images, 1, 19, 26), labels(images, images)
    loss, predicted = saliency_loss(cam, target, label, overlap=tau, foreground_share=0.4)
    expected, expected_map = naive.saliency(cam, target, label, tau=tau, alpha=0.4)
    assert_equal(loss, expected)
    expected_map = torch.stack([torch.stack([torch.stack(line) for line in plane]) for plane in expected_map])
    assert_equal(predicted[:, 0], expected_map)
    assert_same_gradients(loss, expected, [cam])


@pytest.mark.parametrize(
    ("images", "size1", "size2", "spared_channel"),
    [(1, (8, 8), (4, 4), 0), (2, (5, 4), (3, 6), 0), (3, (4, 3), (3, 4), 20), (2, (5, 4), (3, 6), None)],
)
def test_consistency_of_views_of_unequal_size(images, size1, size2, spared_channel):
    sizes = (size1, size2)
    cam = [(2 * rnd(10 + v, images, 21, *sizes[v]) + 0.5).requires_grad_() for v in range(2)]
    cam_rv = [uni(20 + v, images, 21, *sizes[v]).requires_grad_() for v in range(2)]
    label = labels(images, images)
    losses = consistency_losses(*cam, *cam_rv, label, hardest_share=0.2, spared_channel=spared_channel)
    expected = naive.consistency(cam, cam_rv, label, share=0.2, spared_channel=spared_channel)
    for loss, one in zip(losses, expected, strict=True):
        assert_equal(loss, one)
        assert_same_gradients(loss, one, cam + cam_rv)


def test_consistency_with_equal_scores():
    maps = [(torch.randint(-1, 4, (2, 21, 4, 4), generator=torch.Generator().manual_seed(v)) / 4) for v in range(4)]
    label = labels(5, 2)
    losses = consistency_losses(*maps, label, hardest_share=0.2, spared_channel=0)
    expected = naive.consistency(maps[:2], maps[2:], label, share=0.2, spared_channel=0)
    for loss, one in zip(losses, expected, strict=True):
        assert_equal(loss, one)


def maps_of_every_kind(seed):
    """(2, 21, 5, 4): signed channels, channels above 0 with small entries, and channels without activation."""
    maps = rnd(seed, 2, 21, 5, 4)
    maps[:, 3] = -maps[:, 3].abs()
    maps[:, 4] = maps[:, 4].abs() + 0.5
    maps[0, 4, 0, :2] = 0.5
    maps[:, 5] = 0
    return maps


@pytest.mark.parametrize("clamp", [False, True])
def test_cam_normalisation_of_signed_positive_and_dead_channels(clamp):
    maps = maps_of_every_kind(1)
    assert_equal(normalise_cam(maps, clamp=clamp), naive.normalised_cam(maps, clamp=clamp))


def crf(image, label):
    """The training CRF of the spec on a uint8 (H, W, 3) image and labels (H, W)."""
    from pydensecrf import densecrf
    from pydensecrf.utils import unary_from_labels

    field = densecrf.DenseCRF2D(label.shape[1], label.shape[0], 21)
    field.setUnaryEnergy(unary_from_labels(label, 21, gt_prob=0.7, zero_unsure=False))
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=50, srgb=5, rgbim=image, compat=10)
    return np.argmax(field.inference(10), axis=0).reshape(label.shape)


def refined_labels(cam, label, image):
    """Naive pseudo labels (2, N, h, w) of normalised CAMs (2, N, 21, h, w), and the share that the CRF changed."""
    before = torch.stack([naive.unrefined_labels(view, label) for view in cam])
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    after = torch.empty_like(before)
    for n, channels in enumerate(image.tolist()):
        planes = [naive.resize(channel, *cam.shape[-2:]) for channel in channels]
        levels = [255 * (torch.tensor(planes[k], dtype=torch.float64) * std[k] + mean[k]) for k in range(3)]
        pixels = torch.stack(levels, -1).clamp(0, 255).to(torch.uint8).numpy()
        for view in range(2):
            after[view, n] = torch.from_numpy(crf(pixels, before[view, n].numpy()))
    return after, (before != after).double().mean()


def patches(seed, images, height, width):
    """Noisy maps (2, N, 21, h, w) from 0, whose active regions are mostly larger than a pixel."""
    coarse = uni(seed, 2, images, 21, height // 4, width // 4).repeat_interleave(4, -2).repeat_interleave(4, -1)
    return (coarse + uni(seed + 1, 2, images, 21, height, width) - 1).relu()


@needs_pydensecrf
@pytest.mark.parametrize("quantised", [False, True])
def test_pseudo_labels_are_the_argmax_refined_by_a_crf_on_the_small_image(quantised):
    cam = torch.stack([naive.normalised_cam(view, clamp=False) for view in patches(3, 2, 12, 8)]).float()
    if quantised:
        cam = torch.round(2 * cam) / 2
    cam[:, :, 20] = 0.5 if quantised else 0.1
    image, label = 0.3 * rnd(4, 2, 3, 24, 30), labels(4, 2)
    expected, changed = refined_labels(cam, label, image)
    assert changed > 0.05
    assert (pseudo_labels(cam, label, image) == expected).double().mean() >= 0.995


@pytest.mark.parametrize(
    ("images", "grid", "ties", "bank", "cross"),
    [
        (2, (4, 5), False, True, True),
        (1, (5, 4), True, True, True),
        *((2, (4, 3), True, bank, cross) for bank, cross in SWITCHES[1:]),
        (3, (3, 4), True, True, True),
    ],
)
class TestContrastEqualsNaive:
    """On random maps, and on maps whose scores tie across the border of a top-k."""

    def test_region(self, images, grid, ties, bank, cross):
        feat, _, _, pseudo, _ = contrast_inputs(images, images, grid, ties=ties)
        rows = rnd(9, 2, 2, 6)
        actual = region_contrast(feat, pseudo, rows, background=20, bank=bank, cross=cross, config=ContrastConfig())
        loss, moved = naive.region_contrast(list(feat), list(pseudo), rows, use_bank=bank, cross=cross)
        assert_same_contrast(actual, loss, moved, feat, bank=bank)

    def test_class(self, images, grid, ties, bank, cross):
        feat, cam, _, _, label = contrast_inputs(images, images, grid, ties=ties)
        rows = rnd(9, 2, 21, 6)
        actual = class_contrast(feat, cam, label, rows, bank=bank, cross=cross, config=ContrastConfig(**SMALL))
        loss, moved = naive.class_contrast(
            feat, cam, label, rows, use_bank=bank, cross=cross, class_pixels=13, bank_pixels=4
        )
        assert_same_contrast(actual, loss, moved, feat, bank=bank)

    def test_pixel(self, images, grid, ties, bank, cross):
        feat, _, score, pseudo, label = contrast_inputs(images, images, grid, ties=ties)
        rows = rnd(9, 2, 21, 6)
        config = ContrastConfig(**SMALL)
        actual = pixel_contrast(feat, score, pseudo, label, rows, bank=bank, cross=cross, config=config)
        loss, moved = naive.pixel_contrast(feat, score, pseudo, label, rows, use_bank=bank, cross=cross, pixel_share=5)
        assert_same_contrast(actual, loss, moved, feat, bank=bank)


def test_region_contrast_of_images_without_background_or_without_foreground():
    feat, _, _, pseudo, _ = contrast_inputs(1, 3, (4, 5))
    pseudo[:, 0], pseudo[:, 1] = 20, 3
    rows = rnd(9, 2, 2, 6)
    actual = region_contrast(feat, pseudo, rows, background=20, bank=True, cross=True, config=ContrastConfig())
    loss, moved = naive.region_contrast(list(feat), list(pseudo), rows, use_bank=True, cross=True)
    assert_same_contrast(actual, loss, moved, feat, bank=True)


def test_class_contrast_meets_lower_classes_moved_and_higher_ones_not():
    """Six classes whose new rows are far from the old: moving a step early or late changes the loss."""
    feat, cam, _, _, label = contrast_inputs(6, 3, (5, 4))
    label[0, [1, 8, 19]] = 1
    rows = -rnd(9, 2, 21, 6)
    loss, moved = naive.class_contrast(
        feat, cam, label, rows, use_bank=True, cross=True, class_pixels=13, bank_pixels=4
    )
    arguments = {"bank": True, "cross": True, "config": ContrastConfig(**SMALL)}
    actual = class_contrast(feat, cam, label, rows, **arguments)
    assert_equal(actual.loss, loss)
    early = class_contrast(feat, cam, label, actual.bank, **arguments).loss
    assert abs(early - loss) > 0.01 * loss  # all rows moved before the first class is no small matter here
    absent = [c for c in naive.LABELS if c not in naive.present_classes(label)]
    assert torch.equal(actual.bank[:, absent], rows[:, absent])
    assert_equal(actual.bank, moved)


def banks(seed):
    return {"class": rnd(seed, 2, 21, 256), "region": rnd(seed + 1, 2, 2, 256), "pixel": rnd(seed + 2, 2, 21, 128)}


@needs_pydensecrf
def test_hsc_terms_from_refined_cams_with_crf_and_score_map():
    """The chain: resizing, normalisation, background 0.10, labels, and psc's own background channel."""
    grid, label = (8, 12), labels(7, 2)
    cam_rv = [patches(1, 2, 12, 16)[0], patches(1, 2, *grid)[1]]
    feat_pixel = [rnd(3, 2, 128, 12, 16).relu(), rnd(4, 2, 128, *grid).relu()]
    feat_region = [rnd(5, 2, 256, 12, 16), rnd(6, 2, 256, *grid)]
    image, rows = 0.3 * rnd(7, 2, 3, 64, 96), banks(20)
    criterion = HSCCriterion(HSCConfig(), num_classes=20)
    for name, values in rows.items():
        getattr(criterion.banks, f"{name}_bank").copy_(values)
    losses = criterion.contrast(cam_rv, feat_pixel, feat_region, image, label)

    def on_grid(maps):
        resized = [[naive.resize(plane, *grid) for plane in channels] for channels in maps.tolist()]
        return torch.tensor(resized, dtype=torch.float64)

    cam = [naive.normalised_cam(on_grid(view), clamp=False) for view in cam_rv]
    score = [naive.psc_score(view) for view in cam]
    for view in cam:
        view[:, 20] = 0.1
    pseudo = list(refined_labels(torch.stack(cam), label, image)[0])
    pixel, region = [on_grid(view) for view in feat_pixel], [on_grid(view) for view in feat_region]
    both = {"use_bank": True, "cross": True}
    expected = {
        "rsc": naive.region_contrast(region, pseudo, rows["region"], **both),
        "csc": naive.class_contrast(region, cam, label, rows["class"], **both),
        "psc": naive.pixel_contrast(pixel, score, pseudo, label, rows["pixel"], **both),
    }
    for (name, (loss, moved)), bank in zip(expected.items(), ("region", "class", "pixel"), strict=True):
        assert_equal(losses[name], loss, rtol=1e-3)
        assert_equal(getattr(criterion.banks, f"{bank}_bank"), moved, rtol=1e-3)


def test_classification_and_saliency_average_over_views():
    label, sizes = labels(3, 2), ((6, 7), (4, 4))
    cam = [4 * rnd(v, 2, 21, *sizes[v]) for v in range(2)]
    cam_rv = [uni(10 + v, 2, 21, *sizes[v]) for v in range(2)]
    logits, target = [rnd(20 + v, 2, 21) for v in range(2)], [uni(30 + v, 2, 1, 16, 20) for v in range(2)]
    cls = naive.mean([naive.multilabel_soft_margin(one[:, :20], label) for one in logits])
    quiet = naive.mean([naive.min_pool(m, label) for m in cam_rv])
    assert_equal(classification_loss(logits, label), cls)
    assert_equal(classification_loss(logits, label, cam_rv=cam_rv), cls + quiet)
    sal = [[naive.saliency(m[v], target[v], label, tau=0.5, alpha=0.5)[0] for v in range(2)] for m in (cam, cam_rv)]
    numbers = {"overlap": 0.5, "foreground_share": 0.5}
    assert_equal(saliency_guidance([cam], target, label, **numbers), naive.mean(sal[0]))
    assert_equal(saliency_guidance([cam, cam_rv], target, label, **numbers), naive.mean(sal[0]) + naive.mean(sal[1]))


class TestOddities:
    """Each line of the recipe marked Q that concerns a loss: the default is as released, the switch is the sane one."""

    @staticmethod
    def pin(compute, reference, *, released, sane):
        """`compute(config)` equals `reference(sane?)` for both values of the switch, and the two differ."""
        old, new = compute(ContrastConfig(**SMALL)), compute(ContrastConfig(**SMALL, **sane))
        assert ContrastConfig(**released) == ContrastConfig()
        for actual, (loss, moved) in ((old, reference(False)), (new, reference(True))):
            assert_equal(actual.loss, loss)
            assert_equal(actual.bank, moved)
        assert abs(old.loss - new.loss) > 1e-3 * abs(old.loss)

    def test_region_features_are_divided_by_their_norm_along_the_width(self):
        feat, _, _, pseudo, _ = contrast_inputs(1, 2, (4, 6))
        rows = rnd(9, 2, 2, 6)
        self.pin(
            lambda config: region_contrast(feat, pseudo, rows, background=20, bank=True, cross=True, config=config),
            lambda sane: naive.region_contrast(
                list(feat), list(pseudo), rows, use_bank=True, cross=True, norm_along_width=not sane
            ),
            released={"norm_along_width": True},
            sane={"norm_along_width": False},
        )

    def test_background_row_of_the_class_bank_is_a_random_negative(self):
        feat, cam, _, _, label = contrast_inputs(1, 2, (4, 6))
        rows = rnd(9, 2, 21, 6)
        self.pin(
            lambda config: class_contrast(feat, cam, label, rows, bank=True, cross=True, config=config),
            lambda sane: naive.class_contrast(
                feat, cam, label, rows, use_bank=True, cross=True,
                class_pixels=13, bank_pixels=4, random_background_row=not sane,
            ),
            released={"random_background_row": True},
            sane={"random_background_row": False},
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("switch", "released", "argument"),
        [("absent_prototypes", True, "absent_prototypes"), ("normalise_pixel_bank", False, "normalise_bank")],
    )
    def test_pixel_prototypes_of_absent_classes_and_the_raw_pixel_bank(self, switch, released, argument):
        feat, _, score, pseudo, label = contrast_inputs(1, 2, (4, 6))
        rows = rnd(9, 2, 21, 6)
        self.pin(
            lambda config: pixel_contrast(feat, score, pseudo, label, rows, bank=True, cross=True, config=config),
            lambda sane: naive.pixel_contrast(
                feat, score, pseudo, label, rows, use_bank=True, cross=True, pixel_share=5,
                **{argument: released != sane},
            ),
            released={switch: released},
            sane={switch: not released},
        )  # fmt: skip

    def test_normalised_cams_keep_the_negative_values_of_zeroed_entries(self):
        assert ContrastConfig().clamp_normalised_cam is False
        maps = maps_of_every_kind(2)
        released = normalise_cam(maps, clamp=False)
        assert (released[:, [3, 5]] == -1).all()
        assert released[0, 4, 0, :2].max() < 0
        assert torch.equal(normalise_cam(maps, clamp=True), released.clamp(min=0))

    @needs_pydensecrf
    @pytest.mark.parametrize("clamp", [False, True])
    def test_the_criterion_normalises_cams_as_its_switch_says(self, clamp):
        """psc tells them apart: its prototypes are weighted by the normalised scores."""
        label, grid, rows = labels(2, 2), (8, 8), banks(20)
        pixel, region, image = rnd(5, 2, 2, 128, *grid), rnd(6, 2, 2, 256, *grid), rnd(7, 2, 3, 64, 64)
        # One active pixel an image and channel: a class's four highest scores include zeroed entries.
        cam_rv = torch.full((2, 2, 21, *grid), 0.3).flatten(3)
        cam_rv.scatter_(3, torch.randint(64, (2, 2, 21, 1), generator=torch.Generator().manual_seed(1)), 0.7)
        cam_rv = cam_rv.unflatten(3, grid)
        criterion = HSCCriterion(HSCConfig(contrast=ContrastConfig(clamp_normalised_cam=clamp)), num_classes=20)
        criterion.banks.pixel_bank.copy_(rows["pixel"])
        losses = criterion.contrast(list(cam_rv), list(pixel), list(region), image, label)
        cam = torch.stack([naive.normalised_cam(view, clamp=clamp) for view in cam_rv])
        score = [naive.psc_score(view) for view in cam]
        cam[:, :, 20] = 0.1
        pseudo = list(refined_labels(cam, label, image)[0])
        loss, moved = naive.pixel_contrast(pixel, score, pseudo, label, rows["pixel"], use_bank=True, cross=True)
        assert_equal(losses["psc"], loss)
        assert_equal(criterion.banks.pixel_bank, moved)
        other = [naive.psc_score(naive.normalised_cam(view, clamp=not clamp)) for view in cam_rv]
        changed, _ = naive.pixel_contrast(pixel, other, pseudo, label, rows["pixel"], use_bank=True, cross=True)
        assert abs(changed - loss) > 0.01 * loss

    def test_aeroplane_is_left_out_of_the_maximum_in_ecr(self):
        assert ConsistencyConfig().spared_channel == 0
        label = torch.zeros(1, 20)
        label[0, 0] = 1
        maps = [uni(v, 1, 21, 4, 4) for v in range(4)]
        losses = {}
        for spared in (0, None):
            losses[spared] = consistency_losses(*maps, label, hardest_share=0.2, spared_channel=spared)[1]
            expected = naive.consistency(maps[:2], maps[2:], label, share=0.2, spared_channel=spared)[1]
            assert_equal(losses[spared], expected)
        assert abs(losses[0] - losses[None]) > 1e-3 * losses[0]
