"""The training loop seeds each step, logs and saves where it is due, and stops at a loss that is no number."""

import io
import json
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tool.test_distributed import end_what_hangs, needs_alarm, run_processes
from tool.cli import UserError
from tool.distributed import join_processes, leave_processes, rank
from tool.log import RunLog
from tool.loop import run_steps
from tool.randomness import mixed_seed, seed_step

NEVER = 100  # more than the steps of any run here


class Run:
    """A run whose step k, from 1, has the loss `losses[k - 1]` and leaves the rate at 1 / k; keeps what was done."""

    def __init__(self, losses: list[float]):
        self.losses = losses
        self.taken: list[int] = []
        self.batches: list[int] = []
        self.drawn: dict[int, float] = {}
        self.saved: list[int] = []
        self.optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)

    def take_step(self, batch: dict, step: int) -> dict[str, torch.Tensor]:
        self.taken.append(step)
        self.batches.append(batch["number"])
        self.drawn[step] = torch.rand(()).item()
        self.optimizer.param_groups[0]["lr"] = 1 / (step + 1)
        loss = torch.tensor(self.losses[step], requires_grad=True)
        return {"sal": loss / 4, "total": loss}

    def go(
        self,
        steps: range,
        *,
        save_every: int = NEVER,
        log_every: int = NEVER,
        num_batches: int | None = None,
        folder: Path | None = None,
        **changes,
    ) -> dict[str, float]:
        num_batches = len(steps) if num_batches is None else num_batches
        numbers = range(steps.start, steps.start + num_batches)
        log = None if folder is None else RunLog(folder, first_step=steps.start)
        arguments = {
            "optimizer": self.optimizer,
            "steps": steps,
            "seed": 5,
            "log": log,
            "log_every": log_every,
            "save": self.saved.append,
            "save_due": lambda step: step % save_every == 0,
        }
        batches = ({"number": number, "id": [f"{number}a", f"{number}b"]} for number in numbers)
        try:
            return run_steps(self.take_step, **({"loader": batches} | arguments | changes))
        finally:
            if log is not None:
                log.close()


def curve(folder: Path, name: str) -> dict[int, float]:
    """{step: value} of a scalar, as TensorBoard shows it."""
    return {event.step: event.value for event in EventAccumulator(str(folder)).Reload().Scalars(name)}


# -- steps and batches -------------------------------------------------------------------------------------------------


def test_steps_get_their_batches_and_the_number_of_steps_done_before():
    run = Run([1.0] * 9)
    run.go(range(4, 9))
    assert run.taken == run.batches == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("num_batches", [0, 3, 6])
def test_a_loader_that_has_fewer_or_more_batches_than_there_are_steps_is_an_error(num_batches):
    run = Run([1.0] * 5)
    with pytest.raises(ValueError, match=r"zip\(\)"):
        run.go(range(5), num_batches=num_batches)
    assert run.taken == list(range(min(num_batches, 5)))


# -- seeds -------------------------------------------------------------------------------------------------------------


def test_each_step_draws_what_its_number_and_the_seed_say_also_after_a_resumption():
    whole, rest, other = (Run([1.0] * 6) for _ in range(3))
    whole.go(range(6))
    torch.manual_seed(999)
    rest.go(range(3, 6))
    other.go(range(6), seed=6)
    assert rest.drawn == {step: whole.drawn[step] for step in (3, 4, 5)}
    assert len({*whole.drawn.values(), *other.drawn.values()}) == 12


def test_what_is_drawn_while_saving_does_not_change_the_steps():
    quiet, noisy = Run([1.0] * 4), Run([1.0] * 4)
    quiet.go(range(4))
    noisy.go(range(4), save_every=1, save=torch.rand)
    assert noisy.drawn == quiet.drawn


def test_processes_draw_differently_at_the_same_step():
    drawn = []
    for numbers in [(5, 1), (5, 1, 0), (5, 1, 1), (5, 2, 1)]:
        seed_step(*numbers)
        drawn.append(torch.rand(()).item())
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_mixed_seeds_of_neighbours_differ_and_are_numbers_that_generators_take():
    numbers = [(seed, epoch, index) for seed in (0, 1, 2**32 - 1) for epoch in range(5) for index in range(50)]
    seeds = {mixed_seed(*triple) for triple in numbers}
    assert len(seeds) == len(numbers)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert mixed_seed(1, 2, 3) == mixed_seed(1, 2, 3) != mixed_seed(3, 2, 1)


