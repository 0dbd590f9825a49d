"""The contrast of PPC against naive formulas: odd sizes, every switch and oddity, ties and lone pixels."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from method.learner import Moment
from method.oddities import mendable
from method.ppc.config import ABLATIONS, CONFIGS, SANE, ContrastConfig, PPCConfig, configure
from method.ppc.contrast import intra_contrast, prototype_contrast, pseudo_labels
from method.ppc.criterion import PPCCriterion
from method.terms.classification import classification_loss
from method.terms.maps import View, resize
from tests.golden_inputs import rnd, uni
from tests.method.ppc import naive

CONFIG = ContrastConfig(pixel_share=5)
USABLE = torch.ones(21, dtype=torch.bool)
# How each oddity and ablation is said to the two: ours, the naive twin's.
SWITCHES = {
    "released": ({}, {}),
    "without mining": ({"mining": False}, {"mining": False}),
    "without hard": ({"hard": False}, {"hard": False}),
    "own_rank": ({"rank_own": False}, {"rank_own": False}),
    "twice": ({"count_twice": False}, {"twice": False}),
    "lone": ({"count_lone": False}, {"lone": False}),
}


def scene(seed: int, images: int = 2, grid: tuple[int, int] = (5, 4)) -> tuple:
    """Features, normalised CAMs with a background score, image labels, pseudo labels, keys."""
    feat = rnd(seed, 2, images, 12, *grid).relu()
    cam = uni(seed + 1, 2, images, 21, *grid)
    cam[:, :, -1] = 0.2
    label = torch.zeros(images, 20)
    label[range(images), [3, 7][:images]] = label[0, 14] = 1
    pseudo = pseudo_labels(cam, label, background_first=True)
    pseudo[0, 0, 0, 0] = 5  # a label of one pixel
    key = uni(seed + 2, 2, images * grid[0] * grid[1])
    return feat, cam, label, pseudo, key


def drawn(labels: list[int], key: torch.Tensor) -> dict[int, list[int]]:
    """Each label's pixels, as numbers within it, by their keys."""
    members = {label: [p for p, own in enumerate(labels) if own == label] for label in set(labels)}
    return {label: sorted(range(len(own)), key=lambda i: float(key[own[i]])) for label, own in members.items()}


@pytest.mark.parametrize(("seed", "switch"), [(10, "released"), *((0, switch) for switch in SWITCHES)])
def test_the_three_terms_and_their_gradient_are_the_naive_formulas(seed, switch):
    ours, twins = SWITCHES[switch]
    feat, cam, label, pseudo, key = scene(seed)
    feat.requires_grad_()
    losses = prototype_contrast(feat, cam, pseudo, label, key, config=replace(CONFIG, **ours))
    rows = [naive.prototypes(feat[v], cam[v], 20 // 5) for v in range(2)]
    labels = [pseudo[v].flatten().tolist() for v in range(2)]
    expected = {
        "cross": [naive.contrast(feat[v], labels[v], rows[1 - v]) for v in range(2)],
        "cross2": [naive.contrast(feat[v], labels[1 - v], rows[v]) for v in range(2)],
        "intra": [naive.intra(feat[v], labels[v], rows[v], drawn(labels[v], key[v]), **twins) for v in range(2)],
    }
    for name, views in expected.items():
        torch.testing.assert_close(losses[name], 0.05 * sum(views), rtol=1e-4, atol=1e-6)
        (gradient,), (other,) = (
            torch.autograd.grad(loss, feat, retain_graph=True) for loss in (losses[name], 0.05 * sum(views))
        )
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name != "released"])
def test_every_switch_changes_intra(switch):
    feat, cam, label, pseudo, key = scene(0)
    released, other = (
        prototype_contrast(feat, cam, pseudo, label, key, config=replace(CONFIG, **options))["intra"]
        for options in ({}, SWITCHES[switch][0])
    )
    assert abs(released - other) > 1e-3 * released


def test_backgrounds_prototype_is_of_the_first_images_top_as_released_and_of_its_surest_pixels_where_asked():
    feat, cam, _, pseudo, key = scene(3)
    label = torch.ones(2, 20)
    top = feat[:, 0].flatten(2)[:, :, :4].mean(2)
    rest = 1 - cam[:, :, :-1].amax(2)
    for config, expected in ((CONFIG, top), (replace(CONFIG, background_by_rest=True), None)):
        losses = prototype_contrast(feat, cam, pseudo, label, key, config=config)["cross"]
        rows = [naive.prototypes(feat[v], cam[v], 4) for v in range(2)]
        for v in range(2):
            if expected is not None:
                torch.testing.assert_close(rows[v][20], naive.normalise(expected[v]))
            else:
                scores = cam[v].clone()
                scores[:, 20] = rest[v]
                rows[v] = naive.prototypes(feat[v], scores, 4)
        labels = [pseudo[v].flatten().tolist() for v in range(2)]
        other = sum(naive.contrast(feat[v], labels[v], rows[1 - v]) for v in range(2))
        torch.testing.assert_close(losses, 0.05 * other, rtol=1e-4, atol=1e-6)


