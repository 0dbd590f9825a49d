"""The tensor CRF's mean field: batches are their images alone, absent labels cost nothing, kept kernels are the right
ones."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import tool.crf
from tests.tool.test_crf import SEED_KERNELS, TEST_KERNELS, TRAINING_KERNELS, random_probability, smooth_image
from tool.crf import crf_from_labels, crf_from_probability
from tool.crf.mean_field import mean_field

module = sys.modules["tool.crf.mean_field"]  # in the package the function has its name


@pytest.fixture(autouse=True)
def no_kept_kernels():
    module._build_smoothness_kernel.cache_clear()
    yield
    module._build_smoothness_kernel.cache_clear()


def make_batch(count: int, labels: int, shape=(20, 30)) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and energies."""
    images = np.stack([smooth_image(shape, seed) for seed in range(count)])
    scores = np.stack([random_probability(labels, shape, seed) for seed in range(count)])
    return torch.from_numpy(images), torch.from_numpy(-np.log(scores.clip(1e-5, 1)))


def one_by_one(images: torch.Tensor, unary: torch.Tensor, **options) -> torch.Tensor:
    pairs = zip(images, unary, strict=True)
    return torch.cat([mean_field(image[None], energy[None], **options) for image, energy in pairs])


class Sums(TorchDispatchMode):
    """Collects the shape of each tensor that a lattice's step sums rows of."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "embedding_bag" in function._schema.name:
            self.shapes.append(tuple(args[0].shape))
        return function(*args, **(kwargs or {}))


# -- batches -----------------------------------------------------------------------------------------------------------


# 19 x 31 pixels are no multiple of four; one and nine labels have their softmax in different layouts.
@pytest.mark.parametrize("may_wait", [True, False])
@pytest.mark.parametrize("shape", [(20, 30), (19, 31)])
@pytest.mark.parametrize("labels", [3, 9])
@pytest.mark.parametrize("images_at_once", [1, 2, 5])
def test_a_batch_is_its_images_alone(labels, shape, images_at_once, may_wait, monkeypatch):
    images, unary = make_batch(5, labels, shape)
    options = {"kernels": TRAINING_KERNELS, "iterations": 5}
    expected = one_by_one(images, unary, **options)
    monkeypatch.setattr(module, "GROUP_BYTES", images_at_once * unary[0].nbytes)
    found = mean_field(images, unary, **options, may_wait=may_wait)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.1


def with_absent_labels() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Images, energies, copies, and the labels that each image has."""
    images, unary = make_batch(4, 9)
    there = [torch.tensor(labels) for labels in ([0, 4], [1, 2, 3, 5, 8], [7, 8], [6])]
    copies = torch.zeros(4, 9, dtype=torch.long)
    for row, labels in zip(copies, there, strict=True):
        row[labels] = torch.arange(1, len(labels) + 1)
    return images, unary.masked_fill((copies == 0)[:, :, None, None], torch.inf), copies, there


