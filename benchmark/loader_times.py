"""A loader of training images, timed."""

import time

from torch.utils.data import DataLoader

from data.training import EpochSampler, TrainingSet


def load(dataset: TrainingSet, *, batch_size: int, steps: int, num_workers: int) -> tuple[float, list[dict]]:
    """Images a second, and the batches; the processes' start, which a run pays once, is left out."""
    sampler = EpochSampler(len(dataset.ids), batch_size, seed=0, start_step=0, num_steps=steps + 1)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=num_workers)
    batches = iter(loader)
    found = [next(batches)]
    start = time.perf_counter()
    found += batches
    return steps * batch_size / (time.perf_counter() - start), found
