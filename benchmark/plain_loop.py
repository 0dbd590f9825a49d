"""The files of inference.py, made as public code makes them: one process that does one thing after the other."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from data.images import load_rgb
from data.labels import labels_of, load_labels
from data.normalisation import IMAGENET
from network.build import build_network
from network.weights import load_weights
from tool.artifact import save_cam, save_crf, save_label_map
from tool.cam import seed_labels
from tool.crf import crf_seed, resolve_backend
from tool.device import resolve_device
from tool.seed_recipe import CRFRecipe
from voc12.classes import VOC12

SCALES = (0.5, 1.0, 1.5, 2.0)
THRESHOLD, ALPHA, ITERATIONS = 0.22, 7.0, 8


@torch.no_grad()
def plain_loop(args: argparse.Namespace, ids: list[str], out: Path) -> None:
    """Make the files of `ids` under `out`; `args` are those of `benchmark.infer`."""
    device = resolve_device(args.device)
    net = build_network("resnet38_hsc", num_classes=VOC12.num_classes, backbone=args.backbone, width=args.width)
    load_weights(net, args.weights)
    net = net.to(device).eval()
    labels = labels_of(ids, load_labels(args.labels, VOC12), VOC12, source=str(args.labels))
    for folder in ("cam_npy", "cam_png", "crf"):
        (out / folder).mkdir()
    backend = resolve_backend("auto", torch.device("cpu"))
    for image_id in ids:
        image = load_rgb(Path(args.data_root) / f"{image_id}.jpg")
        total = np.zeros((VOC12.num_classes, image.height, image.width), np.float32)
        for scale in SCALES:
            resized = image.resize((round(image.width * scale), round(image.height * scale)), 3)
            for mirrored in (False, True):
                pixels = IMAGENET(resized)[None].to(device)
                cam = net.foreground_cam(pixels.flip(-1) if mirrored else pixels)
                cam = F.interpolate(cam, (image.height, image.width), mode="bilinear", align_corners=False)
                cam = (cam.flip(-1) if mirrored else cam)[0].cpu().numpy()
                total += cam
        cams = {}
        for index in np.flatnonzero(labels[image_id]).tolist():
            cams[index] = total[index] / (total[index].max() + 1e-5)
        save_cam(out / "cam_npy" / f"{image_id}.npy", cams, VOC12)
        save_label_map(
            out / "cam_png" / f"{image_id}.png", seed_labels(cams, threshold=THRESHOLD, shape=image.size[::-1]), VOC12
        )
        posteriors = crf_seed(
            np.asarray(image), cams, recipe=CRFRecipe(ITERATIONS, ALPHA), num_classes=VOC12.num_classes, backend=backend
        )
        best = np.array(list(posteriors), np.uint8)[np.stack(list(posteriors.values())).argmax(0)]
        save_label_map(out / "crf" / f"{image_id}.png", best, VOC12)
        save_crf(out / "crf" / f"{image_id}.npy", posteriors, VOC12)
