"""DHR's labels as they are made together and, plainly, image after image, label after label."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.photographs import photographs
from benchmark.timing import seconds
from data.normalisation import IMAGENET
from rebalance.boxes import Box, in_box, nearest
from rebalance.crf import ITERATIONS, seen_by_crf
from rebalance.crf_pool import CRFPool
from rebalance.labels import RunCRF, Scene, make_labels
from rebalance.recipe import LabelRecipe
from tool.crf import crf_from_probability
from tool.dataset import IGNORE
from tool.seed_recipe import MASK_KERNELS
from voc12.classes import VOC12

RECIPE = LabelRecipe()
CHANNELS = {"features": 90, "c4": 1024, "c5": 2048}
PATCH = 14
LABELS_EQUAL = 0.995
TIMES = 2
# From a picture and scores to posteriors.
CRF = Callable[[Tensor, Tensor], Tensor]


def label_times(count: int, side: int, device: torch.device, *, backend: str, processes: int) -> None:
    """Print what the labels of `count` crops of `side` pixels take, each way; they must be equal."""
    scenes, maps = generated(count, side, device)
    crf = partial(plain_crf, backend="torch" if backend == "torch" else "pydensecrf")
    ours = partial(make_labels, scenes, *maps, data_set=VOC12, recipe=RECIPE)
    print(f"labels of {count} crops of {side} ({device.type}, CRFs by {backend}), ms an image, processor time on a CPU")
    plain, expected = seconds(lambda: plainly(scenes, *maps, crf=crf), device, TIMES)
    fast, labels = seconds(lambda: ours(run_crf=here(backend)), device, TIMES)
    check_equal(labels, expected)
    print(f"  one by one{1000 * plain / count:10.1f}    all at once{1000 * fast / count:10.1f}")
    plain, _ = seconds(lambda: plainly(scenes, *maps, crf=lambda _, scores: scores), device, TIMES)
    fast, _ = seconds(lambda: ours(run_crf=without_crf), device, TIMES)
    print(f"  all but the CRFs: one by one{1000 * plain / count:10.1f}    all at once{1000 * fast / count:10.1f}")
    if device.type == "cpu":
        start = time.perf_counter()
        ours(run_crf=here(backend))
        alone = time.perf_counter() - start
        with CRFPool(backend=backend, processes=processes) as pool:
            ours(run_crf=pool)  # processes import what they need at their first job
            start = time.perf_counter()
            labels = ours(run_crf=pool)
            beside = time.perf_counter() - start
        check_equal(labels, expected)
        print(
            f"  by the clock: here{1000 * alone / count:10.1f}    by {processes} processes{1000 * beside / count:10.1f}"
        )


def check_equal(labels: Tensor, expected: Tensor) -> None:
    equal = float((labels == expected).float().mean())
    assert equal >= LABELS_EQUAL, f"only {equal} of the labels are equal"
    print(f"  {100 * equal:.3f} % of the labels are equal")


def generated(count: int, side: int, device: torch.device) -> tuple[list[Scene], tuple[Tensor, Tensor, Tensor]]:
    """Scenes whose boxes and features have the sizes of training, and a net's CAMs, C4 and C5."""
    generator = torch.Generator().manual_seed(0)
    scenes = []
    for number, pixels in enumerate(photographs(count, (side, side))):
        longer = int(torch.randint(side * 5 // 8, side * 5 // 4 + 1, (), generator=generator))
        height, width = min(longer, side), min(longer * 3 // 4, side)
        if number % 2:
            height, width = width, height
        box = Box(0, side - height, width, side)
        classes = sorted({*torch.randint(0, 20, (1 + number % 3,), generator=generator).tolist()})
        kinds = torch.tensor([0, *(VOC12.label_of(c) for c in classes), IGNORE])
        blocks = kinds[torch.randint(0, len(kinds), (1, 1, 6, 6), generator=generator)].float()
        mask = torch.full((side, side), IGNORE)
        mask[box.part] = F.interpolate(blocks, (side, side))[0, 0].long()[box.part]
        grid = tuple(max(1, 2 * length * 375 // (PATCH * side)) for length in box.size)
        features = torch.randn(CHANNELS["features"], *grid, generator=generator)
        picture = torch.from_numpy(seen_by_crf(pixels, IMAGENET))
        scenes.append(Scene(picture.to(device), mask.to(device), box, classes, features.to(device)))
    cells = side // 8
    cams = torch.randn(count, 20, cells // 2, cells // 2, generator=generator)
    c4, c5 = (torch.randn(count, CHANNELS[name], cells, cells, generator=generator).relu() for name in ("c4", "c5"))
    return scenes, (cams.to(device), c4.to(device), c5.to(device))


def here(backend: str) -> RunCRF:
    return lambda work, pictures, maps: work(pictures, maps, backend=backend)


def without_crf(work: Callable[..., list[Tensor]], pictures: Sequence[Tensor], maps: Sequence[Tensor]) -> list[Tensor]:
    """Labels straight from the maps, of the sizes that the CRF's would have."""
    is_seed = "kind" in getattr(work, "keywords", {})
    found = []
    for picture, scores in zip(pictures, maps, strict=True):
        whole = nearest(scores, picture.shape[:2]) if is_seed else resized(scores, picture.shape[:2])
        if is_seed:
            whole = torch.cat([whole, 1 - whole.amax(0, keepdim=True)])
        found.append(whole.argmax(0).to(torch.uint8))
    return found


def plain_crf(picture: Tensor, scores: Tensor, *, backend: str) -> Tensor:
    return crf_from_probability(picture, scores, kernels=MASK_KERNELS, iterations=ITERATIONS, backend=backend)


# -- the plain way -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def plainly(scenes: Sequence[Scene], cams: Tensor, c4: Tensor, c5: Tensor, *, crf: CRF) -> Tensor:
    """The labels, int64 (N, s, s), of one image after the other."""
    labels = torch.stack([torch.full_like(scene.mask, IGNORE) for scene in scenes])
    for place, scene, *maps in zip(labels, scenes, cams, c4, c5, strict=True):
        place[scene.box.part] = plain_labels(scene, *maps, crf=crf)
    return labels


def plain_labels(scene: Scene, cams: Tensor, c4: Tensor, c5: Tensor, *, crf: CRF) -> Tensor:
    """The labels in the box of one image."""
    side, size, picture = len(scene.mask), scene.box.size, scene.picture[scene.box.part]
    maps = torch.stack([cams[c].relu() / max(float(cams[c].relu().max()), 1e-5) for c in scene.classes])
    maps = in_box(maps, scene.box, side)
    if len(maps) > 1:
        maps = maps * plain_transport(maps)
    maps = nearest(maps, size)
    posterior = crf(picture, torch.cat([maps, 1 - maps.amax(0, keepdim=True)]))[:-1]
    seed = torch.cat([posterior, 1 - posterior.amax(0, keepdim=True)]).argmax(0)
    mask = scene.mask[scene.box.part].clone()
    for place, index in enumerate(scene.classes):
        mask[seed == place] = VOC12.label_of(index)
    grid = tuple(scene.features.shape[1:])
    cells = plain_cells(mask, grid, (PATCH, PATCH))
    tags = [label for label in range(VOC12.num_labels) if (cells == label).any()]
    vectors = {label: F.normalize(scene.features[:, cells == label].mean(1), dim=0) for label in tags}
    heat = {label: plain_likeness(scene.features, vectors[label]) for label in tags}
    own_cells = plain_cells(mask, grid, grid)
    there = [label for label in tags if (own_cells == label).any()]
    likeness: dict[int, Tensor] = {}
    for label in there:
        group = [other for other in there if other >= label and float(vectors[label] @ vectors[other]) > RECIPE.tau]
        if len(group) > 1:
            likeness = likeness or {each: plain_own(scene, (c4, c5), own_cells == each) for each in there}
            for each, share in zip(group, plain_transport(torch.stack([likeness[g] for g in group])), strict=True):
                heat[each] = heat[each] * share
    if not tags:
        return mask
    whole = torch.stack([heat[label] for label in tags])
    whole = whole * plain_transport(whole)
    whole = torch.stack([plain_min_max(each) for each in whole])
    return torch.tensor(tags, device=mask.device)[crf(picture, resized(whole, size)).argmax(0)]


def plain_transport(maps: Tensor) -> Tensor:
    """OT(S) of maps (N, h, w), by Sinkhorn's rounds until they rest."""
    scores = maps.flatten(1).T
    kernel = torch.exp((scores - 1) / 0.1)
    of_cell, of_class = kernel.new_ones(len(kernel)), kernel.new_ones(kernel.shape[1])
    for _ in range(100):
        before = of_cell
        of_cell = 1 / len(kernel) / (kernel @ of_class)
        of_class = 1 / kernel.shape[1] / (kernel.T @ of_cell)
        if float((of_cell - before).abs().mean()) < 0.01:
            break
    plan = of_cell[:, None] * kernel * of_class
    return torch.stack([plain_min_max(column) for column in plan.T]).view(maps.shape)


def plain_min_max(values: Tensor) -> Tensor:
    return (values - values.min()) / (values.max() - values.min()).clamp(min=1e-5)


def plain_cells(mask: Tensor, grid: tuple[int, int], multiples: tuple[int, int]) -> Tensor:
    """The label of each cell, cell after cell."""
    raised = [-(-length // multiple) * multiple for length, multiple in zip(mask.shape, multiples, strict=True)]
    pixels = nearest(mask, tuple(raised)).cpu().numpy()
    tall, wide = (max(1, length // cells) for length, cells in zip(raised, grid, strict=True))
    found = np.zeros(grid, np.int64)
    for i in range(grid[0]):
        for j in range(grid[1]):
            top, left = int(i / grid[0] * raised[0]), int(j / grid[1] * raised[1])
            found[i, j] = np.bincount(pixels[top : top + tall, left : left + wide].ravel()).argmax()
    return torch.from_numpy(found).to(mask.device)


def plain_likeness(features: Tensor, vector: Tensor) -> Tensor:
    return plain_min_max((F.normalize(features, dim=0) * F.normalize(vector, dim=0)[:, None, None]).sum(0))


def plain_own(scene: Scene, maps: Sequence[Tensor], is_own: Tensor) -> Tensor:
    """A label's likeness in the net's maps, of the cells that are its own."""
    found = []
    for features in maps:
        cut = resized(in_box(features, scene.box, len(scene.mask)), is_own.shape)
        found.append(plain_likeness(cut, cut[:, is_own].mean(1)))
    return plain_min_max(torch.stack(found).mean(0))


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps[None], tuple(size), mode="bilinear", align_corners=True)[0]
