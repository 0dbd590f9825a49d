"""Scores between epochs: taken where they are due, of the net as inference has it, and no weight knows of them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from method.arguments import parse_arguments
from method.learner import LabelledImages, Moment
from method.training import ScoredRun, make_learner, make_training
from network import classifier
from tests.golden_inputs import rnd
from tests.scripts.conftest import assert_same
from tool.training_run import Run, StartedRun

FLAGS = ["--method", "cls", "--data_root", "images", "--width", "0.0625", "--batch_size", "2", "--lr", "0.01"]


@pytest.fixture
def images(tmp_path) -> LabelledImages:
    paths, labels = {}, {}
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        paths[f"image {number}"] = tmp_path / f"image {number}.jpg"
        Image.fromarray(pixels).save(paths[f"image {number}"])
        labels[f"image {number}"] = np.eye(20, dtype=np.float32)[number]
    return LabelledImages(paths, labels)


def run(monkeypatch, validate=None, saves=None, every=1):
    """Seven steps, three an epoch; `validate`, of the learner and of the steps done, after each `every`-th epoch."""
    scored = [] if validate is None else ["--eval_every", str(every)]
    monkeypatch.setattr(sys, "argv", ["train_voc.py", *FLAGS, *scored])
    args = parse_arguments()
    learner = make_learner(args, torch.device("cpu"))
    training = make_training(args, learner, num_images=6)
    batches = [{"image": rnd(n, 2, 3, 32, 32), "label": torch.eye(20)[[n, n + 5]], "id": ["a", "b"]} for n in range(7)]
    started = StartedRun(Run(Path(), vars(args), {}, False, "", ""), training, steps=range(7), log=None)
    monkeypatch.setattr(started, "save", ([] if saves is None else saves).append)
    scored_run = ScoredRun(args, learner, started, LabelledImages({}, {}), selection=None)
    monkeypatch.setattr(scored_run, "validate", lambda step: validate(learner, step))
    scored_run.train(batches, steps_per_epoch=3)
    return training.state()


def test_epochs_are_scored_and_train_on_as_if_they_were_not(monkeypatch, images):
    seen = {}

    def validate(learner, step):
        seen[step] = learner.validate(images, torch.device("cpu"))
        assert not learner.net.training

    assert_same(run(monkeypatch, validate), run(monkeypatch))
    assert list(seen) == [3, 6]
    assert all(0 < found["mean_average_precision"] <= 1 for found in seen.values())
    seen.clear()
    run(monkeypatch, validate, every=2)
    assert list(seen) == [6]


def test_a_checkpoint_follows_each_score_and_so_knows_of_the_weights_that_it_kept(monkeypatch):
    scored, saves = [], []

    def validate(learner, step):
        assert step not in saves
        scored.append(step)

    run(monkeypatch, validate, saves)
    assert (scored, saves) == ([3, 6], [3, 6, 7])
    saves.clear()
    run(monkeypatch, None, saves)
    assert saves == [7]


@pytest.mark.parametrize("method", ["hsc", "eps", "cls", "seam", "ppc"])
def test_scores_are_the_nets_logits_without_what_refines_maps(monkeypatch, method):
    monkeypatch.setattr(sys, "argv", ["train_voc.py", *FLAGS, "--method", method])
    net = make_learner(parse_arguments(), torch.device("cpu")).net.eval()
    image = rnd(3, 2, 3, 40, 56)
    expected = net(image).logits
    monkeypatch.setattr(classifier, "refine", None)  # which takes 60 GB for a photograph of 8 megapixels
    assert torch.equal(net.scores(image), expected)


def test_what_is_drawn_over_a_batch_hangs_on_seed_and_step_alone():
    def draw(**moment):
        return torch.rand(5, generator=Moment(**moment).generator(torch.device("cpu")))

    torch.manual_seed(7)  # as another process has it
    first = draw(step=3, epoch=1, seed=5)
    torch.manual_seed(8)
    assert torch.equal(draw(step=3, epoch=0, seed=5), first)
    assert not torch.equal(draw(step=4, seed=5), first) and not torch.equal(draw(step=3, seed=6), first)
