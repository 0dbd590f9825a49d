"""The paper's ablation and the baselines: which parts of the objective are left, and that divisors stay."""

from dataclasses import replace

import pytest
import torch

from method.hsc.config import CONFIGS, HSCConfig
from method.hsc.criterion import HSCCriterion
from method.terms.maps import View
from network.cls import ClsOutput
from network.hsc import HSCOutput
from tests.golden_inputs import rnd, uni
from tests.method.hsc import naive

GRID = (4, 5)
BUFFERS = {"rsc": "region_bank", "csc": "class_bank", "psc": "pixel_bank"}


def image_labels():
    label = torch.zeros(2, 20)
    label[0, [2, 11]] = label[1, [0, 11, 14]] = 1
    return label


def contrast_arguments(seed=1):
    """What `contrast_terms` takes: features, CAMs, psc's scores, pseudo labels, image labels."""
    cam = torch.stack([naive.normalised_cam(view, clamp=False) for view in rnd(seed, 2, 2, 21, *GRID)])
    score = torch.stack([naive.psc_score(view) for view in cam]).float()
    cam[:, :, 20] = 0.1
    known = torch.tensor([0, 2, 11, 14, 20])
    pseudo = known[torch.randint(5, (2, 2, *GRID), generator=torch.Generator().manual_seed(seed))]
    pixel, region = rnd(seed + 1, 2, 2, 128, *GRID), rnd(seed + 2, 2, 2, 256, *GRID)
    return pixel, region, cam.float(), score, pseudo, image_labels()


def criterion_with_banks(config, seed=5):
    criterion = HSCCriterion(config, num_classes=20)
    for offset, name in enumerate(BUFFERS.values()):
        rows = getattr(criterion.banks, name)
        rows.copy_(rnd(seed + offset, *rows.shape))
    return criterion


def contrast_terms(config, seed=5):
    return criterion_with_banks(config, seed).contrast_terms(*contrast_arguments())


def naive_terms(*, bank, cross):
    """The three terms of the same inputs; the top-k of 128 and 16 are the released ones."""
    pixel, region, cam, score, pseudo, label = contrast_arguments()
    start = criterion_with_banks(HSCConfig()).banks
    switches = {"use_bank": bank, "cross": cross}
    return {
        "rsc": naive.region_contrast(list(region), list(pseudo), start.region_bank, **switches)[0],
        "csc": naive.class_contrast(list(region), list(cam), label, start.class_bank, **switches)[0],
        "psc": naive.pixel_contrast(list(pixel), list(score), list(pseudo), label, start.pixel_bank, **switches)[0],
    }


@pytest.mark.parametrize(("bank", "cross"), [(True, True), (False, True), (True, False), (False, False)])
def test_terms_left_by_the_ablation_keep_their_divisors(bank, cross):
    losses = contrast_terms(HSCConfig(bank=bank, cross=cross))
    expected = naive_terms(bank=bank, cross=cross)
    assert list(losses) == list(expected)
    for name, loss in losses.items():
        torch.testing.assert_close(loss.double(), expected[name], rtol=1e-4, atol=0)


@pytest.mark.parametrize("term", ["rsc", "csc", "psc"])
def test_no_term_depends_on_the_banks_without_them(term):
    with_bank = [contrast_terms(HSCConfig(), seed)[term] for seed in (5, 15)]
    without = [contrast_terms(HSCConfig(bank=False), seed)[term] for seed in (5, 15)]
    assert with_bank[0] != with_bank[1]
    assert without[0] == without[1]


@pytest.mark.parametrize("term", ["rsc", "csc", "psc"])
def test_a_view_learns_from_nothing_of_the_other_without_cross_supervision(term):
    """Another view 2 changes the gradient of view 1 with cross supervision, and nothing of it without."""

    def gradient(cross, seed):
        arguments = list(contrast_arguments())
        for index, other in enumerate(contrast_arguments(seed)[:5]):
            arguments[index] = torch.stack([arguments[index][0], other[1]])
        position = 0 if term == "psc" else 1
        features = arguments[position].requires_grad_()
        loss = criterion_with_banks(HSCConfig(cross=cross)).contrast_terms(*arguments)[term]
        return torch.autograd.grad(loss, features)[0][0]

    assert not torch.allclose(gradient(True, 1), gradient(True, 31), rtol=1e-3)
    torch.testing.assert_close(gradient(False, 1), gradient(False, 31))


