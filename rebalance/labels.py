"""The labels that DHR makes anew in every step, in the box of each image's real pixels (paper/method.md, DHR).

From the net's class activations come seeds, which bring back classes that the earlier method's mask lost (1). From the
mask with them, unsupervised features part the regions of unlike classes (2), the net's own those of like ones (3), and
a CRF makes labels of what is left (4). A function a step; the images of a batch, whose boxes differ, are lists.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rebalance.boxes import Box, in_box, nearest
from rebalance.cells import USS_PATCH, cell_labels, class_means, likeness, unit
from rebalance.crf import posteriors
from rebalance.crf_pool import named
from rebalance.recipe import LabelRecipe
from rebalance.transport import MIN_RANGE, balanced_each, to_unit_range
from tool.dataset import IGNORE, DataSet
from tool.device import numbers_on

# How CRFs are run: it calls a function with many images' pictures and maps, and gives its result of each image.
RunCRF = Callable[[Callable[..., list[Tensor]], Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


class Scene(NamedTuple):
    """What is known of an image before the net sees it.

    picture: uint8 (s, s, 3), as the CRF sees the crop. mask: int64 (s, s), the earlier method's labels or 255.
    box: of its real pixels. classes: that it is tagged with, ascending. features: float32 (D, h, w), of the box.
    name: for messages.
    """

    picture: Tensor
    mask: Tensor
    box: Box
    classes: list[int]
    features: Tensor
    name: str = "an image"


@torch.no_grad()
def make_labels(
    scenes: Sequence[Scene],
    cams: Tensor,
    c4: Tensor,
    c5: Tensor,
    *,
    data_set: DataSet,
    recipe: LabelRecipe,
    run_crf: RunCRF,
) -> Tensor:
    """The labels of a batch of N images of side s, int64 (N, s, s), 255 beside the boxes.

    cams: raw, float32 (N, K, h, w). c4, c5: of the net, (N, D, h', w'), in any precision.
    """
    if "labels" in recipe.without:
        return torch.stack([scene.mask for scene in scenes])
    pictures = [scene.picture[scene.box.part] for scene in scenes]
    masks = [scene.mask[scene.box.part] for scene in scenes]
    if "seed" not in recipe.without:
        refined = refined_cams(scenes, cams, recipe=recipe)
        with named([scene.name for scene in scenes]):
            seeds = run_crf(partial(seeds_of, kind=recipe.seed_crf), pictures, refined)
        masks = [with_seed(scene, seed, data_set) for scene, seed in zip(scenes, seeds, strict=True)]
    regions = regions_of(scenes, masks, num_labels=data_set.num_labels)
    heats = heatmaps(scenes, regions, (c4, c5), num_labels=data_set.num_labels, recipe=recipe)
    with named([scenes[region.number].name for region in regions]):
        found = run_crf(labels_of, [pictures[region.number] for region in regions], heats)
    for region, place in zip(regions, found, strict=True):
        masks[region.number] = numbers_on(region.tags, place.device)[place.long()]
    labels = torch.full_like(torch.stack([scene.mask for scene in scenes]), IGNORE)
    for place, scene, mask in zip(labels, scenes, masks, strict=True):
        place[scene.box.part] = mask.to(labels)
    return labels


# -- 1: seeds ----------------------------------------------------------------------------------------------------------


def refined_cams(scenes: Sequence[Scene], cams: Tensor, *, recipe: LabelRecipe) -> list[Tensor]:
    """Each image's CAMs in its box, of its classes, float32 (C, h, w) of 0..1; several are balanced by transport."""
    cams = cams.detach().relu()
    cams = cams / cams.amax((2, 3), keepdim=True).clamp(min=MIN_RANGE)
    cut = [
        in_box(maps[numbers_on(scene.classes, maps.device)], scene.box, len(scene.mask))
        for maps, scene in zip(cams, scenes, strict=True)
    ]
    if "transport" in recipe.without:
        return cut
    several = [maps for maps in cut if len(maps) > 1]
    found = iter(balanced_each(several, rule=recipe.ot_rule))
    return [maps * next(found) if len(maps) > 1 else maps for maps in cut]


