"""Log, curves and settings of a run come through a resumption; losses that are no numbers are named with images."""

import os
import re
import resource
import threading

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG, SESSION_END_INFO_TAG, SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tool.cli import UserError
from tool.log import LossHistory, RunLog


def curve(folder, name):
    """(step, value) of a scalar, as TensorBoard shows it."""
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def log_steps(folder, *, first_step, steps, offset=0.0):
    log = RunLog(folder, first_step=first_step)
    for step in steps:
        log.scalars(step, {"loss/total": step + offset, "lr": 0.5})
    log.close()


# -- log and curves ----------------------------------------------------------------------------------------------------


def test_lines_are_appended_with_their_time(tmp_path, capsys):
    for text in ("first", "seconde, été"):
        log = RunLog(tmp_path)
        log.line(text)
        log.close()
    log = RunLog(tmp_path)
    log.line("quiet", console=False)
    assert "quiet" in (tmp_path / "log").read_text(encoding="utf-8")  # at once, not only when it is closed
    log.close()
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["first", "seconde, été", "quiet"]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    assert capsys.readouterr().out.split("\n") == ["first", "seconde, été", ""]


def test_scalars_are_tensorboards(tmp_path):
    log_steps(tmp_path, first_step=0, steps=(1, 2, 3))
    assert curve(tmp_path, "loss/total") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert curve(tmp_path, "lr") == [(1, 0.5), (2, 0.5), (3, 0.5)]


def test_a_resumed_run_has_each_step_once_in_its_curve(tmp_path):
    log_steps(tmp_path, first_step=0, steps=(1, 2, 3, 4, 5))
    # Killed after step 5, its checkpoint says 3: steps 4 and 5 are done again.
    log_steps(tmp_path, first_step=3, steps=(4, 5, 6), offset=0.25)
    assert curve(tmp_path, "loss/total") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.25), (5, 5.25), (6, 6.25)]


def test_a_resumed_run_has_the_picture_of_each_step_once(tmp_path):
    for first_step, steps in ((0, (2, 4, 6)), (3, (4, 6, 8))):
        log = RunLog(tmp_path, first_step=first_step)
        for step in steps:
            log.picture(step, "image", torch.zeros(3, 2, 2, dtype=torch.uint8))
        log.close()
    assert [event.step for event in EventAccumulator(str(tmp_path)).Reload().Images("image")] == [2, 4, 6, 8]


