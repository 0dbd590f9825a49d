"""The paper's figures come from the demo's files, and show the numbers that training has."""

import json
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data.labels import load_labels
from method.hsc.contrast import class_contrast
from paper.figures.demo import Demo
from paper.figures.step import class_anchors, pixel_losses, region_means, take_step
from tests.scripts.conftest import ROOT, TINY, Data, assert_refused, assert_succeeded, forker, run
from tool.artifact import load_label_map, save_cam, save_label_map
from tool.cli import UserError
from voc12 import mini
from voc12.classes import VOC12

NAMES = ["class", "cross", "overview", "pixel", "region"]
MOST_BYTES = 200_000


def run_figures(*words):
    return forker().run(["-m", "paper.figures", *words], ROOT)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Demo:
    """What `demo.py` leaves, in its places: a run of one step; seeds and predictions are masks and noise. As in its
    quick version, a batch has more images than the list that is shown."""
    demo = Demo(tmp_path_factory.mktemp("demo"))
    mini.generate(demo.data, seed=3, train=8, train_aug=12, val=4, test=2, size=56)
    assert_succeeded(forker().run(["-m", "voc12.prepare", "--voc12_root", demo.voc, "--out", demo.data], ROOT))
    flags = {**TINY, **Data(demo.data).for_training(), "--batch_size": 12, "--max_iters": 1, "--work_dir": demo.root}
    assert_succeeded(run("train_voc.py", flags))
    random = np.random.default_rng(0)
    labels = load_labels(demo.data / "cls_labels.npy", VOC12)
    for folder in (demo.run / "cam_npy", demo.run / "cam_png", demo.crf_seeds, demo.predictions):
        folder.mkdir(parents=True)
    for number, image_id in enumerate(demo.ids("train")):
        truth = load_label_map(demo.truth(image_id), VOC12)
        cams = {c: random.random(truth.shape, np.float32) for c in np.flatnonzero(labels[image_id]).tolist()}
        save_cam(demo.run / "cam_npy" / f"{image_id}.npy", cams, VOC12)
        truth[:number] = 0  # the later in the list, the worse
        for folder in (demo.run / "cam_png", demo.crf_seeds):
            save_label_map(folder / f"{image_id}.png", truth, VOC12)
    for image_id in demo.ids("val"):
        save_label_map(demo.predictions / f"{image_id}.png", load_label_map(demo.truth(image_id), VOC12), VOC12)
    demo.score.write_text(json.dumps({"mIoU": 100.0}))
    return demo


@pytest.fixture(scope="module")
def step(demo):
    return take_step(demo, demo.ids("train")[-1])  # the batch goes on at the list's beginning


def test_all_figures_are_drawn_from_the_demo_and_are_small(demo, tmp_path):
    done = run_figures("--demo", demo.root, "--out", tmp_path)
    assert_succeeded(done)
    assert sorted(done.stdout.split()) == [str(tmp_path / f"{name}.png") for name in NAMES]
    assert sorted(path.stem for path in tmp_path.iterdir()) == NAMES
    for path in tmp_path.iterdir():
        picture = Image.open(BytesIO(path.read_bytes()))
        assert picture.format == "PNG" and picture.width > 900
        assert "transparency" not in picture.info  # readable on light and dark pages


@pytest.mark.parametrize("missing", ["data", "hsc/hsc.pth", "deeplab_seeds/results/val_score.json"])
def test_a_demo_that_has_not_run_is_refused_in_one_line(demo, tmp_path, missing):
    for path in ("data", "hsc/hsc.pth", "hsc/last.ckpt", "hsc/crf/crf_8_7", "deeplab_seeds/results/val_score.json"):
        if path != missing:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).symlink_to(demo.root / path)
    with pytest.raises(UserError, match=f"found no {missing} in it; run make demo first") as caught:
        Demo(tmp_path).require()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"batch_size": 1', "[1, 2]", "null"])
