"""A step is the spec's: rates, loss, what it moves; runs resume to the bit, and two processes train as one."""

import io
import json
import math
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F

from data.normalisation import IMAGENET
from network.deeplab import DeepLab
from segmentation.engine import LOG_EVERY, PICTURE_EVERY, build_training, make_step, pictures
from tests.golden_inputs import assert_golden
from tests.network.nets import net_of
from tests.scripts.conftest import assert_same
from tests.tool.test_distributed import end_what_hangs, needs_alarm, run_processes
from tool.distributed import join_processes, leave_processes, rank, world_size
from tool.label_loss import segmentation_loss
from tool.log import RunLog
from tool.randomness import seed_step
from tool.training import Training
from tool.training_run import Run, StartedRun
from voc12.classes import VOC12

CPU = torch.device("cpu")
SIDE = 33
SEED = 7


def small_net(name: str = "deeplabv2", *, frozen_norms: bool = False, seed: int = 0) -> DeepLab:
    torch.manual_seed(seed)
    return net_of(name=name, backbone="timm:test_resnet", bn_momentum=0.1, frozen_norms=frozen_norms)


def training_of(net: nn.Module, *, lr: float = 1e-3, num_steps: int = 10) -> Training:
    return build_training(net, lr=lr, momentum=0.9, weight_decay=5e-4, power=0.9, num_steps=num_steps)


def make_batches(number: int, size: int = 2, *, ignored: float = 0.2, seed: int = 1) -> list[dict]:
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(number):
        label = torch.randint(0, 21, (size, SIDE, SIDE), generator=generator)
        label[torch.rand(label.shape, generator=generator) < ignored] = 255
        image = torch.randn(size, 3, SIDE, SIDE, generator=generator)
        batches.append({"image": image, "label": label, "id": [f"image {index}" for index in range(size)]})
    return batches


def take_steps(
    training: Training,
    batches: list[dict],
    folder: Path = Path(),
    *,
    first: int = 0,
    log: RunLog | None = None,
    **changes,
) -> dict[str, float]:
    """folder: of the checkpoint that a process with a `log` leaves."""
    run = Run(folder, arguments={}, settings={}, resume=False, folder_flag="", name_flag="")
    started = StartedRun(run, training, steps=range(first, first + len(batches)), log=log)
    arguments = {"amp": "off", "normalisation": IMAGENET, "data_set": VOC12, "log": log}
    take_step = make_step(training, **(arguments | changes))
    return started.train(take_step, batches, seed=SEED, log_every=LOG_EVERY, save_every=10**6)


# -- rates -------------------------------------------------------------------------------------------------------------


def test_the_rates_of_20000_iterations_are_the_golden_ones(golden):
    with np.load(golden / "deeplabv2.npz") as data:
        expected = dict(zip((0, 1, 100, 10000, 19999), data["lr"], strict=True))
    training = build_training(small_net(), lr=0.001, momentum=0.9, weight_decay=5e-4, power=0.9, num_steps=20000)
    optimizer, schedule = training.optimizer, training.schedule
    optimizer.step()
    for iteration in range(20000):
        if iteration in expected:
            rates = [group["lr"] for group in optimizer.param_groups]
            assert_golden(rates, expected[iteration] * np.array([1, 2, 10, 20]), rtol=1e-9)
        schedule.step()


# -- loss --------------------------------------------------------------------------------------------------------------


def naive_loss(logits: torch.Tensor, label: torch.Tensor) -> float:
    losses = []
    for n, y, x in np.ndindex(*label.shape):
        target = int(label[n, y, x])
        if target != 255:
            scores = logits[n, :, y, x].tolist()
            losses.append(math.log(sum(math.exp(score) for score in scores)) - scores[target])
    return sum(losses) / len(losses)


