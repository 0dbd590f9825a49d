"""Several images at once in one process, each from its decoding to its files, give the files of one after the other."""

import os
from argparse import Namespace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import image_size
from method.inference import load_on, make_cam
from method.outputs import Outputs
from method.seeds import make_seeds
from network.build import build_network
from network.weights import released_state_dict
from tests.scripts.conftest import contents
from tool.per_image import Job, NetProcess, Processes, Work, process_images
from tool.pipeline import Pool, queue_of, run_pools
from tool.seed_recipe import CRFRecipe, SeedRecipe
from voc12.classes import VOC12

IDS = [f"image {number}" for number in range(6)]
RECIPE = SeedRecipe(scales=(0.5, 1.0))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The images' folder, inference.py's flags about the net, and each image's classes."""
    folder = tmp_path_factory.mktemp("inputs")
    generator = np.random.default_rng(0)
    for number, image_id in enumerate(IDS):
        pixels = generator.integers(0, 256, (5, 6, 3), np.uint8)
        Image.fromarray(pixels).resize((48 + 3 * number, 40)).save(folder / f"{image_id}.jpg")
    torch.manual_seed(0)
    net = build_network("resnet38_hsc", num_classes=20, width=0.0625, frozen=False)
    torch.save(released_state_dict(net), folder / "net.pth")
    flags = {"network": "resnet38_hsc", "backbone": "resnet38d", "width": 0.0625, "weights": str(folder / "net.pth")}
    args = Namespace(**flags, method="hsc", data_set="voc12", background_last=False, amp="off", scn=None)
    return folder, args, {i: [n, n + 5] for n, i in enumerate(IDS)}


def outputs_in(folder):
    crf = {CRFRecipe(iterations=3): folder / "crf"}
    outputs = Outputs(folder / "cam_npy", folder / "cam_png", crf, folder / "overlay", 0.22, VOC12)
    for place in outputs.folders:
        place.mkdir(parents=True)
    return outputs


def jobs_for(inputs, outputs, *, has_cam=()):
    image_root, _, classes = inputs
    jobs = []
    for image_id in IDS:
        path = image_root / f"{image_id}.jpg"
        for_cam = None if image_id in has_cam else (classes[image_id], path, RECIPE, outputs)
        jobs.append(Job(image_id, for_cam, (True, list(outputs.crf), path, outputs)))
    return jobs


def work_on(inputs):
    return Work(make_cam, make_seeds, partial(load_on, inputs[1]))


def infer_together(inputs, outputs, *, threads, has_cam=()):
    work = work_on(inputs)
    start = partial(NetProcess.start, queue_of(["cpu"]), work.load, 1)
    pool = Pool("image", work.both, 1, threads=threads, start=start)
    pool.waiting.extend(jobs_for(inputs, outputs, has_cam=has_cam))
    assert run_pools(pool) == []


def test_threads_that_do_all_of_an_image_write_what_two_pools_write(inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the number of these changes the last bits
    apart, together = outputs_in(tmp_path / "apart"), outputs_in(tmp_path / "together")
    problems = process_images(jobs_for(inputs, apart), work_on(inputs), Processes(["cpu"], "torch", 1))
    assert problems == []
    infer_together(inputs, together, threads=3)
    files = contents(tmp_path / "apart")
    assert len([name for name in files if "image" in name]) == 5 * len(IDS)
    assert contents(tmp_path / "together") == files


def test_label_maps_and_overlays_older_than_the_cam_dict_are_made_anew(inputs, tmp_path):
    outputs, image_id = outputs_in(tmp_path), IDS[2]
    infer_together(inputs, outputs, threads=2)
    shape = image_size(inputs[0] / f"{image_id}.jpg")[::-1]
    assert outputs.missing_seeds(image_id, inputs[2][image_id], shape) == (False, [])
    assert not outputs.lacks_overlay(image_id)
    later = (outputs.overlay / f"{image_id}.png").stat().st_mtime + 10
    os.utime(outputs.cam_npy / f"{image_id}.npy", (later, later))  # a run with neither made it of corrected labels
    assert outputs.missing_seeds(image_id, inputs[2][image_id], shape) == (True, [])
    assert outputs.lacks_overlay(image_id)


def test_an_image_whose_cams_are_there_keeps_them_and_gets_its_seeds(inputs, tmp_path):
    outputs = outputs_in(tmp_path)
    infer_together(inputs, outputs, threads=2)
    whole = contents(tmp_path)
    kept = outputs.cam_npy / f"{IDS[2]}.npy"
    before = kept.stat().st_mtime_ns
    (outputs.crf[CRFRecipe(iterations=3)] / f"{IDS[2]}.png").unlink()
    infer_together(inputs, outputs, threads=2, has_cam=IDS)
    assert kept.stat().st_mtime_ns == before
    assert contents(tmp_path).keys() == whole.keys()
