"""The loop of every training run: steps seeded and counted, losses watched and logged, state saved."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from torch import Tensor
from torch.optim import Optimizer

from tool.cli import UserError
from tool.distributed import Agreement, rank, world_size
from tool.limits import reported_limits
from tool.log import LossHistory, RunLog, curve_name
from tool.progress import Bar
from tool.randomness import seed_step
from tool.reading import RESUME, none_left_behind, started
from tool.torchrun import started_by_torchrun


@contextmanager
def reported_end_of_others(then: str = RESUME) -> Iterator[None]:
    """Make of what the end of another of several processes raises in the block a `UserError`, which ends with `then`.

    On GPUs it is torchrun alone that hears of it.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() > 1 and re.search("Connection (closed|reset) by peer", str(error)):  # gloo's words
            raise UserError(f"another process of this run has ended, and says why{then}") from None
        raise


@contextmanager
def stopped_between_steps() -> Iterator[list[int]]:
    """The first SIGTERM or Ctrl-C is put into the list given, and takes effect at the block's end; a second at once.

    So does what the block itself puts there, the signal that another process was sent.
    """
    came: list[int] = []
    moment = 0.0  # when it came

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal moment
        if came:
            # torchrun passes on what its processes may have been sent as well.
            if not started_by_torchrun() or time.monotonic() > moment + 1:
                handlers[number](number, frame)
            return
        came.append(number)
        moment = time.monotonic()
        if rank() == 0:
            with suppress(OSError):  # not print: this may be amid one
                os.write(2, b"\nstopping after this step, to save it; once more stops at once\n")

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What ends the process at once, or is ignored (Ctrl-C by a job in the background), goes on to.
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def run_steps(
    take_step: Callable[[dict, int], Mapping[str, Tensor]],
    loader: Iterable[dict],
    *,
    optimizer: Optimizer,
    steps: range,
    seed: int,
    log: RunLog | None,
    log_every: int,
    save: Callable[[int], None],
    save_due: Callable[[int], bool],
) -> dict[str, float]:
    """Take `steps` (counted from 0 for a fresh run); nothing waits for the device but every `log_every`-th.

    Args:
        take_step: from a batch and the number of steps done before it to the step's losses, scalars on any device,
            one of them `total`, and whatever else is to be watched like them, named with a slash (`curve_name`).
        loader: yields the batches of exactly `steps`, each with its images' ids under `id`.
        optimizer: whose first group's rate is logged.
        log: None for a process that says nothing, beside the one that does.
        save: called with the number of steps done where `save_due` of it, at the end, and before SIGTERM or Ctrl-C
            takes effect, after the same step in all processes whichever of them it came to; never after a loss that is
            not finite.

    Returns:
        Mean losses since the last log line.

    Raises:
        UserError: a loss is not finite, names the term and the images; a loader process died; a limit of the
            machine is met.
    """
    history, means = LossHistory(), {}
    images_seen, since = 0, time.perf_counter()
    bar = Bar(
        total=steps.stop,
        initial=steps.start,
        desc="train",
        unit="step",
        shown=log is not None,
        dynamic_ncols=True,
    )
    agreement = Agreement()
    limits = reported_limits(
        "take a smaller batch or crop, or half the precision (--batch_size, --crop_size, --amp; TRAIN_BATCHES,"
        " DATA_RANDOMCROP, TRAIN_AMP in stage 3)"
    )
    with bar, limits, none_left_behind(), reported_end_of_others(), stopped_between_steps() as stops:
        for step, batch in zip(range(steps.start + 1, steps.stop + 1), started(loader), strict=True):
            agreed = agreement.begin(stops)
            seed_step(seed, step, rank())
            history.add(take_step(batch, step - 1), batch["id"])
            images_seen += len(batch["id"])
            bar.update()

            stop = agreed()
            save_now = save_due(step) or step == steps.stop or stop > 0
            if save_now or step % log_every == 0:
                means = history.drain()
                speed = world_size() * images_seen / (time.perf_counter() - since)
                images_seen, since = 0, time.perf_counter()
                bar.set_postfix(loss=f"{means['total']:.3f}", images_per_s=f"{speed:.1f}")
                if log is not None:
                    terms = " ".join(f"{name} {value:.4f}" for name, value in means.items())
                    log.line(f"step {step}/{steps.stop} {terms}", console=False)
                    log.scalars(step, {curve_name(name): value for name, value in means.items()})
                    log.scalars(step, {"lr": optimizer.param_groups[0]["lr"], "images_per_s": speed})
            if save_now:
                save(step)
                if stop:
                    stops.append(stop)  # last: from here on this process's first is a second
                    break
    return means
