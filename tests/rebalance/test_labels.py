"""The labels of a step: every golden array on the way, and what happens where there is little to go by."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rebalance.boxes import Box
from rebalance.cells import likeness
from rebalance.crf import posteriors
from rebalance.labels import (
    Region,
    Scene,
    correlation,
    groups_of,
    heatmaps,
    likeness_of_net,
    make_labels,
    refined_cams,
    regions_of,
    seed_scores,
    strongest,
    with_seed,
)
from rebalance.recipe import PARTS, LabelRecipe
from rebalance.transport import balanced_each
from tests.golden_inputs import assert_golden, rnd
from tests.needs import needs_pydensecrf
from tests.rebalance.scenes import DATA_SETS, golden_maps, golden_pixels, golden_scenes
from tool.crf import resolve_backend

BACKENDS = [pytest.param("pydensecrf", marks=needs_pydensecrf), "torch"]
RECIPE = LabelRecipe()


def run_alone(backend):
    """How CRFs are run where nothing runs beside them."""
    return lambda work, pictures, maps: work(pictures, maps, backend=backend)


def agreement(found, expected):
    return float((np.asarray(found.cpu()) == expected).mean())


@pytest.fixture(scope="module", params=["labels", "labels_no_background"])
def case(request, golden, dhr_meta, golden_device):
    """A golden file with its data set, scenes and the net's maps."""
    with np.load(golden / "dhr" / f"{request.param}.npz") as file:
        expected = dict(file)
    data_set = DATA_SETS[request.param]
    seed = dhr_meta["seed"] + (1000 if data_set.background else 2000)
    pixels = golden_pixels(seed)
    if "image_0_corner" in expected:
        assert (pixels[0, :20, :20].numpy() == expected["image_0_corner"]).all()
    scenes = golden_scenes(expected, pixels, device=golden_device)
    return SimpleNamespace(
        expected=expected,
        data_set=data_set,
        scenes=scenes,
        maps=golden_maps(seed, data_set, golden_device),
        backend=resolve_backend("auto", golden_device),
    )


@pytest.fixture(scope="module")
def masks(case):
    """The masks with their seeds, on the way to which all is compared."""
    refined = refined_cams(case.scenes, case.maps[0], recipe=RECIPE)
    found = []
    for number, (scene, maps) in enumerate(zip(case.scenes, refined, strict=True)):
        assert_golden(maps, case.expected[f"refined_{number}"])
        picture = scene.picture[scene.box.part]
        for kind, name in (("background", "seed"), ("released", "released_seed")):
            scores = seed_scores(maps, picture.shape[:2], kind)
            (posterior,) = posteriors([picture], [scores], backend=case.backend)
            seed = strongest(posterior[: len(maps)])
            labels = torch.tensor([*map(case.data_set.label_of, scene.classes), 255])[seed.long().cpu()]
            assert agreement(labels, case.expected[f"{name}_{number}"]) >= 0.995, name
            if kind == "background":
                found.append(with_seed(scene, seed, case.data_set))
                if f"seed_posterior_{number}" in case.expected:
                    kept = case.expected[f"seed_posterior_{number}"].astype(np.float32)
                    assert_golden(posterior[:-1, ::6, ::6], kept, atol=2e-3)
        if f"mask_after_seed_{number}" in case.expected:
            assert agreement(found[-1], case.expected[f"mask_after_seed_{number}"]) >= 0.995
    return found


@pytest.mark.golden
def test_each_step_to_the_labels_is_the_golden_one(case, masks):
    expected, (_, _, *net) = case.expected, case.maps
    num_labels = case.data_set.num_labels
    regions = regions_of(case.scenes, masks, num_labels=num_labels)
    heats = heatmaps(case.scenes, regions, net, num_labels=num_labels, recipe=RECIPE)
    for number, (region, groups) in enumerate(zip(regions, groups_of(regions, RECIPE.tau), strict=True)):
        assert region.tags == expected[f"tags_{number}"].tolist()
        assert_golden(correlation(region.vectors), expected[f"correlation_{number}"], atol=2e-6)
        assert_golden(heats[number], expected[f"heat_dhr_{number}"])
        if f"v_us_{number}" in expected:
            assert_golden(region.vectors, expected[f"v_us_{number}"])
            heat = likeness(case.scenes[number].features, region.vectors)
            assert_golden(heat[:, ::2, ::2], expected[f"heat_us_{number}"])
            assert bool(groups) == (f"heat_ws_{number}" in expected)
            if groups:
                own = [maps[number] for maps in net]
                like = likeness_of_net(region, case.scenes[number], own, num_labels=num_labels)
                assert_golden(like[:, ::2, ::2], expected[f"heat_ws_{number}"])
                for group in groups:
                    heat[group] *= balanced_each([like[group]])[0]
            assert_golden(heat, expected[f"heat_grouped_{number}"])
        picture = case.scenes[number].picture[case.scenes[number].box.part]
        scores = torch.nn.functional.interpolate(
            heats[number][None], picture.shape[:2], mode="bilinear", align_corners=True
        )
        (posterior,) = posteriors([picture], [scores[0]], backend=case.backend)
        kept = expected[f"posterior_{number}"].astype(np.float32)
        assert_golden(posterior[:, ::6, ::6], kept, atol=4e-3)


@pytest.mark.golden
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_labels_of_a_batch_are_the_golden_ones(case, backend):
    cams, _, c4, c5 = case.maps
    options = {"data_set": case.data_set, "recipe": RECIPE, "run_crf": run_alone(backend)}
    labels = make_labels(case.scenes, cams, c4, c5, **options)
    for number, scene in enumerate(case.scenes):
        found, expected = labels[number][scene.box.part], case.expected["label"][number][scene.box.part]
        assert agreement(found, expected) >= 0.995
    assert agreement(labels == 255, case.expected["label"] == 255) == 1