def outputs_of_two_views():
    sizes = ((8, 10), GRID)
    outputs = [
        HSCOutput(
            logits=rnd(40 + v, 2, 21),
            cam=4 * rnd(50 + v, 2, 21, *sizes[v]),
            cam_rv=uni(60 + v, 2, 21, *sizes[v]),
            feat_pixel=rnd(70 + v, 2, 128, *sizes[v]).relu(),
            feat_region=rnd(80 + v, 2, 256, *sizes[v]),
        )
        for v in range(2)
    ]
    views = [View(rnd(90 + v, 2, 3, 8 * sizes[v][0], 8 * sizes[v][1]), uni(95 + v, 2, 1, 32, 40)) for v in range(2)]
    return outputs, views


def without_hsc(outputs, *, keep):
    """The outputs with everything but `keep` made useless, to show that the rest is not read."""
    blank = {name: torch.full_like(getattr(outputs, name), torch.nan) for name in outputs._fields if name not in keep}
    return outputs._replace(**blank)


def assert_terms(losses, expected):
    assert list(losses) == list(expected)
    for name, loss in losses.items():
        assert loss.shape == () and loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), expected[name], rtol=1e-4, atol=0)


def test_eps_seam_is_cls_sal_er_and_ecr():
    outputs, views = outputs_of_two_views()
    label = image_labels()
    outputs = [without_hsc(one, keep=("logits", "cam", "cam_rv")) for one in outputs]
    cam, cam_rv = [one.cam for one in outputs], [one.cam_rv for one in outputs]
    er, ecr = naive.consistency(cam, cam_rv, label, share=0.2, spared_channel=0)
    cls = [
        naive.multilabel_soft_margin(one.logits[:, :20], label) + naive.min_pool(one.cam_rv, label) for one in outputs
    ]
    sal = [
        naive.saliency(maps[v], views[v].saliency, label, tau=0.5, alpha=0.5)[0]
        for v in range(2)
        for maps in (cam, cam_rv)
    ]
    losses = HSCCriterion(CONFIGS["eps_seam"], num_classes=20)(outputs, views, label)
    assert_terms(losses, {"cls": sum(cls) / 2, "sal": sum(sal) / 2, "er": er, "ecr": ecr})


def test_eps_is_cls_and_sal_of_one_view_without_refined_maps():
    outputs, views = outputs_of_two_views()
    label = image_labels()
    output = without_hsc(outputs[0], keep=("logits", "cam"))
    losses = HSCCriterion(CONFIGS["eps"], num_classes=20)([output], views[:1], label)
    sal, _ = naive.saliency(output.cam, views[0].saliency, label, tau=0.5, alpha=0.5)
    assert_terms(losses, {"cls": naive.multilabel_soft_margin(output.logits[:, :20], label), "sal": sal})


def test_cls_is_the_classification_loss_alone_and_needs_no_saliency():
    label, logits = image_labels(), rnd(1, 2, 20)
    output = ClsOutput(logits=logits, cam=torch.full((2, 20, *GRID), torch.nan))
    losses = HSCCriterion(CONFIGS["cls"], num_classes=20)([output], [View(rnd(2, 2, 3, 32, 40), None)], label)
    assert_terms(losses, {"cls": naive.multilabel_soft_margin(logits, label)})


@pytest.mark.parametrize("term", ["rsc", "csc", "psc"])
def test_leaving_one_term_out_leaves_the_others_as_they_are(term):
    outputs, views = outputs_of_two_views()
    full = HSCConfig()
    losses, fewer = (
        criterion_with_banks(config)(outputs, views, image_labels())
        for config in (full, replace(full, terms=full.terms - {term}))
    )
    del losses[term]
    assert fewer == losses
    assert list(losses) == [name for name in ("cls", "sal", "er", "ecr", "rsc", "csc", "psc") if name != term]
