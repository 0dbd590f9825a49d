"""The PCM against the formula written with loops."""

import math

import torch

from network.pcm import normalised_cam, refine
from tests.golden_inputs import rnd, uni


def loop_normalised(cam):
    channels, height, width = cam.shape
    pixels = [(row, column) for row in range(height) for column in range(width)]
    result = torch.zeros(cam.shape)
    for c in range(channels):
        peak = max(max(float(cam[c, p, q]), 0) for p, q in pixels) + 1e-5
        for p, q in pixels:
            result[c, p, q] = max(max(float(cam[c, p, q]), 0) - 1e-5, 0) / peak
    for p, q in pixels:
        strongest = max(float(result[c, p, q]) for c in range(channels - 1))
        for c in range(channels - 1):
            if float(result[c, p, q]) < strongest:
                result[c, p, q] = 0
        result[channels - 1, p, q] = 1 - strongest
    return result


def loop_refined(cam, features):
    cam = loop_normalised(cam)
    pixels = [(row, column) for row in range(cam.shape[1]) for column in range(cam.shape[2])]
    unit = {}
    for p in pixels:
        vector = features[:, p[0], p[1]].tolist()
        norm = math.sqrt(sum(v * v for v in vector))
        unit[p] = [v / (norm + 1e-5) for v in vector]
    result = torch.zeros(cam.shape)
    for target in pixels:
        weight = {p: max(sum(a * b for a, b in zip(unit[p], unit[target], strict=True)), 0) for p in pixels}
        total = sum(weight.values()) + 1e-5
        for c in range(cam.shape[0]):
            result[c, target[0], target[1]] = sum(float(cam[c, p[0], p[1]]) * weight[p] / total for p in pixels)
    return result


def test_normalisation_equals_loops_on_activations_of_either_sign():
    cam = 2 * rnd(1, 2, 21, 3, 4)
    cam[0, 5] = -1  # a channel without activation
    cam[0, 6] = -1e-5  # one that the epsilon would lift to a maximum of 0
    cam[1, :, 1, 1] = 0  # a pixel without activation
    torch.testing.assert_close(normalised_cam(cam), torch.stack([loop_normalised(one) for one in cam]))


def test_normalisation_keeps_the_strongest_class_and_its_equals_and_drops_the_rest():
    cam = torch.zeros(1, 21, 1, 2)
    cam[0, [3, 4, 5], 0, 0] = torch.tensor([2.0, 2.0, 1.0])
    cam[0, [3, 4, 5], 0, 1] = torch.tensor([1.0, 1.0, 4.0])
    cam[0, 20] = 9
    result = normalised_cam(cam)[0, :, 0]
    assert torch.equal(result[3], result[4]) and result[3, 0] > 0.99 and result[3, 1] == 0
    assert result[5, 0] == 0 and result[5, 1] > 0.99
    assert (result[20] < 1e-4).all()


def test_refinement_equals_loops():
    cam, features = 2 * rnd(2, 2, 21, 3, 4), rnd(3, 2, 5, 3, 4)
    expected = torch.stack([loop_refined(*one) for one in zip(cam, features, strict=True)])
    torch.testing.assert_close(refine(cam, features), expected)


def test_gradient_reaches_the_features_and_not_the_cam():
    cam, features = rnd(4, 1, 21, 3, 3).requires_grad_(), rnd(5, 1, 4, 3, 3).requires_grad_()
    (refine(cam, features) * uni(6, 1, 21, 3, 3)).sum().backward()
    assert cam.grad is None
    assert features.grad.abs().max() > 0


def test_gradient_of_the_features_is_that_of_the_formula():
    cam, weight = rnd(7, 1, 21, 2, 3), uni(8, 1, 21, 2, 3).double()
    features = rnd(9, 1, 4, 2, 3).requires_grad_()
    (refine(cam, features) * weight).sum().backward()

    exact = features.detach().double().requires_grad_()
    unit = exact.flatten(2)[0] / (exact.flatten(2)[0].square().sum(dim=0).sqrt() + 1e-5)
    affinity = (unit.T @ unit).clamp(min=0)
    spread = loop_normalised(cam[0]).double().flatten(1) @ (affinity / (affinity.sum(dim=0) + 1e-5))
    (spread.reshape(weight.shape) * weight).sum().backward()
    torch.testing.assert_close(features.grad, exact.grad.float(), rtol=1e-3, atol=1e-6)


def test_runs_in_float32_under_autocast():
    cam, features = rnd(10, 1, 21, 4, 4), rnd(11, 1, 8, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        result = refine(cam, features)
    assert torch.equal(result, refine(cam, features))


def test_pixels_without_features_stay_finite():
    features = torch.zeros(1, 4, 2, 2, requires_grad=True)
    result = refine(rnd(12, 1, 21, 2, 2), features)
    result.sum().backward()
    assert (result == 0).all() and features.grad.isfinite().all()