# -- little to go by ---------------------------------------------------------------------------------------------------


BOX = Box(0, 4, 32, 28)


def scene_of(mask, *, box=BOX, classes=(3,), seed=0):
    """An image whose features are random on the box's cells; `mask` is what fills the box."""
    picture = (40 * rnd(seed, 8, 8, 3) + 120).clamp(0, 255).byte().repeat_interleave(4, 0).repeat_interleave(4, 1)
    whole = torch.full((32, 32), 255)
    whole[box.part] = mask
    return Scene(picture, whole, box, list(classes), rnd(seed + 1, 7, 6, 8))


def labels_from(scenes, cams, recipe=RECIPE):
    count = len(scenes)
    maps = rnd(5, count, 6, 4, 4), rnd(6, count, 9, 4, 4)
    return make_labels(scenes, cams, *maps, data_set=DATA_SETS["labels"], recipe=recipe, run_crf=run_alone("torch"))


def silent(count):
    """CAMs of a net that sees nothing."""
    return torch.full((count, 20, 2, 2), -1.0)


def test_a_mask_of_one_label_fills_the_box_and_what_is_beside_it_has_none():
    mask = torch.full((24, 32), 255)
    mask[:, :16] = 7
    (found,) = labels_from([scene_of(mask)], silent(1))
    assert (found[4:28] == 7).all() and (found[:4] == 255).all() and (found[28:] == 255).all()


def test_a_mask_without_any_labelled_cell_stays_as_it_is():
    mask = torch.full((24, 32), 255)
    mask[::5, ::4] = 9
    (found,) = labels_from([scene_of(mask)], silent(1))
    assert torch.equal(found[4:28], mask)


def test_seeds_bring_back_a_class_that_the_mask_lost():
    cams = silent(1)
    cams[0, 3, 0] = torch.tensor([1.0, -1.0])
    (found,) = labels_from([scene_of(torch.zeros(24, 32).long())], cams)
    assert {*found[4:28].unique().tolist()} == {0, 4}
    assert float((found[4:16, :16] == 4).float().mean()) > 0.5


def test_the_images_of_a_batch_have_the_labels_that_each_has_alone():
    generator = torch.Generator().manual_seed(2)
    masks = torch.tensor([0, 4, 11, 255])[torch.randint(0, 4, (3, 6, 8), generator=generator)]
    masks = masks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    scenes = [scene_of(masks[n], classes=classes, seed=n) for n, classes in enumerate(([3], [3, 10], [5]))]
    scenes[1] = scene_of(masks[1, :20, :31], classes=[3, 10], box=Box(1, 0, 32, 20))
    cams = rnd(1, 3, 20, 2, 2)
    maps = rnd(5, 3, 6, 4, 4), rnd(6, 3, 9, 4, 4)
    options = {"data_set": DATA_SETS["labels"], "recipe": RECIPE, "run_crf": run_alone("torch")}
    together = make_labels(scenes, cams, *maps, **options)
    for n in range(3):
        (alone,) = make_labels(scenes[n : n + 1], *(values[n : n + 1] for values in (cams, *maps)), **options)
        assert torch.equal(together[n], alone)


def test_each_part_can_be_left_out_and_changes_the_labels():
    mask = torch.tensor([0, 4, 7, 255])[torch.randint(0, 4, (6, 8), generator=torch.Generator().manual_seed(4))]
    scene = scene_of(mask.repeat_interleave(4, 0).repeat_interleave(4, 1), classes=[3, 6, 9])
    cams = 3 * rnd(1, 1, 20, 4, 4)
    recipe = LabelRecipe(tau=-1)  # all labels are alike, so that the net's features part them
    whole = labels_from([scene], cams, recipe)
    for part in PARTS:
        found = labels_from([scene], cams, recipe._replace(without=frozenset([part])))
        assert not torch.equal(found, whole), part
        assert (found == 10).any() == (part not in ("seed", "labels")), part  # of which no mask knows
    assert torch.equal(found[0], scene.mask)


def region_of(correlations, there):
    """A region whose class vectors have these correlations."""
    vectors = torch.linalg.cholesky(torch.tensor(correlations, dtype=torch.float64)).float()
    return Region(0, [0, 4, 7], vectors, torch.zeros(1, 1), torch.tensor(there))


ALL_ALIKE = [[1, 0.9, 0.9], [0.9, 1, 0.9], [0.9, 0.9, 1]]
MIDDLE = [[1, 0.9, 0.7], [0.9, 1, 0.9], [0.7, 0.9, 1]]


@pytest.mark.parametrize(
    ("correlations", "there", "expected"),
    [
        (ALL_ALIKE, (True, True, True), [[0, 1, 2], [1, 2]]),
        (MIDDLE, (True, True, True), [[0, 1], [1, 2]]),
        (ALL_ALIKE, (True, False, True), [[0, 2]]),
        (ALL_ALIKE, (False, True, True), [[1, 2]]),
        (MIDDLE, (True, False, True), []),
        ([[1, -0.9, 0], [-0.9, 1, 0], [0, 0, 1]], (True, True, True), []),
    ],
)
def test_groups_may_overlap_and_leave_out_labels_without_a_cell_of_the_net_s(correlations, there, expected):
    assert groups_of([region_of(correlations, there)], tau=0.8) == [expected]
