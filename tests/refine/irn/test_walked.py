"""IRN's edges, walk, label maps and instances: golden numbers, and what the golden numbers do not have."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data.normalisation import IMAGENET
from network.irn import IRNet
from refine.irn.instances import clusters_of, instances_of, traced
from refine.irn.walked import WalkRecipe, edge_logits, framed, label_map, scores_of, walked
from tests.golden_inputs import assert_golden, crt_fill, rnd, uni
from tests.refine.irn.test_labelling import generated_cams
from tool.irn_cam import quarter


@pytest.fixture(scope="module")
def expected(golden):
    with np.load(golden / "crt" / "irn.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def net(crt_meta, golden_device):
    net = IRNet(displacement=True).eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.copy_(crt_fill(name, tuple(value.shape), crt_meta))
    return net.to(golden_device)


@pytest.mark.golden
def test_edges_of_an_image_and_its_mirror_are_the_golden_ones(expected, crt_meta, net, golden_device):
    height, width, frame = expected["edge_pair_size"].tolist()
    image = rnd(crt_meta["seed"] + 41, 1, 3, height, width)[0].to(golden_device)
    filled = net.mean_shift.running_mean.clone()
    net.mean_shift.running_mean.copy_(torch.tensor([0.25, -0.5]))
    logits, displacement = edge_logits(net, image, amp="off", frame=frame)
    net.mean_shift.running_mean.copy_(filled)
    assert_golden(logits.sigmoid()[None], expected["edge_pair"])
    assert_golden(displacement, expected["displacement_pair"])


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "recipe"), [("walk", WalkRecipe()), ("walk_beta8_exp5", WalkRecipe(beta=8, exp_times=5))]
)
def test_walked_cams_are_the_golden_ones(expected, crt_meta, golden_device, name, recipe):
    seed, size = crt_meta["seed"], expected["walk_size"].tolist()
    cams = F.interpolate(uni(seed + 56, 1, 3, 5, 6), size, mode="bilinear")[0] ** 3
    logits = 4 * F.interpolate(rnd(seed + 57, 1, 1, 9, 9), size, mode="bilinear")[0, 0] - 2
    found = walked(cams.to(golden_device), logits.to(golden_device), recipe)
    assert_golden(found, expected[name], rtol=0, atol=3e-4 * expected[name].max())


@pytest.mark.golden
def test_photographs_edges_walks_and_label_maps_are_the_golden_ones(golden, crt_meta, net, golden_device):
    with np.load(golden / "crt" / "labels.npz") as file:
        stages = dict(file)
    for image_id, image, classes, maps in generated_cams(golden, crt_meta):
        shape = image.size[::-1]
        logits, _ = edge_logits(net, IMAGENET(image, golden_device), amp="off")
        edges, rw = stages[f"edge_{image_id}"], stages[f"rw_{image_id}"]
        assert_golden(logits.sigmoid(), edges, rtol=0, atol=2e-3)
        cams = maps(quarter(shape), 4).to(golden_device)
        golden_logits = torch.from_numpy(edges).logit().to(golden_device)
        assert_golden(walked(cams, golden_logits, WalkRecipe()), rw, rtol=0, atol=5e-3 * rw.max())
        for scores in (torch.from_numpy(rw).to(golden_device), walked(cams, logits, WalkRecipe())):
            labels = label_map(scores_of(scores, shape), np.array(classes), 0.25)
            assert (labels == stages[f"sem_seg_{image_id}"]).mean() >= 0.995


@pytest.mark.golden
def test_centroids_and_clusters_are_the_golden_ones(expected, crt_meta, golden_device):
    height, width = expected["instance_centroids"].shape[1:]
    displacement = two_centres(height, width, crt_meta["seed"] + 58).to(golden_device)
    assert (traced(displacement).round().long().cpu().numpy() == expected["instance_centroids"]).mean() >= 0.99
    shape = expected["instance_clusters_shape"]
    masks = np.unpackbits(expected["instance_clusters"])[: shape.prod()].reshape(shape).astype(bool)
    assert (clusters_of(displacement).cpu().numpy() == masks).mean() >= 0.99


def two_centres(height, width, seed):
    """Displacements that lead from each cell most of the way to the nearer of two places, with noise."""
    places = torch.tensor([[0.3 * height, 0.25 * width], [0.7 * height, 0.7 * width]])
    cells = torch.stack(torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij"))
    ways = places[:, :, None, None] - cells
    nearer = ways.square().sum(1).argmin(0)
    way = torch.where(nearer == 0, ways[0], ways[1])
    return 0.4 * way + 0.3 * rnd(seed, 2, height, width)


def test_nothing_leads_out_of_the_grid_and_one_cell_is_a_grid():
    ends = traced(torch.full((2, 4, 6), 9.0))
    assert (ends[0] == 3).all() and (ends[1] == 5).all()
    assert (traced(torch.ones(2, 1, 1)) == 0).all()
    assert clusters_of(torch.full((2, 1, 3), 9.0)).shape == (1, 1, 3)  # no centre at all: one cluster


def test_two_objects_of_a_class_are_two_instances_with_the_largest_score_inside():
    """Without edges' help: displacements alone keep apart what the label map does not."""
    height, width = 24, 24
    displacement = torch.zeros(2, height, width)
    x = torch.arange(width).float()
    displacement[1] = torch.where(x < 12, 4 - x, 19 - x)
    cams = torch.zeros(2, height, width)
    cams[1, 8:16] = 1
    cams[1, :, 10:14] = 0
    logits = torch.full((height, width), -9.0)
    recipe = WalkRecipe(exp_times=0)
    found = instances_of(cams, np.array([3, 7]), logits, displacement, shape=(94, 95), recipe=recipe)
    assert len(found) == 2 and found.classes == [7, 7]
    left, right = (mask.any(axis=0) for mask in found.masks)
    assert left.argmax() < 8 and not left[52:].any() and right.argmax() > 40 and not (left & right).any()
    assert max(found.scores) == pytest.approx(1) and min(found.scores) > 0.9