@pytest.mark.parametrize("name", ["log", "events"])
def test_a_full_disk_ends_the_run_that_logs_and_what_was_logged_stays(tmp_path, name):
    threads = threading.active_count()
    log = RunLog(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=rf"{tmp_path}/{name}.*: cannot be written: File too large"):
            for step in range(1, 100):
                if name == "log":
                    log.line("a line", console=False)
                else:
                    log.scalars(step, {"lr": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert threading.active_count() == threads  # none that could fail unseen
    if name == "events":
        log_steps(tmp_path, first_step=5, steps=(6, 7))
        assert [step for step, _ in curve(tmp_path, "lr")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", ["none", "file"])
def test_a_log_that_cannot_be_opened_is_the_users_mistake(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"{name}/log: cannot be written: "):
        RunLog(tmp_path / name)


# -- losses ------------------------------------------------------------------------------------------------------------


def test_a_pipe_in_the_logs_place_is_refused_and_nobody_waits_for_its_reader(tmp_path):
    os.mkfifo(tmp_path / "log")
    errors = []

    def begin():
        try:
            RunLog(tmp_path)
        except UserError as error:
            errors.append(str(error))

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    thread.join(10)
    assert errors == [f"{tmp_path / 'log'}: expected a file to append to, found a pipe or a device; remove it"]


def test_drained_losses_are_the_mean_since_the_last_time():
    history = LossHistory()
    history.add({"total": torch.tensor(3.0), "csc": torch.tensor([2.0], requires_grad=True)}, ["a"])
    history.add({"total": torch.tensor(4.0), "csc": torch.tensor([5.0], dtype=torch.float64)}, ["b"])
    assert history.drain() == {"total": 3.5, "csc": 3.5}
    history.add({"total": torch.tensor(8.0), "csc": torch.tensor([1.0])}, ["c"])
    assert history.drain() == {"total": 8.0, "csc": 1.0}


def test_a_term_that_joins_later_is_averaged_over_the_steps_that_had_it():
    history = LossHistory()
    history.add({"cls": torch.tensor(3.0), "total": torch.tensor(3.0)}, ["a"])
    history.add({"cls": torch.tensor(5.0), "psc": torch.tensor(2.0), "total": torch.tensor(7.0)}, ["b"])
    assert history.drain() == {"cls": 4.0, "psc": 2.0, "total": 5.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_is_named_with_the_images_of_its_step(value):
    history = LossHistory()
    history.add({"cls": torch.tensor(1.0), "sal": torch.tensor(1.0)}, ["a", "b"])
    history.add({"cls": torch.tensor(1.0), "sal": torch.tensor(value)}, ["c\n", "d"])
    history.add({"cls": torch.tensor(float("nan")), "sal": torch.tensor(float("nan"))}, ["e", "f"])
    with pytest.raises(UserError, match=r"the loss sal is -?(nan|inf) on the images c\\n, d: training stops"):
        history.drain()


# -- settings ----------------------------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script>\x1b[2J\n\u202e\udcff"


def entered(folder):
    """The settings and the names of the figures of the run in `folder`, as TensorBoard's HParams tab reads them."""
    contents = EventAccumulator(str(folder)).Reload().PluginTagToContent("hparams")
    parts = {tag: HParamsPluginData.FromString(content) for tag, content in contents.items()}
    start = parts[SESSION_START_INFO_TAG].session_start_info.hparams
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.items()}
    assert parts[SESSION_END_INFO_TAG].session_end_info.status == STATUS_SUCCESS
    experiment = parts[EXPERIMENT_TAG].experiment
    assert sorted(info.name for info in experiment.hparam_infos) == sorted(values)
    return values, [info.name.tag for info in experiment.metric_infos]


def test_settings_are_in_the_hparams_tab_with_the_last_values_of_the_figures(tmp_path):
    log_steps(tmp_path, first_step=0, steps=(1, 2))
    log = RunLog(tmp_path, first_step=2)
    log.scalars(3, {"loss/total": 0.5})
    log.hparams(3, {"lr": 0.01, "steps": 3, "resume": True, "sides": [448, 768], "clip": None}, ["loss/total"])
    log.close()
    assert entered(tmp_path) == (
        {"lr": 0.01, "steps": 3, "resume": "True", "sides": "[448, 768]", "clip": "None"},
        ["loss/total"],
    )
    # The tab shows the last point of the curve of that name.
    assert curve(tmp_path, "loss/total") == [(1, 1.0), (2, 2.0), (3, 0.5)]


def test_hostile_settings_stay_text_on_one_line(tmp_path):
    log = RunLog(tmp_path)
    log.hparams(1, {"work_dir": HOSTILE, "names": [HOSTILE]}, [])
    log.close()
    settings, _ = entered(tmp_path)
    assert settings["work_dir"] == r"<script>alert(1)</script>\x1b[2J\n\u202e\udcff"
    assert all(value.isprintable() and "<script>" in value for value in settings.values())
    assert [path.name.split(".")[0] for path in sorted(tmp_path.iterdir())] == ["events", "log"]


def test_a_run_that_is_resumed_after_its_end_is_entered_once(tmp_path):
    for _ in range(2):
        log = RunLog(tmp_path, first_step=3)
        log.hparams(3, {"lr": 0.01}, [])
        log.close()
    assert entered(tmp_path) == ({"lr": 0.01}, [])


def test_without_curves_no_settings_are_entered(tmp_path):
    log = RunLog(tmp_path, curves=False)
    log.hparams(1, {"lr": 0.01}, [])
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
