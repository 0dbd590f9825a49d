"""What the trainings of AffinityNet and IRN share: their steps on the pairs of a grid's cells."""

import argparse
from collections.abc import Iterable, Mapping
from typing import Protocol

from torch import Tensor

from refine.pairs import PairsMet
from tool.pairs import Pairs
from tool.training import Training
from tool.training_run import StartedRun


class TrainingStep(Protocol):
    """One optimiser step on images, float32 (N, 3, H, W), and their label maps, int64 (N, h, w); the losses and the
    numbers of pairs, of `refine.pairs.pair_losses`."""

    def __call__(
        self, training: Training, image: Tensor, label: Tensor, pairs: Pairs, *, amp: str
    ) -> Mapping[str, Tensor]: ...


def take_steps(
    args: argparse.Namespace,
    started: StartedRun,
    loader: Iterable[dict],
    training_step: TrainingStep,
    pairs: Pairs,
    *,
    source: str,
) -> dict[str, float]:
    """Train on the batches of `loader`, and log which kinds of pairs none of them had; the last losses.

    args: with the flags of `tool.training_flags`. source: of the labels, in words.
    """
    device = next(started.training.objective.parameters()).device
    met = PairsMet(device)

    def take_step(batch: dict, step: int) -> Mapping[str, Tensor]:
        image, label = (batch[name].to(device, non_blocking=True) for name in ("image", "label"))
        losses = training_step(started.training, image, label, pairs, amp=args.amp)
        met.add(losses)
        return losses

    losses = started.train(take_step, loader, seed=args.seed, log_every=args.log_every, save_every=args.save_every)
    # Of a run that goes on, the first steps may have met what these have not.
    if started.log is not None and started.steps.start == 0:
        for note in met.notes(source):
            started.log.line(note)
    return losses