def test_what_is_smaller_than_a_hundredth_of_the_image_scores_nothing():
    cams = torch.zeros(1, 25, 25)
    cams[0, 12, 12] = 1
    logits, displacement = torch.full((25, 25), 9.0), torch.zeros(2, 25, 25)
    recipe = WalkRecipe(beta=100, exp_times=0)
    found = instances_of(cams, np.array([0]), logits, displacement, shape=(100, 100), recipe=recipe)
    assert found.scores == [0.0] and 0 < found.masks[0].sum() < 100


@pytest.mark.parametrize(("size", "expected"), [((3, 512, 512), (512, 512)), ((3, 513, 100), (528, 512))])
def test_a_side_over_the_frame_is_padded_to_a_multiple_of_16(size, expected):
    image = torch.ones(size)
    assert framed(image).shape == (3, *expected)
    assert torch.equal(framed(image)[:, : size[1], : size[2]], image) and framed(image).sum() == image.sum()


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return IRNet("resnet18", displacement=True).eval()


@pytest.mark.parametrize("size", [(1, 1), (9, 530), (530, 40)])
def test_images_of_any_size_have_edges_at_a_quarter(small, size):
    image = Image.fromarray((255 * uni(0, *size, 3)).byte().numpy())
    logits, displacement = edge_logits(small, IMAGENET(image), amp="off", frame=64)
    assert logits.shape == quarter(size) and displacement.shape == (2, *quarter(size))
    cams = uni(1, 2, *quarter(size))
    labels = label_map(scores_of(walked(cams, logits, WalkRecipe()), size), np.array([4, 9]), 0.25)
    assert labels.shape == size and {*np.unique(labels).tolist()} <= {0, 5, 10}


def test_edges_of_the_mirrored_image_are_the_mirrored_edges(small):
    image = IMAGENET(Image.fromarray((255 * uni(0, 40, 52, 3)).byte().numpy()))
    found, mirrored = (edge_logits(small, each, amp="off", frame=64)[0] for each in (image, image.flip(-1)))
    torch.testing.assert_close(mirrored.flip(-1), found)


def test_scores_that_are_all_0_are_background():
    assert (label_map(scores_of(torch.zeros(2, 3, 4), (10, 15)), np.array([0, 5]), 0.25) == 0).all()


def test_one_maximum_divides_all_classes():
    scores = scores_of(torch.tensor([4.0, 1.0]).view(2, 1, 1).expand(2, 4, 4), (16, 16))
    torch.testing.assert_close(scores[:, 8, 8], torch.tensor([1.0, 0.25]))
