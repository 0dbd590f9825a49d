"""What TensorBoard shows of a run of `train_voc.py`: pictures that no weight knows of, and its settings."""

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG, SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.scripts.conftest import STEPS, STEPS_OF_RUN, TINY, assert_succeeded, run

EVERY = 5
NAME = "image, CAM, saliency, pseudo label"


@pytest.fixture(scope="module")
def pictured(data, tmp_path_factory):
    """The folder of the run `undisturbed`, but with pictures and scores; resumed after its end, with other pictures."""
    work_dir = tmp_path_factory.mktemp("pictured")
    flags = {**TINY, **data.for_training(), **STEPS_OF_RUN, "--work_dir": work_dir, "--num_workers": 2}
    flags |= {"--eval": (), "--val_list": data.root / "val.txt"}
    assert_succeeded(run("train_voc.py", {**flags, "--picture_every": EVERY}))
    assert_succeeded(run("train_voc.py", {**flags, "--picture_every": 3, "--resume": ()}))
    return work_dir / "hsc"


def test_pictures_come_every_k_steps_and_the_weights_are_those_without(pictured, undisturbed):
    assert (pictured / "hsc.pth").read_bytes() == (undisturbed / "hsc.pth").read_bytes()
    events = EventAccumulator(str(pictured)).Reload()
    assert events.Tags()["images"] == [NAME]
    assert [event.step for event in events.Images(NAME)] == list(range(EVERY, STEPS + 1, EVERY))
    for event in events.Images(NAME):
        shown = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        side = TINY["--crop_size"]
        assert shown.shape == (side, 4 * side, 3)
        assert all(part.std() > 0 for part in np.split(shown, 4, axis=1))
    assert not EventAccumulator(str(undisturbed)).Reload().Tags()["images"]  # seldom, unless they are asked for


def test_the_settings_and_the_final_figures_are_in_the_hparams_tab(pictured, data):
    events = EventAccumulator(str(pictured)).Reload()
    parts = {
        tag: HParamsPluginData.FromString(content) for tag, content in events.PluginTagToContent("hparams").items()
    }
    settings = parts[SESSION_START_INFO_TAG].session_start_info.hparams
    assert settings["method"].string_value == "hsc" and settings["lr"].number_value == 0.01
    assert settings["train_list"].string_value == str(data.train_list)
    assert settings["resize_size"].string_value == "[48, 80]"
    figures = {info.name.tag for info in parts[EXPERIMENT_TAG].experiment.metric_infos}
    assert {"loss/total", "loss/csc", "pseudo/background", "val/mean_average_precision"} <= figures
    assert all(events.Scalars(name)[-1].step == STEPS for name in figures)
