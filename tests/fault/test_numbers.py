"""Nothing that the data hold, or lack, puts a value that is no number into a file."""

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.labels import load_labels, save_labels
from network.build import build_network
from network.weights import released_state_dict
from segmentation.crf import crf_labels
from tests.fault.commands import words_of
from tests.fault.conftest import COUNTS, settings
from tests.needs import needs_pydensecrf
from tests.scripts.conftest import TINY, WIDTH, load
from tool.artifact import load_cam, load_crf, load_label_map
from tool.cam import multi_scale_cam, seed_labels
from tool.checkpoint import _tensors
from tool.crf import crf_from_labels, crf_from_probability, crf_seed
from tool.seed_recipe import LABEL_KERNELS, CRFRecipe, SeedRecipe
from voc12.classes import VOC12

BACKENDS = (pytest.param("pydensecrf", marks=needs_pydensecrf), "torch")
SHAPE = (12, 17)


def no_number(text):
    raise AssertionError(f"{text} in a JSON file")


def assert_all_finite(folder):
    """Every number in every file below the folder: states, maps, scores, curves and logs."""
    for path in folder.rglob("*"):
        if path.suffix in (".pth", ".ckpt"):
            for name, value in _tensors(load(path), ""):
                assert value.isfinite().all(), f"{path.name}: {name}"
        elif path.suffix == ".json":
            json.loads(path.read_text(), parse_constant=no_number)
        elif path.name == "log" or path.suffix == ".txt":
            assert not re.search(r"\b(nan|inf)\b", path.read_text(), re.IGNORECASE), path.read_text()
        elif "tfevents" in path.name:
            events = EventAccumulator(str(path)).Reload()
            for name in events.Tags()["scalars"]:
                assert all(math.isfinite(event.value) for event in events.Scalars(name)), name
        elif path.parent.name == "cam_npy" and path.suffix == ".npy":
            load_cam(path, VOC12)  # refuses what is not finite
        elif path.suffix == ".npy":
            load_crf(path, VOC12)
        elif path.suffix == ".png":
            load_label_map(path, VOC12)


def of_one_colour(data):
    """Images of one colour each, another in each."""
    for number, name in enumerate(data.ids):
        path = data.images / f"{name}.jpg"
        with Image.open(path) as image:
            Image.new("RGB", image.size, (number * 17, 255 - number * 17, 0)).save(path, "JPEG", quality=100)


def saliency_of(value):
    """One value in all maps, but for a white pixel: maps that are all black are refused."""

    def fill(data):
        for name in data.ids:
            path = data.saliency / f"{name}.png"
            with Image.open(path) as image:
                filled = Image.new("L", image.size, value)
            filled.putpixel((0, 0), 255)
            filled.save(path)

    return fill


def labels_of(change):
    def write(data):
        save_labels(data.labels, {name: change(label) for name, label in load_labels(data.labels, VOC12).items()})

    return write


