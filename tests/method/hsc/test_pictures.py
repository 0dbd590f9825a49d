"""Stage 1's pictures in TensorBoard show what a step saw, at every K-th step, and leave the training as it was."""

import io
from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.normalisation import IMAGENET
from method.engine import make_step
from method.hsc.config import CONFIGS, configure
from method.picture import picture
from network.build import build_network
from tests.golden_inputs import rnd, uni
from tests.method.hsc.steps import build_training
from tests.scripts.conftest import assert_same
from tool.log import RunLog
from tool.loop import run_steps
from tool.plot import blend, heat_colours
from voc12.classes import VOC12

SIDE, STEPS = 48, 5
LABEL = torch.eye(20)[[3, 7]]


def pixels_of(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) -> (H, W, 3)"""
    return image.permute(1, 2, 0).numpy()


# -- one picture -------------------------------------------------------------------------------------------------------


def cam_with(peak: int, channels: int) -> torch.Tensor:
    """CAMs on a grid of 4 x 4 of which channel `peak` has its largest score top left; all others elsewhere."""
    cam = torch.zeros(channels, 4, 4)
    cam[:, 3, 3] = 5.0
    cam[peak] = 0.0
    cam[peak, 0, 0] = 2.0
    return cam


def test_the_pictures_are_the_image_the_cam_as_heat_over_it_the_saliency_and_the_pseudo_label():
    image, saliency = rnd(0, 3, 8, 12), uni(1, 1, 8, 12)
    label = torch.zeros(20)
    label[[5, 11]] = 1  # the CAM is the first one's
    pseudo = torch.tensor([[5, 11, 20], [20, 20, 0]])
    made = picture(image, cam_with(5, 20), label, VOC12, saliency=saliency, pseudo=pseudo)
    assert list(made) == ["image", "CAM", "saliency", "pseudo label"]
    assert all(part.dtype == torch.uint8 and part.shape == (3, 8, 12) for part in made.values())
    photograph, heat, salient, labelled = (pixels_of(part) for part in made.values())
    np.testing.assert_array_equal(photograph, pixels_of(IMAGENET.truncated(image)))
    grey = (saliency[0] * 255).to(torch.uint8).numpy()
    np.testing.assert_array_equal(salient, np.dstack([grey] * 3))
    # The largest score gets the last colour of the scale, whatever it is; where there is none, the first.
    for place, score in (((0, 0), 1.0), ((7, 11), 0.0)):
        expected = blend(photograph, heat_colours(np.full((8, 12), score)), opacity=0.6)
        np.testing.assert_allclose(heat[place], expected[place], atol=1)
    # Each pixel of the pseudo label is 4 x 4 of the image: VOC's colour of bus (label 6), dog (12) and
    # aeroplane (1) over it; background shows the image.
    colours = np.zeros((8, 12, 4), np.uint8)
    colours[:4, :4], colours[:4, 4:8], colours[4:, 8:] = (0, 128, 128, 255), (64, 0, 128, 255), (128, 0, 0, 255)
    np.testing.assert_array_equal(labelled, blend(photograph, colours, opacity=0.6))


def test_with_background_as_a_channel_the_class_competes_with_it_as_in_inference():
    image, label = torch.zeros(3, 4, 4), torch.eye(20)[7]
    cam = torch.zeros(21, 4, 4)
    cam[7] = 1.0
    cam[20, :, 2:] = 9.0  # the right half is background's, though the class's score is the same
    heat, plain = (
        pixels_of(picture(image, maps, label, VOC12, saliency=None, pseudo=None)["CAM"]).astype(int)
        for maps in (cam, cam[:20])
    )
    assert (heat[:, 0].sum(-1) - heat[:, 3].sum(-1)).min() > 100
    assert (plain == plain[0, 0]).all()


def test_without_saliency_and_with_scores_that_are_no_numbers_there_is_a_picture_all_the_same():
    with np.errstate(all="raise"):
        cam = torch.full((21, 2, 2), torch.nan)
        made = picture(rnd(0, 3, 8, 8), cam, torch.eye(20)[0], VOC12, saliency=None, pseudo=None)
    assert {name: part.shape for name, part in made.items()} == {"image": (3, 8, 8), "CAM": (3, 8, 8)}


# -- in a run ----------------------------------------------------------------------------------------------------------


def train_tiny(method, folder, *, picture_every):
    """The state after some steps of `method`, logged to `folder`; what the net's forward pass saw."""
    torch.manual_seed(0)
    config = configure(method, without=[], overlap=0.5, foreground_share=0.5, second_view=24, crf_backend="auto")
    net = build_network(config.network, num_classes=20, width=0.0625, frozen=False)
    training = build_training(net, config, lr=0.01, momentum=0.9, weight_decay=5e-4, max_step=10)
    seen = []
    net.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    batches = [
        {"image": rnd(step, 2, 3, SIDE, SIDE), "label": LABEL, "id": ["a", "b"]}
        | ({} if method == "cls" else {"saliency": uni(step, 2, 1, SIDE, SIDE)})
        for step in range(STEPS)
    ]
    log = None if folder is None else RunLog(folder)
    run_steps(
        make_step(training, steps_per_epoch=2, seed=0, log=log, picture_every=picture_every),
        batches,
        **{"optimizer": training.optimizer, "steps": range(STEPS), "seed": 0, "log": log, "log_every": 1},
        **{"save": lambda step: None, "save_due": lambda step: False},
    )
    if log is not None:
        log.close()
    return deepcopy(training.state()), seen, training.objective.criterion.pseudo


