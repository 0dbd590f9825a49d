"""A net's boxes of a list of images, and what they are scored by."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.cub import BoxedImages, scaled_box
from data.normalisation import Normalisation
from localise.arguments import SIDE
from localise.boxes import box_of
from localise.samples import WholeImages
from localise.scores import Found, scores_of, summary
from network.localiser import LocaliserTransformer
from tool.device import autocast
from tool.distributed import rank, sum_over_processes, wait_for_all, world_size
from tool.progress import Bar
from tool.reading import RESUME, of_processes, outlive_signals, started


class Recipe(NamedTuple):
    """How images are tested.

    threshold: of a map, share of its maximum.
    at_least_half: of `scores_of`. batch_size: images at once. num_workers: loader processes.
    """

    threshold: float
    at_least_half: bool
    batch_size: int
    num_workers: int
    amp: str = "off"


class Result(NamedTuple):
    """Of N images: what was found; `best`, the best class, int (N); `true`, the true boxes of each, int (n, 4); and the
    scores of `scores_of`."""

    found: Found
    best: np.ndarray
    true: list[np.ndarray]
    scores: dict[str, np.ndarray]

    @property
    def summary(self) -> dict[str, float | int]:
        return summary(self.scores)


# What is known of an image after the net has seen it, a number each: a row of a table that the processes fill together.
COLUMNS = {"rank": 1, "best": 1, "true_box": 4, "best_box": 4, "size": 2}


@torch.inference_mode()
def evaluate(
    branch: LocaliserTransformer,
    loader: DataLoader,
    images: BoxedImages,
    recipe: Recipe,
    *,
    show: bool = True,
    then: str = RESUME,
) -> Result:
    """Test `branch`, in evaluation mode, on `images`, which a run's processes share among them; all get the result.

    loader: of `test_loader`. show: a progress bar. then: of `started`. Raises `UserError` for an image that cannot be
    read and for a loader process that dies.
    """
    device = next(branch.parameters()).device
    table = torch.zeros(len(images), sum(COLUMNS.values()), dtype=torch.float64)
    batches = Bar(started(loader, then), total=len(loader), desc="test", unit="batch", shown=show)
    for batch in batches:
        with autocast(device, recipe.amp):
            maps, attention = branch.maps(batch["image"].to(device, non_blocking=True))
        rank_of, best, both = two_classes(maps.float(), attention.float(), batch["label"].to(device))
        places = rank() + world_size() * batch["index"]
        table[places] = torch.stack(
            [
                torch.tensor([higher, first, *boxes_of(each, recipe), *size], dtype=torch.float64)
                for higher, first, each, size in zip(
                    rank_of.tolist(), best.tolist(), both.cpu().numpy(), batch["size"].tolist(), strict=True
                )
            ]
        )
    wait_for_all()
    return _result(sum_over_processes(table.to(device)).cpu().numpy(), images, recipe)


def boxes_of(maps: np.ndarray, recipe: Recipe) -> list[int]:
    """The boxes of maps (n, h, w), one after the other."""
    return [edge for each in maps for edge in box_of(each, threshold=recipe.threshold, side=SIDE)]


def two_classes(maps: Tensor, attention: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of maps (N, K, h, w), attention (N, h, w) and true classes (N): how many classes score higher than the true one,
    the best class, both int (N), and the localisation maps of the true and the best class, float32 (N, 2, h, w)."""
    logits = maps.mean(dim=(2, 3))
    best = logits.argmax(dim=1)
    higher = (logits > logits.gather(1, label[:, None])).sum(dim=1)
    chosen = torch.stack([label, best], dim=1)[..., None, None].expand(-1, -1, *maps.shape[2:])
    return higher, best, (maps.gather(1, chosen) * attention[:, None]).relu()


def test_loader(images: BoxedImages, recipe: Recipe, normalisation: Normalisation, *, pin_memory: bool) -> DataLoader:
    """This process's share of the images, in batches: every `world_size()`-th from the `rank()`-th on."""
    share = images.part(range(rank(), len(images), world_size()))
    return DataLoader(
        WholeImages(share, side=SIDE, normalisation=normalisation),
        recipe.batch_size,
        **of_processes(recipe.num_workers),
        worker_init_fn=outlive_signals,
        pin_memory=pin_memory,
    )


def _result(table: np.ndarray, images: BoxedImages, recipe: Recipe) -> Result:
    ends = np.cumsum(list(COLUMNS.values()))[:-1]
    rank_of, best, true_box, best_box, sizes = np.split(table.astype(np.int64), ends, axis=1)
    found = Found(rank_of[:, 0], true_box, best_box)
    true = [
        np.array([scaled_box(box, tuple(size), SIDE) for box in boxes])
        for boxes, size in zip(images.boxes, sizes.tolist(), strict=True)
    ]
    scores = scores_of(found, true, at_least_half=recipe.at_least_half)
    return Result(found, best[:, 0], true, scores)


def line_of(scores: dict[str, float | int]) -> str:
    """`Result.summary` as a line of a log."""
    shown = {"Top-1": "loc_top1", "Top-5": "loc_top5", "GT-known": "gt_known", "classes": "cls_top1"}
    return ", ".join(f"{name} {scores[key]:.1f} %" for name, key in shown.items())