def random_logits(*shape: int, requires_grad: bool = False) -> torch.Tensor:
    return (3 * torch.randn(shape, generator=torch.Generator().manual_seed(2))).requires_grad_(requires_grad)


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.99])
def test_the_loss_is_the_mean_cross_entropy_over_the_labelled_pixels(ignored):
    label = make_batches(1, ignored=ignored)[0]["label"]
    logits = random_logits(2, 21, SIDE, SIDE)
    loss = segmentation_loss(logits, label)
    torch.testing.assert_close(loss, F.cross_entropy(logits, label, ignore_index=255, reduction="mean"))
    assert loss.item() == pytest.approx(naive_loss(logits, label), rel=1e-5)


def test_a_batch_without_labels_has_loss_0_and_gradient_0():
    logits = random_logits(2, 21, 5, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((2, 5, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.eq(0).all()


def test_pixels_that_are_left_out_get_no_gradient():
    label = make_batches(1)[0]["label"]
    logits = random_logits(2, 21, SIDE, SIDE, requires_grad=True)
    segmentation_loss(logits, label).backward()
    has_gradient = logits.grad.ne(0).any(dim=1)
    assert torch.equal(has_gradient, label != 255)


def test_bfloat16_logits_are_taken_to_float32():
    label = make_batches(1)[0]["label"]
    logits = random_logits(2, 21, SIDE, SIDE).bfloat16()
    loss = segmentation_loss(logits, label)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, segmentation_loss(logits.float(), label))


# -- steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deeplabv2", "deeplabv1"])
def test_steps_are_sgd_with_momentum_at_the_rates_of_backbone_and_head(name):
    # In float64: the order in which two float32 updates round moves the third loss by more than it is held to.
    net, batches = small_net(name).double(), make_batches(3)
    batches = [{**batch, "image": batch["image"].double()} for batch in batches]
    twin = deepcopy(net)
    training = build_training(net, lr=1e-3, momentum=0.9, weight_decay=0.05, power=0.9, num_steps=4)
    means = take_steps(training, batches)

    velocities, losses = {}, []
    for i, batch in enumerate(batches):
        seed_step(SEED, i + 1)  # dropout
        loss = F.cross_entropy(twin(batch["image"]).float(), batch["label"], ignore_index=255)
        losses.append(loss.item())
        twin.zero_grad()
        loss.backward()
        for key, weight in twin.named_parameters():
            if weight.grad is None:  # a norm's
                continue
            bias = key.endswith("bias")
            rate = 1e-3 * (1 if key.startswith("backbone.") else 10) * (2 if bias else 1) * (1 - i / 5) ** 0.9
            step = weight.grad + (0 if bias else 0.05) * weight.detach()
            velocities[key] = 0.9 * velocities.get(key, 0) + step
            weight.data -= rate * velocities[key]
    assert means["total"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    for key, weight in net.state_dict().items():
        torch.testing.assert_close(weight, twin.state_dict()[key], rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("frozen_norms", [False, True])
def test_a_step_moves_every_convolution_and_no_norms_affine_and_statistics_unless_frozen(frozen_norms):
    net = net_of(name="deeplabv2", deep_base=False, bn_momentum=0.1, frozen_norms=frozen_norms)
    before = deepcopy(net.state_dict())
    net.eval()  # as a test between two stretches of training leaves it
    take_steps(training_of(net), make_batches(1))
    kinds = {nn.Conv2d: "convolution", nn.BatchNorm2d: "norm"}
    seen = set()
    for name, module in net.named_modules():
        kind = kinds.get(type(module))
        seen.add(kind)
        for part, value in module.state_dict().items() if kind else ():
            moved = not torch.equal(value, before[f"{name}.{part}"])
            statistics = part in ("running_mean", "running_var", "num_batches_tracked")
            frozen = frozen_norms and name.startswith("backbone.")
            assert moved == (kind == "convolution" or (statistics and not frozen)), f"{name}.{part}"
    assert seen == {None, "convolution", "norm"}


def test_a_batch_without_labels_leaves_the_net_finite():
    net = small_net()
    means = take_steps(training_of(net), make_batches(1, ignored=1.1))
    assert means == {"total": 0.0}
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_training_on_one_batch_lowers_its_loss():
    training, (batch,) = training_of(small_net(), lr=0.01), make_batches(1)
    batch["label"][batch["label"] != 255] = 12
    first = take_steps(training, [batch])["total"]
    take_steps(training, [batch] * 8, first=1)
    assert take_steps(training, [batch], first=9)["total"] < 0.7 * first


def test_in_bfloat16_products_are_rounded_and_weights_and_statistics_are_not():
    nets = small_net(), small_net()
    losses = [
        take_steps(training_of(net), make_batches(2), amp=amp)["total"]
        for net, amp in zip(nets, ("off", "bf16"), strict=True)
    ]
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    for value in nets[1].state_dict().values():
        assert value.dtype in (torch.float32, torch.int64) and value.isfinite().all()


# -- resuming ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "iter_size"), [("deeplabv2", 1), ("deeplabv2_msc", 2)])
def test_a_run_that_is_resumed_ends_as_one_that_was_not_to_the_bit(name, iter_size):
    batches = make_batches(6, 2 * iter_size)
    undisturbed = training_of(small_net(name))
    take_steps(undisturbed, batches, iter_size=iter_size)

    stopped, file = training_of(small_net(name)), io.BytesIO()
    take_steps(stopped, batches[:3], iter_size=iter_size)
    torch.save(stopped.state(), file)
    file.seek(0)
    resumed = training_of(small_net(name, seed=99))
    resumed.restore(torch.load(file, weights_only=True))
    take_steps(resumed, batches[3:], first=3, iter_size=iter_size)

    state = undisturbed.state()
    assert list(state["model"]) == list(small_net(name).state_dict())
    momenta = [entry["momentum_buffer"] for entry in state["optimizer"]["state"].values()]
    assert momenta and all(momentum.abs().sum() > 0 for momentum in momenta)
    assert_same(resumed.state(), state)


# -- pictures ----------------------------------------------------------------------------------------------------------

VOC_COLOURS = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}


def test_pictures_are_the_image_its_labels_and_the_prediction_in_vocs_colours():
    image = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    label = torch.tensor([[0, 1, 15, 20], [255, 20, 0, 1]])
    prediction = torch.tensor([[15, 0, 1, 20], [20, 1, 15, 0]])
    picture = pictures(image, label, F.one_hot(prediction, 21).permute(2, 0, 1).bfloat16(), VOC12)
    assert picture.dtype == torch.uint8 and picture.shape == (3, 2, 12)
    assert torch.equal(picture[..., :4], image)
    for labels, part in ((label, picture[..., 4:8]), (prediction, picture[..., 8:])):
        expected = [[VOC_COLOURS[value] for value in row] for row in labels.tolist()]
        assert part.permute(1, 2, 0).tolist() == [[list(colour) for colour in row] for row in expected]


def test_a_picture_of_the_first_image_is_logged_now_and_then(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    batches = make_batches(3)
    for batch in batches:
        batch["image"][0] = IMAGENET(pixels)
    log = RunLog(tmp_path)
    take_steps(training_of(small_net()), batches, tmp_path, first=PICTURE_EVERY - 2, log=log)
    log.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (name,) = events.Tags()["images"]
    (event,) = events.Images(name)
    assert event.step == PICTURE_EVERY
    picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    assert picture.shape == (SIDE, 3 * SIDE, 3)
    np.testing.assert_array_equal(picture[:, :SIDE], pixels)
    ignored = (picture[:, SIDE : 2 * SIDE] == VOC_COLOURS[255]).all(-1)
    np.testing.assert_array_equal(ignored, batches[1]["label"][0] == 255)


# -- several processes -------------------------------------------------------------------------------------------------

GLOBAL_BATCH = 4


def uneven_batches() -> list[dict]:
    """Global batches whose second halves have few labels, or none, and other ones than the first halves."""
    batches = make_batches(3, GLOBAL_BATCH, ignored=0.05)
    half = GLOBAL_BATCH // 2
    for batch in batches:
        labels = batch["label"][half:]
        labels[labels != 255] = 3
        labels[:, 2:] = 255
    batches[1]["label"][half:] = 255
    return batches


def share_of(batch: dict, number: int, processes: int) -> dict:
    size = GLOBAL_BATCH // processes
    return {name: values[number * size : (number + 1) * size] for name, values in batch.items()}


def deterministic_net(name: str) -> DeepLab:
    """Without dropout, whose masks depend on the process, and without statistics of a process's own images."""
    net = small_net(name, frozen_norms=True)
    if name != "deeplabv2":
        return net
    for module in list(net.aspp.modules()):
        for name, part in module.named_children():
            if isinstance(part, nn.BatchNorm2d | nn.Dropout):
                setattr(module, name, nn.Identity())
    net.dropout.p = 0.0
    return net


NETS_OF_PROCESSES = {"deeplabv2": 1, "deeplabv2_msc": 2}  # with the parts of a batch


def train_share(folder: Path, name: str) -> tuple[dict, dict[str, float]]:
    """This process's part of a run, logged to `folder` by the first: the weights it ends with, and mean losses."""
    training = training_of(deterministic_net(name), lr=1e-4)
    log = None
    if rank() == 0:
        (folder / name).mkdir()
        log = RunLog(folder / name)
    batches = [share_of(batch, rank(), world_size()) for batch in uneven_batches()]
    means = take_steps(training, batches, folder / name, log=log, iter_size=NETS_OF_PROCESSES[name])
    if log is not None:
        log.close()
    return training.saved["model"].state_dict(), means


def mean_of_means(net: nn.Module) -> None:
    """The easy mistake: a step on the mean of the halves' own mean losses."""
    training = training_of(net, lr=1e-4)
    optimizer, schedule = training.optimizer, training.schedule
    for batch in uneven_batches():
        halves = [share_of(batch, number, 2) for number in (0, 1)]
        loss = sum(segmentation_loss(net(half["image"]), half["label"]) for half in halves) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def largest_difference(state: dict, other: dict) -> float:
    return max((state[name] - other[name]).abs().max().item() for name in state)


def logged_losses(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars("loss/total")]


def report(folder: Path) -> None:
    """One of two processes' run, its end written to `folder`."""
    end_what_hangs()
    join_processes(CPU)
    for name in NETS_OF_PROCESSES:
        weights, means = train_share(folder, name)
        torch.save(weights, folder / f"{name} {rank()}.pth")
        (folder / f"{name} {rank()}.json").write_text(json.dumps(means))
    leave_processes()


@pytest.fixture(scope="module")
def by_two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    run_processes("tests.segmentation.test_engine", folder)
    return folder


@needs_alarm
@pytest.mark.parametrize("name", NETS_OF_PROCESSES)
def test_two_processes_train_as_one_does_on_the_global_batch_and_log_its_loss(by_two, tmp_path, name):
    expected, losses = train_share(tmp_path, name)
    ends = [torch.load(by_two / f"{name} {number}.pth", weights_only=True) for number in (0, 1)]
    assert largest_difference(ends[0], ends[1]) == 0
    assert largest_difference(ends[0], expected) < 1e-5
    for number in (0, 1):
        assert json.loads((by_two / f"{name} {number}.json").read_text()) == pytest.approx(losses, rel=1e-5)
    (step, loss), (other_step, other_loss) = [logged_losses(folder / name)[-1] for folder in (tmp_path, by_two)]
    assert other_step == step and other_loss == pytest.approx(loss, rel=1e-5)
    if name == "deeplabv2":
        wrong = deterministic_net(name)
        mean_of_means(wrong)
        assert largest_difference(wrong.state_dict(), expected) > 1e-3  # the labels are uneven enough to tell


if __name__ == "__main__":
    report(Path(sys.argv[1]))