# -- saving ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "save_every", "expected"),
    [
        (range(7), 3, [3, 6, 7]),
        (range(6), 3, [3, 6]),
        (range(2, 7), 3, [3, 6, 7]),
        (range(3, 7), 3, [6, 7]),
        (range(7), NEVER, [7]),
    ],
)
def test_state_is_saved_where_it_is_due_and_once_at_the_end(steps, save_every, expected):
    run = Run([1.0] * 7)
    run.go(steps, save_every=save_every, log_every=2)
    assert run.saved == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("wrong_step", "intervals", "saved"),
    [
        (3, {"save_every": 1}, [1, 2]),  # found before its own save
        (3, {"save_every": 4}, []),  # found by the save after it
        (3, {"save_every": 2, "log_every": NEVER}, [2]),
        (3, {"log_every": 5}, []),  # found by the log line after it
        (7, {"save_every": 6}, [6]),  # found at the end
    ],
)
def test_nothing_is_saved_after_a_loss_that_is_no_number_and_its_images_are_named(value, wrong_step, intervals, saved):
    losses = [1.0] * 7
    losses[wrong_step - 1] = value
    run = Run(losses)
    batch = wrong_step - 1
    with pytest.raises(UserError, match=rf"the loss sal is .* on the images {batch}a, {batch}b: .*") as raised:
        run.go(range(7), **intervals)
    assert run.saved == saved
    assert "--" not in str(raised.value) and "saliency" not in str(raised.value)  # one stage's words