def seeds_of(pictures: Sequence[Tensor], refined: Sequence[Tensor], *, kind: str, backend: str) -> list[Tensor]:
    """The strongest class of each pixel after a CRF, as its place among an image's C classes; C: none. uint8 (h, w).

    pictures: uint8 (h, w, 3). refined: of `refined_cams`. kind: of `SEED_CRFS`.
    """
    scores = [seed_scores(maps, picture.shape[:2], kind) for picture, maps in zip(pictures, refined, strict=True)]
    found = posteriors(pictures, scores, backend=backend)
    return [strongest(posterior[: len(maps)]) for posterior, maps in zip(found, refined, strict=True)]


def seed_scores(refined: Tensor, size: tuple[int, int], kind: str) -> Tensor:
    """What the CRF of seeds gets: the classes' maps at the box's pixels, and, behind them, what they leave."""
    maps = nearest(refined, size)
    return maps if kind == "released" else torch.cat([maps, 1 - maps.amax(0, keepdim=True)])


def strongest(posterior: Tensor) -> Tensor:
    """The strongest of posteriors (C, h, w), uint8 (h, w); C where less than the rest, the lowest of equal ones."""
    return torch.cat([posterior, 1 - posterior.amax(0, keepdim=True)]).argmax(0).to(torch.uint8)


def with_seed(scene: Scene, seed: Tensor, data_set: DataSet) -> Tensor:
    """The mask in the box, int64 (h, w), with the seed's label wherever there is one."""
    mask = scene.mask[scene.box.part]
    labels = numbers_on([*map(data_set.label_of, scene.classes), IGNORE], mask.device)[seed.long()]
    return torch.where(labels == IGNORE, mask, labels)


# -- 2: unsupervised features ------------------------------------------------------------------------------------------


class Region(NamedTuple):
    """An image's mask, with its seed, on the grid (h, w) of its unsupervised features.

    number: of the image. tags: the T labels that own a cell, ascending. vectors: theirs, of length 1, float32 (T, D).
    own_cells: the labels of the cells as they are cut for the net's features, int64 (h, w), `num_labels` for none.
    is_there: bool (T,), the tags that own one of these.
    """

    number: int
    tags: list[int]
    vectors: Tensor
    own_cells: Tensor
    is_there: Tensor


def regions_of(scenes: Sequence[Scene], masks: Sequence[Tensor], *, num_labels: int) -> list[Region]:
    """The regions of the images whose `masks`, int64 (h, w) in the box, label a cell at all."""
    cells, owners = [], []
    for scene, mask in zip(scenes, masks, strict=True):
        labels = torch.where(mask == IGNORE, num_labels, mask)
        grid = tuple(scene.features.shape[1:])
        ways = [
            cell_labels(labels, grid, multiples=multiples, num_labels=num_labels)
            for multiples in ((USS_PATCH, USS_PATCH), grid)
        ]
        cells.append(ways)
        owners.append(torch.stack([_owners(way, num_labels) for way in ways]))
    regions = []
    # The host has to know how many labels there are; it waits for the CRFs before and after this anyway.
    for number, (of_features, of_net) in enumerate(torch.stack(owners).tolist()):
        tags = [label for label, owns in enumerate(of_features) if owns]
        if tags:
            means = class_means(scenes[number].features, cells[number][0], num_labels=num_labels)
            is_there = numbers_on([of_net[tag] for tag in tags], means.device).bool()
            vectors = unit(means[numbers_on(tags, means.device)], 1)
            regions.append(Region(number, tags, vectors, cells[number][1], is_there))
    return regions


def _owners(cells: Tensor, num_labels: int) -> Tensor:
    """Which labels own one of `cells`, bool (num_labels,)."""
    owners = torch.zeros(num_labels + 1, dtype=torch.bool, device=cells.device)
    return owners.index_fill_(0, cells.flatten(), True)[:num_labels]


def correlation(vectors: Tensor) -> Tensor:
    """R: the cosines of vectors (T, D) of length 1, 0 where negative."""
    return (vectors @ vectors.T).relu()