STRANGE_DATA = {
    "hardly any saliency": saliency_of(0),
    "nothing but saliency": saliency_of(255),
    "images of one colour": of_one_colour,
    "one class for all": labels_of(lambda label: np.eye(20, dtype=np.float32)[7]),
    "every class in every image": labels_of(lambda label: np.ones(20, np.float32)),
    "hardly any saliency, one colour, one class": lambda data: [
        saliency_of(0)(data), of_one_colour(data), STRANGE_DATA["one class for all"](data)
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE_DATA)
def test_training_on_strange_data_writes_numbers_only(name, commands, data, tmp_path):
    copy = data.copy(tmp_path / "data")
    STRANGE_DATA[name](copy)
    COUNTS["bad inputs tried"] += 1
    flags = {**TINY, **copy.for_training(), "--work_dir": "exps", "--max_iters": 3, "--log_every": 1, "--eval": ()}
    done = commands.run(words_of("train_voc.py", {**flags, "--val_list": copy.train_list}), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout + done.stderr
    assert_all_finite(tmp_path / "exps")


@pytest.mark.parametrize("rate", ["1e6", "1e20", "1e30"])
def test_a_stage_1_run_that_diverges_stops_and_leaves_numbers_only(commands, data, tmp_path, rate):
    flags = {**TINY, **data.for_training(), "--work_dir": "exps", "--max_iters": 8, "--save_every": 1, "--lr": rate}
    COUNTS["bad inputs tried"] += 1
    done = commands.run(words_of("train_voc.py", flags), folder=tmp_path)
    assert done.returncode == 2, done.stdout
    assert re.search(r"error: (the loss \w+ is|.*last\.ckpt: not written, as )", done.stderr), done.stderr
    assert not list(tmp_path.rglob("*.pth"))
    assert_all_finite(tmp_path / "exps")


def test_a_stage_3_run_that_diverges_stops_and_leaves_numbers_only(commands, segmentation_keys, tmp_path):
    steps = {"TRAIN_ITERATION": 8, "TRAIN_SAVE_EVERY": 1, "TRAIN_BATCHES": 4, "DATA_RANDOMCROP": 33, "DATA_WORKERS": 0}
    COUNTS["bad inputs tried"] += 1
    flags = settings(segmentation_keys, steps, {"TRAIN_LR": 1e20})
    done = commands.run(words_of("segmentation/experiment/train.py", flags), folder=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert not list(tmp_path.rglob("*_all.pth"))
    assert_all_finite(tmp_path / "exps")


def test_images_of_one_colour_and_a_net_that_sees_nothing_give_seeds_of_background(commands, data, tmp_path):
    copy = data.copy(tmp_path / "data")
    of_one_colour(copy)
    state = released_state_dict(build_network("resnet38_cls", num_classes=20, width=WIDTH))
    torch.save({**state, "fc8.weight": torch.zeros_like(state["fc8.weight"])}, tmp_path / "blind.pth")
    (tmp_path / "short.txt").write_text("\n".join(copy.ids[:3]))
    COUNTS["bad inputs tried"] += 1
    flags = {
        **{**copy.for_inference(), "--infer_list": "short.txt", "--weights": "blind.pth", "--work_dir": "exps"},
        **{"--network": "resnet38_cls", "--width": WIDTH, "--device": "cpu", "--crf_workers": 1},
    }
    done = commands.run(words_of("inference.py", flags), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in copy.ids[:3]:
        assert all((cam == 0).all() for cam in load_cam(tmp_path / "exps" / "cam_npy" / f"{name}.npy", VOC12).values())
        assert (load_label_map(tmp_path / "exps" / "cam_png" / f"{name}.png", VOC12) == 0).all()
    places = {"--list": "short.txt", "--predict_dir": "exps/cam_npy", "--type": "npy", "--curve": ()}
    truth = copy.root / "VOC2012" / "SegmentationClassAug"
    flags = {**places, "--gt_dir": truth, "--comment": "none", "--json": "exps/scores.json", "--num_workers": 1}
    done = commands.run(words_of("eval.py", flags), folder=tmp_path)
    assert done.returncode == 0 and "nan" not in done.stdout, done.stderr
    assert_all_finite(tmp_path / "exps")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 12)])
def test_cams_of_any_size_from_a_net_that_sees_nothing_are_zero(size):
    COUNTS["bad inputs tried"] += 1
    cams = multi_scale_cam(
        lambda image, scale, classes: torch.zeros(len(classes), 3, 3),
        Image.new("RGB", size, (0, 255, 7)),
        [2, 14],
        recipe=SeedRecipe(scales=(0.5, 2)),
        device=torch.device("cpu"),
    )
    assert all((cam == 0).all() and cam.shape == size[::-1] for cam in cams.values())
    assert (seed_labels(cams, threshold=0.0, shape=cams[min(cams)].shape) == 0).all()


IMAGES = {
    "one colour": np.full((*SHAPE, 3), 130, np.uint8),
    "black": np.zeros((*SHAPE, 3), np.uint8),
    "two colours": np.repeat((np.arange(SHAPE[1]) > 8)[None, :, None], SHAPE[0], 0).astype(np.uint8).repeat(3, 2) * 255,
}
SCORES = {"zero": 0.0, "one": 1.0, "tiny": 1e-30, "half": 0.5}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("score", SCORES)
def test_the_crf_gives_finite_posteriors_whatever_the_image_and_the_scores(backend, image, score):
    COUNTS["bad inputs tried"] += 1
    pixels, maps = IMAGES[image], np.full(SHAPE, SCORES[score], np.float32)
    posteriors = crf_seed(pixels, {3: maps, 14: maps}, recipe=CRFRecipe(8, 7), num_classes=20, backend=backend)
    assert all(np.isfinite(posterior).all() for posterior in posteriors.values())
    np.testing.assert_allclose(sum(posteriors.values()), 1, atol=1e-4)
    equal = torch.from_numpy(maps).expand(21, -1, -1)
    every = crf_from_probability(torch.from_numpy(pixels), equal, kernels=LABEL_KERNELS, iterations=10, backend=backend)
    assert every.isfinite().all()
    assert crf_labels(pixels, np.full((21, *SHAPE), 1 / 21, np.float32), backend=backend).max() <= 20
    labels = torch.zeros((1, *SHAPE), dtype=torch.long)
    refined = crf_from_labels(
        torch.from_numpy(pixels)[None], labels, num_labels=21, gt_prob=0.7, kernels=LABEL_KERNELS,
        iterations=10, backend=backend,
    )  # fmt: skip
    assert (refined == 0).all()