@pytest.mark.parametrize("method", CONFIGS)
def test_every_kth_step_has_the_picture_of_its_first_image_and_no_weight_knows_of_it(method, tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    state, seen, _ = train_tiny(method, tmp_path / "with", picture_every=2)
    plain_state, plain_seen, _ = train_tiny(method, tmp_path / "without", picture_every=100)
    assert_same(state, plain_state)
    assert len(seen) == len(plain_seen)  # no forward pass more
    assert not EventAccumulator(str(tmp_path / "without")).Reload().Tags()["images"]

    events = EventAccumulator(str(tmp_path / "with")).Reload()
    (name,) = events.Tags()["images"]
    parts = ["image", "CAM"] + ["saliency"] * (method != "cls") + ["pseudo label"] * (method == "hsc")
    assert name == ", ".join(parts)
    assert [event.step for event in events.Images(name)] == [2, 4]
    for event in events.Images(name):
        shown = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert shown.shape == (SIDE, SIDE * len(name.split(", ")), 3)
        np.testing.assert_array_equal(
            shown[:, :SIDE], pixels_of(IMAGENET.truncated(rnd(event.step - 1, 2, 3, SIDE, SIDE)[0]))
        )
        assert shown[:, SIDE : 2 * SIDE].std() > 0


def test_a_process_that_says_nothing_trains_without_pictures():
    assert_same(*(train_tiny("eps", None, picture_every=every)[0] for every in (1, 100)))


def test_the_share_of_background_in_the_pseudo_labels_is_a_curve_where_there_are_any(tmp_path):
    for method in ("eps_seam", "hsc"):
        (tmp_path / method).mkdir()
        _, _, pseudo = train_tiny(method, tmp_path / method, picture_every=100)
        curves = EventAccumulator(str(tmp_path / method)).Reload()
        assert ("pseudo/background" in curves.Tags()["scalars"]) == (pseudo is not None) == (method == "hsc")
    shares = [event.value for event in curves.Scalars("pseudo/background")]
    assert len(shares) == STEPS and len(set(shares)) > 1
    assert shares[-1] == pytest.approx((pseudo == 20).sum().item() / pseudo.numel())
    last = (tmp_path / "hsc" / "log").read_text().splitlines()[-1]
    assert last.endswith(f" pseudo/background {shares[-1]:.4f}")