def test_damaged_settings_of_the_demo_are_named(tmp_path, text):
    path = tmp_path / "hsc" / "args.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        Demo(tmp_path).settings()
    assert str(path) in str(caught.value) and "run make demo anew" in str(caught.value)


def test_the_command_names_the_demo_that_is_missing(tmp_path):
    done = run_figures("--demo", tmp_path / "nowhere", "--out", tmp_path)
    assert_refused(done, f"--demo {tmp_path / 'nowhere'}", "run make demo first")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_images_shown_are_those_of_two_classes_with_the_best_seeds(demo):
    labels = load_labels(demo.data / "cls_labels.npy", VOC12)
    pairs = [image_id for image_id in demo.ids("train") if labels[image_id].sum() == 2]
    others = [image_id for image_id in demo.ids("train") if labels[image_id].sum() != 2]
    assert pairs and others
    ranked = demo.best("train", demo.crf_seeds, count=8)
    assert set(ranked[: len(pairs)]) == set(pairs)
    wrong = {
        name: (load_label_map(demo.crf_seeds / f"{name}.png", VOC12) != load_label_map(demo.truth(name), VOC12))
        for name in ranked
    }
    inside = {name: wrong[name][load_label_map(demo.truth(name), VOC12) != 255].mean() for name in ranked}
    for group in (ranked[: len(pairs)], ranked[len(pairs) :]):
        assert [inside[name] for name in group] == sorted(inside[name] for name in group)


def test_the_pooled_features_shown_are_those_of_rsc(step):
    mean_VNRD, config = region_means(step), step.config
    background, foreground = mean_VNRD.unbind(2)

    def distance(u, v):
        cosine = (background[u] @ foreground[v].T).clamp(config.min_cosine, 1 - config.min_cosine)
        return -(1 - cosine).log().mean()

    pairs = (distance(0, 0) + distance(1, 1) + distance(0, 1) + distance(1, 0)) / 2
    bank = (step.banks["region_bank"][:, None] - mean_VNRD).abs().mean((1, 3)).sum() / 2
    assert float(0.1 * (pairs + bank)) == pytest.approx(step.losses["rsc"], rel=1e-4)


def test_the_anchors_shown_are_those_of_csc(step):
    levels, before = step.levels, step.banks["class_bank"]
    given = levels.feat_region_VNDHW, levels.cam_VNLHW, levels.label_NK, before
    after = class_contrast(*given, bank=True, cross=True, config=step.config).bank
    anchor, present = class_anchors(step), levels.label_NK.amax(0).nonzero().flatten().tolist()
    total = 0.0
    for label in present:
        rows = torch.cat([after[:, :label], before[:, label:]], dim=1)  # lower classes have moved already
        logits = torch.einsum("vd,uld->vul", anchor[:, label], F.normalize(rows, dim=-1)) / 0.1
        total += float((logits.logsumexp(-1) - logits[..., label]).sum())
    assert 0.1 * total / 4 / len(present) == pytest.approx(step.losses["csc"], rel=1e-4)


def test_the_losses_of_the_pixels_shown_are_those_of_psc(step):
    parts = [float(losses.mean()) for pair in pixel_losses(step).values() for losses in pair]
    assert len(parts) == 8
    assert 0.05 * sum(parts) == pytest.approx(step.losses["psc"], rel=1e-4)


def test_every_figure_is_small_and_shown_with_words_for_those_who_do_not_see_it():
    figures = ROOT / "paper" / "figures"
    assert sorted(path.stem for path in figures.glob("*.png")) == NAMES
    assert all(path.stat().st_size < MOST_BYTES for path in figures.glob("*.png"))
    shown = {}
    for page in (ROOT / "README.md", ROOT / "paper" / "method.md"):
        for words, path in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", page.read_text()):
            shown[(page.parent / path).resolve()] = words
    for path in figures.glob("*.png"):
        assert len(shown[path.resolve()]) > 40, path