# -- 3: the net's features ---------------------------------------------------------------------------------------------


def groups_of(regions: Sequence[Region], tau: float) -> list[list[list[int]]]:
    """Of each region the groups of labels, as places among its tags, that its unsupervised features do not part: a
    label and those after it whose correlation is above `tau`, of those that own a cell of the net's; two or more.

    **Q** Groups may overlap, and one lies within another where three are alike.
    """
    member = [
        (correlation(region.vectors) > tau).triu() & region.is_there & region.is_there[:, None] for region in regions
    ]
    flat = iter(torch.cat([rows.flatten() for rows in member]).tolist() if member else [])
    groups = []
    for region in regions:
        count = len(region.tags)
        rows = [[place for place in range(count) if next(flat)] for _ in range(count)]
        groups.append([row for row in rows if len(row) > 1])
    return groups


def likeness_of_net(region: Region, scene: Scene, maps: Sequence[Tensor], *, num_labels: int) -> Tensor:
    """W: how like each tag's vectors in the net's `maps`, (D, h', w') of the crop, each cell is; float32 (T, h, w)."""
    grid = region.own_cells.shape
    found = []
    for features in maps:
        cut = in_box(features.detach(), scene.box, len(scene.mask)).float()
        cut = F.interpolate(cut[None], grid, mode="bilinear", align_corners=True)[0]
        means = class_means(cut, region.own_cells, num_labels=num_labels)
        found.append(likeness(cut, means[numbers_on(region.tags, means.device)]))
    return to_unit_range(torch.stack(found).mean(0).flatten(1)).view(-1, *grid)


def heatmaps(
    scenes: Sequence[Scene],
    regions: Sequence[Region],
    maps: Sequence[Tensor],
    *,
    num_labels: int,
    recipe: LabelRecipe,
) -> list[Tensor]:
    """H of each region, float32 (T, h, w) of 0..1, its labels balanced: first within its groups, then all.

    maps: the net's C4 and C5, each (N, D, h', w'). Without unsupervised features H starts as W is, without transport
    what it would balance stays as it is.
    """

    def by_net(region: Region) -> Tensor:
        own = [values[region.number] for values in maps]
        return likeness_of_net(region, scenes[region.number], own, num_labels=num_labels)

    def balanced_maps(of_each: list[Tensor]) -> list[Tensor]:
        return of_each if "transport" in recipe.without else balanced_each(of_each, rule=recipe.ot_rule)

    if "uss" in recipe.without:
        heats = [by_net(region) for region in regions]
    else:
        heats = [likeness(scenes[region.number].features, region.vectors) for region in regions]
    groups = [[] for _ in regions] if "wss" in recipe.without else groups_of(regions, recipe.tau)
    problems = []
    for region, members in zip(regions, groups, strict=True):
        if members:
            like = by_net(region)
            problems += [like[numbers_on(group, like.device)] for group in members]
    shares = iter(balanced_maps(problems))
    for heat, members in zip(heats, groups, strict=True):
        for group in members:
            heat[numbers_on(group, heat.device)] *= next(shares)
    if "transport" not in recipe.without:
        heats = [heat * share for heat, share in zip(heats, balanced_maps(heats), strict=True)]
    return [to_unit_range(heat.flatten(1)).view_as(heat) for heat in heats]


# -- 4: labels ---------------------------------------------------------------------------------------------------------


def labels_of(pictures: Sequence[Tensor], heats: Sequence[Tensor], *, backend: str) -> list[Tensor]:
    """The strongest tag of each pixel after a CRF, as its place among an image's, uint8 (h, w).

    pictures: uint8 (h, w, 3). heats: of `heatmaps`.
    """
    scores = [
        F.interpolate(heat[None], picture.shape[:2], mode="bilinear", align_corners=True)[0]
        for picture, heat in zip(pictures, heats, strict=True)
    ]
    return [posterior.argmax(0).to(torch.uint8) for posterior in posteriors(pictures, scores, backend=backend)]