@pytest.mark.parametrize("may_wait", [True, False])
def test_labels_that_an_image_has_not_change_nothing(may_wait):
    images, unary, copies, there = with_absent_labels()
    options = {"kernels": TRAINING_KERNELS, "iterations": 5}
    found = mean_field(images, unary, copies=copies, may_wait=may_wait, **options)
    for image, energy, number, labels, posterior in zip(images, unary, copies, there, found, strict=True):
        # Each label as often as there are copies of it.
        each = labels.repeat_interleave(number[labels])
        (expected,) = mean_field(image[None], energy[each][None], **options)
        torch.testing.assert_close(posterior[each], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close((posterior * number[:, None, None]).sum(0), torch.ones(20, 30), rtol=0, atol=1e-5)
        assert not posterior[number == 0].any()


def test_labels_that_an_image_has_not_are_never_computed():
    images, unary, copies, _ = with_absent_labels()
    with Sums() as sums:
        mean_field(images, unary, copies=copies, kernels=TRAINING_KERNELS, iterations=2)
    pixels = 20 * 30
    # Of the two images of two labels: side by side, and one after the other; 1 is a kernel's own sum.
    assert {shape for shape in sums.shapes if shape[0] % pixels == 0} == {
        *((pixels * images, 1) for images in (1, 2)),
        *((pixels, 2 * 2), (2 * pixels, 2), (pixels, 5)),
    }
    assert {columns for _, columns in sums.shapes} == {1, 2, 4, 5}


def test_labels_of_hard_scores_that_an_image_has_not_are_computed_as_one():
    scores = torch.full((21, 20, 30), 0.3 / 20)
    scores[0, :10], scores[7, 10:] = 0.7, 0.7
    image = torch.from_numpy(smooth_image((20, 30)))
    with Sums() as sums:
        crf_from_probability(image, scores, kernels=SEED_KERNELS, iterations=2, backend="torch")
    assert {columns for _, columns in sums.shapes} == {1, 3}


def test_no_more_images_at_once_than_memory_is_meant_for(monkeypatch):
    images, unary = make_batch(5, 9)
    monkeypatch.setattr(module, "GROUP_BYTES", 2 * unary[0].nbytes)
    with Sums() as sums:
        mean_field(images, unary, kernels=TRAINING_KERNELS, iterations=1)
    points = [np.prod(shape) for shape in sums.shapes if shape[0] % 600 == 0]
    assert max(points) == 2 * unary[0].numel()


# -- kernels that are kept ---------------------------------------------------------------------------------------------


def test_a_kept_kernel_serves_its_own_size_and_width_only():
    works = [(shape, kernels) for shape in ((20, 30), (30, 20), (20, 29)) for kernels in (SEED_KERNELS, TEST_KERNELS)]

    def run(shape, kernels):
        return mean_field(*make_batch(1, 3, shape), kernels=kernels, iterations=3)

    fresh = []
    for work in works:
        module._build_smoothness_kernel.cache_clear()
        fresh.append(run(*work))
    for _ in range(2):
        for work, expected in zip(works, fresh, strict=True):
            assert torch.equal(run(*work), expected)
    assert module._build_smoothness_kernel.cache_info().hits >= len(works)


def test_a_kept_kernel_stays_on_its_device():
    images = torch.zeros(1, 20, 30, 3, dtype=torch.uint8)
    for device in ("cpu", "meta", "cpu"):
        kernel = module._smoothness_kernel(images.to(device), 3, False)
        assert kernel.read.weights.device.type == device


def test_large_images_kernels_are_not_kept(monkeypatch):
    monkeypatch.setattr(module, "KEPT_PIXELS", 20 * 30)
    for shape, kept in (((20, 30), 1), ((20, 31), 1)):
        mean_field(*make_batch(1, 3, shape), kernels=SEED_KERNELS, iterations=1)
        assert module._build_smoothness_kernel.cache_info().currsize == kept


def test_a_kernel_made_in_inference_mode_serves_outside():
    images, unary = make_batch(1, 3)
    with torch.inference_mode():
        expected = mean_field(images, unary, kernels=SEED_KERNELS, iterations=3)
    assert torch.equal(mean_field(images, unary, kernels=SEED_KERNELS, iterations=3), expected)
    values = torch.rand(600, 3, requires_grad=True)
    module._smoothness_kernel(images, SEED_KERNELS.gaussian_sxy, True)(values).sum().backward()
    assert values.grad.abs().min() > 0
    assert module._build_smoothness_kernel.cache_info().misses == 1


def test_threads_share_kept_kernels():
    """More sizes than are kept, so that kernels come and go while others use them."""
    shapes = [(20, width) for width in range(20, 32)]
    work = [(shape, repeat) for repeat in range(3) for shape in shapes]

    def run(item):
        return mean_field(*make_batch(1, 3, item[0]), kernels=SEED_KERNELS, iterations=3)

    expected = {shape: run((shape, 0)) for shape in shapes}
    with ThreadPoolExecutor(8) as pool:
        for (shape, _), found in zip(work, pool.map(run, work), strict=True):
            assert torch.equal(found, expected[shape])


# -- types and devices -------------------------------------------------------------------------------------------------


def test_double_precision_comes_in_and_changes_nothing():
    (image,), (energy,) = make_batch(1, 3)
    options = {"kernels": SEED_KERNELS, "iterations": 3, "backend": "torch"}
    expected = crf_from_probability(image, (-energy).exp(), **options)
    assert torch.equal(crf_from_probability(image, (-energy).exp().double(), **options), expected)
    module._build_smoothness_kernel.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(crf_from_probability(image, (-energy).exp(), **options), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "count, size, recorded, waits",
    [(24, 16, True, False), (24, 56, True, False), (2, 512, True, True), (16, 512, True, True), (1, 16, False, True)],
)
def test_on_a_gpu_large_images_are_waited_for_and_what_is_not_recorded(count, size, recorded, waits, monkeypatch):
    """Several threads with images of one shape would share what is recorded. Shown without a GPU: on tensors that have
    no values to wait for."""
    monkeypatch.setattr(tool.crf, "_replay", lambda refinement, *_: refinement.refined)  # as it would be recorded
    try:
        with FakeTensorMode():
            torch.empty(3, device="cuda") + torch.empty(3).to("cuda")
    except RuntimeError:
        pytest.skip("this torch pretends no GPU")  # 2.6 does not, 2.11 does
    asked = False
    with FakeTensorMode():
        images = torch.empty(count, size, size, 3, dtype=torch.uint8, device="cuda")
        labels = torch.empty(count, size, size, dtype=torch.long, device="cuda")
        try:
            options = {"kernels": TRAINING_KERNELS, "iterations": 2, "backend": "torch", "recorded": recorded}
            crf_from_labels(images, labels, num_labels=21, gt_prob=0.7, **options)
        except (DataDependentOutputException, DynamicOutputShapeException):
            asked = True
    assert asked == waits
