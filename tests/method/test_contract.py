"""What every method keeps, by being in `METHODS`: it resumes, trains alike over processes, and gives seeds."""

import sys
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from PIL import Image

import train_voc
from data import DATASETS
from method import METHODS
from method.arguments import check_arguments, parse_arguments
from method.engine import training_step
from method.learner import Batch, Learner, Moment
from method.training import make_learner, make_training
from network.backbones import drop_nothing
from network.scn import SCN
from tests.golden_inputs import rnd, uni
from tests.scripts.conftest import assert_same
from tests.tool.test_distributed import end_what_hangs, needs_alarm, run_processes
from tool.cam import multi_scale_cam, seed_labels
from tool.cli import UserError
from tool.crf import crf_seed
from tool.distributed import join_processes, leave_processes, rank, world_size
from tool.training import Training

CPU = torch.device("cpu")
VOC12 = DATASETS["voc12"]
BATCH, IMAGES = 4, 16
FLAGS = ["--data_root", "images", "--batch_size", str(BATCH), "--max_epoches", "2", "--lr", "0.01"]
NARROW = ["--width", "0.0625"]
# The flags of a method's small net, where it is no narrow ResNet-38, and the side of what it takes at least.
SMALL = {
    "crt": ["--backbone", "timm:test_resnet", "--transformer", "test_vit"],
    "msa_image": (tiny := ["--backbone", "timm:test_resnet", "--crop_size", "64"]),
    "msa_sal": tiny,
}
SIDE = {"crt": 224}


@cache
def scn_folder() -> TemporaryDirectory:
    """With a superpixel network, the same in each process."""
    folder = TemporaryDirectory()
    torch.manual_seed(3)
    torch.save(SCN().state_dict(), Path(folder.name) / "scn.pth")
    return folder


def helpers(method: str) -> list[str]:
    """The flags of the frozen nets that it asks."""
    return [word for flag in METHODS[method].helper_flags for word in (f"--{flag}", f"{scn_folder().name}/{flag}.pth")]


def start(method: str, *more: str) -> tuple[Learner, Training]:
    """A narrow net of `method` with the weights of its seed."""
    flags = [*FLAGS, *SMALL.get(method, NARROW), *helpers(method), *more]
    argv, sys.argv = sys.argv, ["train_voc.py", "--method", method, *flags]
    try:
        args = parse_arguments()
    finally:
        sys.argv = argv
    check_arguments(args)
    learner = make_learner(args, CPU)
    training = make_training(args, learner, num_images=IMAGES)
    learner.train()
    return learner, training


def batch_of(method: str, step: int) -> Batch:
    """What a loader gives, with what the method reads."""
    label = torch.zeros(BATCH, VOC12.num_classes)
    label[range(BATCH), [3, 7, 3, 11]] = 1
    label[1, 11] = 1
    side = SIDE.get(method, 64)
    batch = {"image": rnd(10 + step, BATCH, 3, side, side), "label": label}
    if "saliency" in METHODS[method].reads:
        batch["saliency"] = uni(20 + step, BATCH, 1, side, side)
    return batch


def take_steps(method: str, training: Training, steps: range, share: slice = slice(None)) -> list[dict]:
    losses = []
    for step in steps:
        torch.manual_seed(step)  # as `tool.loop` does
        batch = {name: value[share] for name, value in batch_of(method, step).items()}
        losses.append(training_step(training, batch, Moment(step, step // 2, seed=0)))
    return losses


@pytest.mark.parametrize("method", METHODS)
def test_two_steps_move_weights_by_finite_losses_and_go_on_from_a_checkpoint_bit_for_bit(method):
    _, whole = start(method)
    before = deepcopy(whole.state()["model"])
    first = take_steps(method, whole, range(2))
    assert all(torch.isfinite(value).all() for losses in first for value in losses.values())
    assert any(not torch.equal(value, before[name]) for name, value in whole.state()["model"].items())
    saved = deepcopy(whole.state())
    last = take_steps(method, whole, range(2, 4))

    _, resumed = start(method, "--seed", "1")
    resumed.restore(saved)
    assert_same(take_steps(method, resumed, range(2, 4)), last)
    assert_same(resumed.state(), whole.state())


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_that_are_released_are_the_net_again(method, tmp_path):
    learner, training = start(method)
    take_steps(method, training, range(1))
    for ending, state in learner.released().items():
        torch.save(state, tmp_path / f"net{ending}.pth")
    other, _ = start(method, "--seed", "1")
    report = other.load(tmp_path / "net.pth")
    assert not report.missing and not report.unexpected
    assert_same(dict(other.net.state_dict()), dict(learner.net.state_dict()))


@pytest.mark.parametrize("method", METHODS)
def test_seeds_have_the_promised_form(method):
    learner, _ = start(method)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
    recipe = METHODS[method].seeds
    maps = partial(learner.eval().maps, device=CPU)
    cams = multi_scale_cam(maps, image, [3, 14], recipe=recipe, device=CPU)
    assert list(cams) == [3, 14]
    assert all(cam.dtype == np.float32 and cam.shape == (40, 56) and cam.max() <= 1 for cam in cams.values())
    assert multi_scale_cam(maps, image, [], recipe=recipe, device=CPU) == {}
    labels = seed_labels(cams, threshold=recipe.threshold, shape=(40, 56))
    assert set(np.unique(labels)) <= {0, 4, 15}
    for crf in recipe.crf:
        posteriors = crf_seed(np.asarray(image), cams, recipe=crf, num_classes=20, backend="torch")
        assert list(posteriors) == [0, 4, 15]


@pytest.mark.parametrize("method", METHODS)
def test_what_it_reads_and_is_not_there_and_flags_of_others_are_refused_in_one_line(method, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_voc.py", "--method", method, *FLAGS, *helpers(method)])
    args = parse_arguments()
    if METHODS[method].reads:
        with pytest.raises(UserError, match=f"--saliency_root: --method {method} needs a folder"):
            train_voc.read_data(args, VOC12)
    args.crop_size = 10**6
    with pytest.raises(UserError, match="--crop_size 1000000: expected a number from 1 to"):
        check_arguments(args)


# -- two processes -----------------------------------------------------------------------------------------------------


def train(method: str, *more: str) -> dict:
    """The losses of a few steps on this process's share of the batches, and the state after them."""
    learner, training = start(method, "--clip_grad", "1", *more)
    drop_nothing(learner)  # what is dropped hangs on the process
    size = BATCH // world_size()
    losses = take_steps(method, training, range(2), slice(rank() * size, (rank() + 1) * size))
    return {"losses": losses, **{name: part.state_dict() for name, part in training.saved.items()}}


CASES = {"as released": [], "norms that train": ["--from_scratch", "--lr", "0.001"]}


def main(folder: Path) -> None:
    end_what_hangs()
    join_processes(CPU)
    results = {case: {method: train(method, *flags) for method in METHODS} for case, flags in CASES.items()}
    if rank() == 1:  # not the one that is saved: it must hold the same
        torch.save(results, folder / "results.pth")
    leave_processes()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run_processes("tests.method.test_contract", folder)
    return torch.load(folder / "results.pth", weights_only=True)


@needs_alarm
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one(two, method, case):
    torch.testing.assert_close(two[case][method], train(method, *CASES[case]), rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
