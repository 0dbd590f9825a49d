"""From the CAMs of an image to its seeds, of any method: what the processes of the seeds' pool do.

It imports no network, which the processes of the pool have no use for.
"""

from pathlib import Path

import numpy as np

from data.images import load_rgb, with_size
from method.outputs import Outputs
from tool.artifact import labels_of_posteriors, load_cam, load_label_map, save_crf, save_label_map
from tool.cam import seed_labels
from tool.crf import crf_seed
from tool.crf.process import CRFProcess
from tool.limits import reported_limits
from tool.plot import save_overlay
from tool.seed_recipe import CRFRecipe


def make_seeds(image_id: str, label_map: bool, settings: list[CRFRecipe], path: Path, outputs: Outputs) -> None:
    """What follows from the CAM dict of the image at `path`: its label maps, the CRF's files for each of `settings`,
    and a picture of them all."""
    cams = load_cam(outputs.cam_npy / f"{image_id}.npy", outputs.data_set)
    image = np.asarray(load_rgb(path))
    if label_map:
        for threshold, folder in outputs.label_maps:
            labels = seed_labels(cams, threshold=threshold, shape=image.shape[:2])
            save_label_map(folder / f"{image_id}.png", labels, outputs.data_set)
    for recipe in settings:
        limits = reported_limits(
            "take fewer --crf_workers, or, on a GPU, fewer --n_processes_per_gpu or --crf_backend pydensecrf",
            at=with_size(path),
        )
        with limits:
            posteriors = crf_seed(
                image,
                cams,
                recipe=recipe,
                num_classes=outputs.data_set.num_classes,
                backend=CRFProcess.backend,
                device=CRFProcess.device,
            )
        folder = outputs.crf[recipe]
        save_label_map(folder / f"{image_id}.png", labels_of_posteriors(posteriors), outputs.data_set)
        save_crf(folder / f"{image_id}.npy", posteriors, outputs.data_set)
    if outputs.overlay is not None:
        seed = {} if outputs.cam_png is None else {"seed": outputs.cam_png}
        maps = {**seed, **{str(r): at for r, at in outputs.crf.items()}}
        label_maps = {title: load_label_map(at / f"{image_id}.png", outputs.data_set) for title, at in maps.items()}
        save_overlay(outputs.overlay / f"{image_id}.png", image, cams, label_maps, outputs.data_set)
