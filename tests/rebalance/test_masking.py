"""DHR's posteriors over scales and mirrors, and masks of them: golden numbers, and by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from data import DATASETS
from data.descriptions import find_data_set
from data.images import load_rgb
from data.normalisation import IMAGENET
from network.deeplabv3plus import DeepLabV3Plus, build_deeplabv3plus
from network.fold import fold_norms
from rebalance.crf import seen_by_crf
from rebalance.layout import described
from rebalance.masking import mask_of, multi_scale_posteriors, with_released_palette
from tests.golden_inputs import assert_golden, fill, rnd, uni
from voc12.classes import VOC12

RELEASED_NAMES = {
    **{"voc12": "VOC2012", "coco14": "COCO2014", "context": "PascalContext", "ade": "ADE2016", "stuff": "COCO-Stuff"},
}
COUNTS = {"num_labels": VOC12.num_labels, "num_classes": VOC12.num_classes}


@pytest.fixture(scope="module")
def net(dhr_meta, golden_device) -> DeepLabV3Plus:
    made = build_deeplabv3plus("resnet50", **COUNTS).eval()
    with torch.no_grad():
        for key, value in made.state_dict().items():
            value.copy_(fill(key, tuple(value.shape), dhr_meta["salt"]))
    return made.to(golden_device)


@pytest.mark.golden
def test_posteriors_over_scales_and_mirrors_are_the_golden_ones(golden, dhr_meta, net, golden_device):
    expected = np.load(golden / "dhr" / "network.npz")["ms_mask"]
    image = rnd(dhr_meta["seed"] + 2, 3, 57, 83).to(golden_device)
    assert_golden(multi_scale_posteriors(net.segment, image)[::2, ::4, ::4], expected)


@pytest.mark.golden
def test_masks_of_photographs_are_the_golden_ones(golden, net, golden_device):
    expected = np.load(golden / "dhr" / "inference" / "masks.npz")
    was = net.seg_decoder.classifier.weight.detach().clone()
    classifier = torch.from_numpy(expected["classifier"]).float()[..., None, None]
    net.seg_decoder.classifier.weight.data.copy_(classifier)
    thresholds = {name.rpartition("_")[2] for name in expected if "_keys_" in name}
    assert len(thresholds) > 1
    for path in sorted((golden / "inference" / "images").iterdir())[:2]:
        posteriors = multi_scale_posteriors(net.segment, IMAGENET(load_rgb(path), golden_device))
        stored = min(thresholds, key=float)  # of most labels, whose posteriors the file holds
        np.testing.assert_allclose(
            posteriors[expected[f"{path.stem}_keys_{stored}"], ::4, ::4].cpu(),
            expected[f"{path.stem}_masks"],
            atol=3e-3,
        )
        for threshold in thresholds:
            options = {"threshold": float(threshold), "normalisation": IMAGENET, "backend": "torch"}
            labels = mask_of(np.asarray(load_rgb(path)), posteriors, **options)
            assert {*np.unique(labels).tolist()} <= {*expected[f"{path.stem}_keys_{threshold}"].tolist()}
            assert (labels == expected[f"{path.stem}_label_{threshold}"]).mean() >= 0.995
    net.seg_decoder.classifier.weight.data.copy_(was)


@pytest.mark.golden
def test_palettes_are_the_golden_ones_also_of_the_layout_s_description(golden, tmp_path):
    expected = np.load(golden / "dhr" / "palettes.npz")
    for name, released in RELEASED_NAMES.items():
        (tmp_path / f"{released}.json").write_text(described(DATASETS[name]))
        for data_set in (DATASETS[name], find_data_set(str(tmp_path / f"{released}.json"))):
            np.testing.assert_array_equal(with_released_palette(data_set).palette, expected[released])
    masks = np.load(golden / "dhr" / "inference" / "masks.npz")
    np.testing.assert_array_equal(with_released_palette(VOC12).palette, masks["palette"])


def plain_posteriors(segment, image, scales):
    """By the definition: a softmax at each scale, plain and mirrored, turned back, resized; their mean."""
    found, first = [], None
    for scale in scales:
        height, width = (int(side * scale) for side in image.shape[1:])
        scaled = F.interpolate(image[None], size=(height, width), mode="bilinear", align_corners=True)
        for mirrored in (False, True):
            scores = segment(scaled.flip(-1) if mirrored else scaled).softmax(dim=1)
            scores = scores.flip(-1) if mirrored else scores
            first = scores.shape[2:] if first is None else first
            found.append(F.interpolate(scores, size=first, mode="bilinear", align_corners=True))
    mean = torch.stack(found).mean(dim=0)
    return F.interpolate(mean, size=image.shape[1:], mode="bilinear", align_corners=True)[0]


@pytest.mark.parametrize("scales", [(1.0, 0.5, 1.5, 2.0), (0.75, 0.5)])
def test_posteriors_are_those_of_the_definition(scales):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 5, stride=4, padding=2)
    image = rnd(1, 3, 37, 50)
    with torch.no_grad():
        found, expected = multi_scale_posteriors(layer, image, scales), plain_posteriors(layer, image, scales)
    torch.testing.assert_close(found, expected)
    assert found.std() > 0.01


def test_an_image_of_one_pixel_has_posteriors():
    layer = nn.Conv2d(3, 4, 1)
    assert multi_scale_posteriors(layer, rnd(1, 3, 1, 1)).shape == (4, 1, 1)


def test_labels_below_the_threshold_take_no_part_and_with_none_above_it_the_largest_decides():
    pixels = (uni(1, 12, 10, 3) * 255).to(torch.uint8).numpy()
    posteriors = uni(2, 5, 12, 10) * torch.tensor([0.9, 0.3, 0.8, 0.05, 0.04])[:, None, None]
    posteriors[3, 0, 0] = 0.05  # the largest, and not above
    options = {"normalisation": IMAGENET, "backend": "torch"}
    labels = mask_of(pixels, posteriors, threshold=0.05, **options)
    assert {*np.unique(labels).tolist()} <= {0, 1, 2}
    alone = mask_of(pixels, posteriors, threshold=0.85, **options)
    assert (alone == 0).all()
    none = mask_of(pixels, posteriors, threshold=0.95, **options)
    np.testing.assert_array_equal(none, posteriors.argmax(dim=0))


def test_the_crf_sees_the_image_itself_where_no_normalisation_is_named():
    pixels = (uni(1, 12, 10, 3) * 255).to(torch.uint8).numpy()
    posteriors, options = uni(2, 5, 12, 10), {"threshold": 0.05, "backend": "torch"}
    seen = seen_by_crf(pixels, IMAGENET)
    assert (seen != pixels).mean() > 0.1
    plain = mask_of(seen, posteriors, normalisation=None, **options)
    np.testing.assert_array_equal(plain, mask_of(pixels, posteriors, normalisation=IMAGENET, **options))


def test_the_folded_net_gives_the_same_logits():
    torch.manual_seed(0)
    net = build_deeplabv3plus("mobilenet_v2", num_labels=6, num_classes=5).eval()
    image = rnd(1, 2, 3, 40, 33)
    with torch.no_grad():
        before = net.segment(image)
        after = fold_norms(net).segment(image)
    assert not [norm for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)]
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
