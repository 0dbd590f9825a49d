"""MSA's seeds and its sweep of thresholds, ours and the plain ways, timed."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmark.eval_curve import HEIGHT, NUM_LABELS, WIDTH, make_files
from benchmark.superpixel_times import plain_up
from benchmark.timing import TIMES, report, seconds
from data.score import count_images
from method import METHODS
from method.msa.config import CONFIGS
from method.msa.learner import MSALearner
from method.superpixels import Superpixels
from network.fold import fold_norms
from network.msa import MSANet
from network.scn import SCN
from tool.artifact import load_cam, load_label_map
from tool.cam import EPSILON, multi_scale_cam
from tool.device import place
from tool.metric import SWEEP, iou
from tool.msa_cam import save_msa_cam
from voc12.classes import VOC12

CLASSES = (3, 14)
METHOD = "msa_image"
CPU = torch.device("cpu")


# -- the sweep ---------------------------------------------------------------------------------------------------------


def sweep_times(images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pairs = make_files(Path(folder), images)
        arrays = []
        for cam, truth in pairs:
            arrays.append((cam.with_suffix(".msa.npy"), truth))
            save_msa_cam(arrays[-1][0], load_cam(cam, VOC12), VOC12, shape=(HEIGHT, WIDTH))
        plain, expected = seconds(lambda: plain_sweep(arrays), CPU, 1)
        ways = {"MSA's arrays read once": arrays, "CAM dicts read once": pairs}
        print(f"{len(SWEEP)} thresholds over {images} images of {WIDTH} x {HEIGHT}, one process")
        for name, files in ways.items():
            taken, found = seconds(partial(our_sweep, files), CPU, 1)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
            report("every array for every threshold", plain, name, taken)


def our_sweep(pairs: Sequence[tuple[Path, Path]]) -> Tensor:
    """The mIoUs in 0..1, as eval.py has them."""
    return torch.from_numpy(iou(count_images(pairs, "npy", VOC12, thresholds=SWEEP, num_workers=1)[0]).mean(axis=1))


def plain_sweep(pairs: Sequence[tuple[Path, Path]]) -> Tensor:
    """The same, one threshold, one file and one label at a time."""
    means = []
    for threshold in SWEEP:
        intersection, union = np.zeros(NUM_LABELS), np.zeros(NUM_LABELS)
        for path, truth_path in pairs:
            target, scores = load_label_map(truth_path, VOC12), np.load(path)[0]
            scores[0] = threshold
            prediction = scores.argmax(axis=0)
            for label in range(NUM_LABELS):
                predicted, truth = (prediction == label) & (target != 255), target == label
                intersection[label] += (predicted & truth).sum()
                union[label] += (predicted | truth).sum()
        means.append((intersection / np.maximum(union, 1)).mean())
    return torch.tensor(means, dtype=torch.float64)


# -- an image's seeds --------------------------------------------------------------------------------------------------


def seed_times(size: tuple[int, int], backbone: str, device: torch.device) -> None:
    torch.manual_seed(0)
    net, scn = MSANet(backbone, num_classes=VOC12.num_classes).eval(), SCN().eval()
    config = CONFIGS[METHOD]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    learner = MSALearner(place(net, device, "off"), config, VOC12).eval().requires_grad_(False)
    scn = place(scn, device, "off").requires_grad_(False)
    times = 1 if device.type == "cpu" else TIMES  # a GPU's first one starts its libraries, too
    plain, expected = seconds(lambda: plain_seeds(learner, scn, image, device), device, times)
    fold_norms(learner.net)
    learner.superpixels = Superpixels(fold_norms(scn))

    def ours() -> Tensor:
        maps = partial(learner.maps, device=device)
        cams = multi_scale_cam(maps, image, CLASSES, recipe=METHODS[METHOD].seeds, device=device)
        return torch.from_numpy(np.stack([*cams.values()]))

    fast, found = seconds(ours, device, times)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    print(f"MSA's seeds of an image of {size[1]} x {size[0]} by {backbone} ({device.type}, one thread on a CPU)")
    report("a view at a time, all labels", plain, "the image's classes, norms folded", fast)


@torch.inference_mode()
def plain_seeds(learner: MSALearner, scn: SCN, image: Image.Image, device: torch.device) -> Tensor:
    """The CAMs, (2, H, W) on the CPU, as paper/method.md, MSA, says it: all labels of a view, kept till the end."""
    recipe, config = METHODS[METHOD].seeds, learner.config
    whole = learner.net.normalisation(image, device)[None]
    frame = recipe.frame(tuple(whole.shape[2:]))
    views = []
    for mirrored in (False, True):
        seen = whole.flip(-1) if mirrored else whole
        for scale in recipe.scales:
            scaled = [max(round(side * scale), 1) for side in seen.shape[2:]]
            cells = [-(-side // 16) * 16 for side in scaled]
            small = F.interpolate(seen, scaled, mode="bilinear", align_corners=False)
            pixels = F.interpolate(small, cells, mode="bilinear", align_corners=False)
            association = scn(F.interpolate(seen, cells, mode="bilinear", align_corners=False))
            logits = learner.net(pixels, association, steps=config.steps, threshold=config.threshold).logits
            maps = F.interpolate(plain_up(logits, association), frame, mode="bilinear", align_corners=False)
            views.append(maps.flip(-1) if mirrored else maps)
    total = torch.cat(views).sum(0).relu()
    cams = (total - EPSILON).relu() / (total.amax((1, 2), keepdim=True) + EPSILON)
    cams = F.interpolate(cams[None], whole.shape[2:], mode="bilinear", align_corners=False)[0]
    return cams[[index + 1 for index in CLASSES]].cpu()
