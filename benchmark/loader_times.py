"""A loader of training images, timed."""

import time

from torch.utils.data import DataLoader

from data.training import EpochSampler, TrainingSet
from tool.reading import of_processes


def load(dataset: TrainingSet, *, batch_size: int, steps: int, num_workers: int) -> tuple[float, list[dict]]:
    """Images a second over so many steps, at least five of each process, and all batches. Left out are those that the
    processes make ahead while they start, which a run pays once."""
    steps, ahead = max(steps, 5 * num_workers), 3 * num_workers + 1
    sampler = EpochSampler(len(dataset.ids), batch_size, seed=0, start_step=0, num_steps=ahead + steps)
    batches = iter(DataLoader(dataset, batch_sampler=sampler, **of_processes(num_workers)))
    found = [next(batches) for _ in range(ahead)]
    start = time.perf_counter()
    found += batches
    return steps * batch_size / (time.perf_counter() - start), found