def test_absent_classes_are_negatives_as_released_and_left_out_where_asked():
    feat, cam, label, pseudo, key = scene(4)
    pseudo = pseudo_labels(cam, label, background_first=True)
    rows = [naive.prototypes(feat[v], cam[v], 4) for v in range(2)]
    present = [*torch.nonzero(label.amax(0)).flatten().tolist(), 20]
    losses = prototype_contrast(feat, cam, pseudo, label, key, config=replace(CONFIG, absent_prototypes=False))
    of = {own: number for number, own in enumerate(present)}
    expected = sum(
        naive.contrast(feat[v], [of[own] for own in pseudo[v].flatten().tolist()], [rows[1 - v][c] for c in present])
        for v in range(2)
    )
    torch.testing.assert_close(losses["cross"], 0.05 * expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("background_first", [True, False])
def test_equal_scores_are_the_first_channel_of_the_released_order(background_first):
    cam = torch.zeros(1, 1, 21, 1, 3)
    cam[..., 4, 0, 0] = cam[..., 20, 0, 0] = 0.5
    cam[..., 4, 0, 1] = cam[..., 9, 0, 1] = 0.5
    cam[..., 9, 0, 2] = 0.5
    label = torch.zeros(1, 20)
    label[0, [4, 9]] = 1
    tie = 20 if background_first else 4
    assert pseudo_labels(cam, label, background_first=background_first).tolist() == [[[[tie, 4, 9]]]]


def test_a_label_of_one_pixel_costs_nothing_and_no_label_at_all_is_no_number():
    feat = torch.nn.functional.normalize(rnd(5, 3, 8), dim=1)
    rows = torch.nn.functional.normalize(rnd(6, 21, 8), dim=1)
    lone = intra_contrast(feat, torch.tensor([1, 2, 3]), rows, uni(7, 3), usable_L=USABLE, config=CONFIG)
    assert lone == 0
    both = [
        intra_contrast(feat, torch.tensor([1, 1, 3]), rows, uni(7, 3), usable_L=USABLE, config=config)
        for config in (CONFIG, replace(CONFIG, count_lone=False))
    ]
    torch.testing.assert_close(2 * both[0], both[1])


def test_the_draw_depends_on_seed_and_step_alone():
    criterion, pseudo = PPCCriterion(CONFIGS["ppc"]), torch.zeros(2, 3, 4, 4)
    torch.manual_seed(1)
    first = criterion.draw(pseudo, Moment(5, 0, seed=3))
    torch.manual_seed(2)
    assert torch.equal(criterion.draw(pseudo, Moment(5, 1, seed=3)), first)
    assert not torch.equal(criterion.draw(pseudo, Moment(6, 0, seed=3)), first)
    assert not torch.equal(criterion.draw(pseudo, Moment(5, 0, seed=4)), first)


# -- what a config trains ----------------------------------------------------------------------------------------------


def losses_of(config: PPCConfig) -> dict:
    """The terms of a config on maps of its own making, one class without any activation, one of one pixel."""
    label = torch.zeros(2, 20)
    label[0, [0, 3]] = label[1, [7, 15]] = 1
    grids = (8, config.second_view // 8)
    outputs = []
    for v, g in enumerate(grids):
        cam_rv = uni(5 + v, 2, 21, g, g)
        cam_rv[:, 11] = 0
        cam_rv[1, 15] *= 0.05
        cam_rv[1, 15, 1, 1] = 3
        feat = rnd(9 + v, 2, 6, g, g).relu()
        outputs.append(SimpleNamespace(cam=2 * rnd(v, 2, 21, g, g), cam_rv=cam_rv, feat_pixel=feat))
    views = [View(torch.zeros(2, 3, 8 * g, 8 * g), uni(12 + v, 2, 1, 8 * g, 8 * g)) for v, g in enumerate(grids)]
    return PPCCriterion(config)(outputs, views, label, Moment())


@pytest.mark.parametrize("method", CONFIGS)
def test_each_oddity_of_a_method_can_be_corrected_and_changes_its_terms_alone(method):
    config = configure(method, second_view=40)
    released = losses_of(config)
    assert list(released) == [name for name in released if name in config.terms]
    for name in mendable(config, SANE):
        mended = losses_of(configure(method, second_view=40, sane=[name]))
        changed = {term for term in released if not torch.equal(released[term], mended[term])}
        assert changed and changed <= SANE[name].terms, name


@pytest.mark.parametrize("method", ["ppc", "ppc_eps"])
@pytest.mark.parametrize("part", ABLATIONS)
def test_an_ablation_takes_its_part_away_and_leaves_the_others(method, part):
    released, other = (losses_of(configure(method, second_view=40, without=names)) for names in ([], [part]))
    if part in released:
        assert released.keys() - other.keys() == {part}
    changed = {name for name in other if not torch.equal(released[name], other[name])}
    assert changed == (set() if part in released else {"intra"})


def test_classification_is_of_maps_at_the_views_size():
    """The mean of an aligned resize is not the grid's."""
    label = torch.zeros(1, 20)
    label[0, 3] = 1
    cam, rv = [2 * rnd(v, 1, 21, 5, 5) for v in (0, 1)], [uni(v, 1, 21, 5, 5) for v in (2, 3)]
    outputs = [SimpleNamespace(cam=c, cam_rv=r) for c, r in zip(cam, rv, strict=True)]
    views = [View(torch.zeros(1, 3, side, side), None) for side in (40, 33)]

    def cls(*sane: str) -> torch.Tensor:
        return PPCCriterion(configure("seam", sane=sane))(outputs, views, label, Moment())["cls"]

    torch.testing.assert_close(
        cls("cls_grid"), classification_loss([each.mean((2, 3)) for each in cam], label, cam_rv=rv)
    )
    whole, whole_rv = ([resize(m, s) for m, s in zip(maps, ((40, 40), (33, 33)), strict=True)] for maps in (cam, rv))
    torch.testing.assert_close(cls(), classification_loss([m.mean((2, 3)) for m in whole], label, cam_rv=whole_rv))
    assert abs(cls() - cls("cls_grid")) > 1e-3