@pytest.mark.parametrize(("number", "ended"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("steps", [[2], [4], [2, 2]])
def test_a_signal_ends_the_run_once_its_step_is_saved_and_a_second_at_once(number, ended, steps):
    def end(*_):
        raise ended

    before = {other: signal.signal(other, end) for other in (signal.SIGINT, signal.SIGTERM)}
    run = Run([1.0] * 5)

    def step_and_be_told(batch, step):
        losses = run.take_step(batch, step)
        for _ in range(steps.count(step)):
            signal.raise_signal(number)
        return losses

    try:
        with pytest.raises(ended):
            run_steps(
                step_and_be_told,
                ({"number": number, "id": ["a"]} for number in range(5)),
                optimizer=run.optimizer, steps=range(5), seed=5, log=None, log_every=NEVER, save=run.saved.append,
                save_due=lambda step: False,
            )  # fmt: skip
        assert [signal.getsignal(other) for other in before] == [end, end]
    finally:
        for other, handler in before.items():
            signal.signal(other, handler)
    assert run.taken == list(range(steps[0] + 1))
    assert run.saved == ([] if len(steps) == 2 else [steps[0] + 1])


def told_apart(folder: Path) -> None:
    """One of two processes, whose steps know nothing of each other, is told to stop; as `<rank>.json`, what both do."""

    def end(number, _):
        raise SystemExit(number)

    end_what_hangs()
    join_processes(torch.device("cpu"))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    found = []
    for number, told, repeated in [(signal.SIGTERM, 1, False), (signal.SIGINT, 0, True)]:
        run = Run([1.0] * 9)

        def step_and_be_told(batch, step, number=number, told=told, repeated=repeated, run=run):
            losses = run.take_step(batch, step)
            for _ in range(1 + repeated if (rank(), step) == (told, 3) else 0):
                signal.raise_signal(number)
            return losses

        def save(step, told=told, run=run):
            if rank() != told:  # what torchrun sends when the other has ended first is this one's first
                signal.raise_signal(signal.SIGTERM)
            run.saved.append(step)

        with pytest.raises(SystemExit) as ended:
            run_steps(
                step_and_be_told, ({"number": number, "id": ["a"]} for number in range(9)),
                optimizer=run.optimizer, steps=range(9), seed=5, log=None, log_every=NEVER, save=save,
                save_due=lambda step: False,
            )  # fmt: skip
        found.append([run.taken, run.saved, ended.value.code])
    (folder / f"{rank()}.json").write_text(json.dumps(found))
    leave_processes()


@needs_alarm
def test_processes_stop_after_the_same_step_whichever_is_told_and_once_or_as_torchrun_passes_it_on(tmp_path):
    run_processes("tests.tool.test_loop", tmp_path)
    after_the_next = [[0, 1, 2, 3, 4], [5]]
    first, second = (json.loads((tmp_path / f"{number}.json").read_text()) for number in (0, 1))
    assert [run[:2] for run in (*first, *second)] == [after_the_next] * 4
    assert first[1][2] == signal.SIGINT and second[0][2] == signal.SIGTERM


def test_what_ends_the_process_at_once_or_is_ignored_stays_so():
    seen = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Run([1.0]).go(range(1), save=lambda step: seen.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIG_IGN, signal.SIG_DFL]


def test_an_error_of_a_step_is_no_death_of_a_loader_process():
    def fail(step: int) -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        Run([1.0]).go(range(1), save=fail)


def test_a_gpu_whose_memory_is_too_small_for_a_step_is_named_with_the_flags_that_help():
    def take_step(batch: dict, step: int) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = Run([1.0])
    run.take_step = take_step
    with pytest.raises(UserError, match=r"memory is too small.*--batch_size, --crop_size, --amp"):
        run.go(range(1))
    assert not run.saved


# -- logging -----------------------------------------------------------------------------------------------------------


def test_a_line_and_scalars_come_at_every_interval_and_every_save_with_the_mean_since_the_last(tmp_path):
    run = Run([4.0, 8.0, 3.0, 1.0, 2.0, 9.0, 6.0])
    means = run.go(range(7), log_every=2, save_every=5, folder=tmp_path)
    expected = {2: 6.0, 4: 2.0, 5: 2.0, 6: 9.0, 7: 6.0}
    lines = [line.split(" ", 2)[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == [f"step {step}/7 sal {mean / 4:.4f} total {mean:.4f}" for step, mean in expected.items()]
    assert curve(tmp_path, "loss/total") == expected
    assert curve(tmp_path, "loss/sal") == {step: mean / 4 for step, mean in expected.items()}
    assert curve(tmp_path, "lr") == pytest.approx({step: 1 / step for step in expected})
    speeds = curve(tmp_path, "images_per_s")
    assert list(speeds) == list(expected) and min(speeds.values()) > 0
    assert means == {"sal": 1.5, "total": 6.0}


def test_what_is_watched_beside_the_losses_has_a_name_with_a_slash_and_keeps_it(tmp_path):
    run = Run([1.0, 2.0])
    plain = run.take_step
    run.take_step = lambda batch, step: {**plain(batch, step), "pseudo/background": torch.tensor(0.25)}
    assert run.go(range(2), log_every=2, folder=tmp_path)["pseudo/background"] == 0.25
    assert curve(tmp_path, "pseudo/background") == {2: 0.25}
    assert curve(tmp_path, "loss/total") == {2: 1.5}


def test_a_resumed_run_numbers_its_lines_and_scalars_as_an_undisturbed_one(tmp_path):
    for steps in (range(4), range(4, 6)):
        Run([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).go(steps, log_every=2, folder=tmp_path)
    assert curve(tmp_path, "loss/total") == {2: 1.5, 4: 3.5, 6: 5.5}
    assert re.findall(r"step (\d/\d)", (tmp_path / "log").read_text()) == ["2/4", "4/4", "6/6"]


def test_without_a_log_nothing_is_said_and_the_losses_are_returned_all_the_same(capfd):
    run = Run([1.0, 2.0, 6.0])
    assert run.go(range(3), log_every=1, save_every=2) == {"sal": 1.5, "total": 6.0}
    assert run.saved == [2, 3]
    assert capfd.readouterr() == ("", "")


# -- tool/log.py -------------------------------------------------------------------------------------------------------


def test_a_picture_is_tensorboards_pixel_by_pixel(tmp_path):
    pixels = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5) * 4
    log = RunLog(tmp_path)
    log.picture(7, "image", pixels)
    log.close()
    (event,) = EventAccumulator(str(tmp_path)).Reload().Images("image")
    assert event.step == 7
    np.testing.assert_array_equal(Image.open(io.BytesIO(event.encoded_image_string)), pixels.permute(1, 2, 0))


def test_without_curves_there_are_lines_and_no_events(tmp_path):
    log = RunLog(tmp_path, curves=False)
    log.line("hello", console=False)
    log.scalars(1, {"lr": 1.0})
    log.picture(1, "image", torch.zeros(3, 2, 2, dtype=torch.uint8))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").read_text().endswith(" hello\n")


if __name__ == "__main__":
    told_apart(Path(sys.argv[1]))
