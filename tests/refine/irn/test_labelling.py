"""IRN's labels: the golden ones, what is sure of a pixel, and images without classes."""

import numpy as np
import pytest
from PIL import Image
from torch.nn import functional as F

from refine.irn.labelling import sure_labels
from tests.golden_inputs import uni
from tool.crf import resolve_backend

THRESHOLDS = {"foreground": 0.35, "background": 0.15}


def generated_cams(golden, crt_meta):
    """Of each photograph its id, image, classes, and generated maps of any size."""
    labels = np.load(golden / "inference" / "cls_labels.npy", allow_pickle=True).item()
    paths = sorted((golden / "inference" / "images").glob("*.jpg"))
    for number, path in enumerate(paths):
        classes = np.flatnonzero(labels[path.stem])
        coarse = uni(crt_meta["seed"] + 60 + number, 1, len(classes), 6, 8)

        def maps(size, power, coarse=coarse):
            (values,) = F.interpolate(coarse, size, mode="bilinear") ** power
            return values / values.amax(dim=(1, 2), keepdim=True)

        yield path.stem, Image.open(path).convert("RGB"), classes.tolist(), maps


@pytest.mark.golden
def test_sure_labels_are_the_golden_ones(golden, crt_meta, golden_device):
    expected = np.load(golden / "crt" / "labels.npz")
    backend = resolve_backend("auto", golden_device)
    for image_id, image, classes, maps in generated_cams(golden, crt_meta):
        cams = dict(zip(classes, maps(image.size[::-1], 2).numpy(), strict=True))
        found = sure_labels(np.asarray(image), cams, **THRESHOLDS, backend=backend, device=golden_device)
        assert (found == expected[f"ir_label_{image_id}"]).mean() >= 0.995


def test_between_the_thresholds_nothing_is_sure():
    """On a flat image with sharp blocks of scores."""
    scores = np.zeros((24, 48), np.float32)
    scores[:, 16:32], scores[:, 32:] = 0.25, 0.8
    image = np.zeros((24, 48, 3), np.uint8)
    image[:, 16:32], image[:, 32:] = 120, 250
    found = sure_labels(image, {4: scores}, **THRESHOLDS, backend="torch")
    assert [np.unique(part).tolist() for part in np.split(found, 3, axis=1)] == [[0], [255], [5]]


def test_two_classes_keep_their_numbers_and_no_class_is_background():
    scores = np.zeros((2, 16, 16), np.float32)
    scores[0, :, :8] = scores[1, :, 8:] = 1
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 255
    found = sure_labels(image, {11: scores[1], 3: scores[0]}, **THRESHOLDS, backend="torch")
    assert [np.unique(part).tolist() for part in np.split(found, 2, axis=1)] == [[4], [12]]
    assert not sure_labels(image, {}, **THRESHOLDS, backend="torch").any()
