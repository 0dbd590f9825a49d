"""The reading of CUB against the golden numbers: generated images in its layout."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data.cub import read_cub, scaled_box
from data.normalisation import IMAGENET
from localise.samples import WholeImages
from tests.golden_inputs import assert_golden, uni

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def wsol(golden):
    return np.load(golden / "crt" / "wsol.npz")


@pytest.fixture(scope="module")
def cub_root(wsol, crt_meta, tmp_path_factory):
    """Four images, the first to train on; the classes are those of the three others."""
    root = tmp_path_factory.mktemp("cub")
    (root / "images" / "1.kind").mkdir(parents=True)
    lines = {name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")}
    labels = [0, *wsol["cub_labels"]]
    for i, (width, height) in enumerate(wsol["cub_sizes"].tolist()):
        small = uni(crt_meta["seed"] + 120 + i, 1, 3, 8, 9)
        pixels = (255 * F.interpolate(small, (height, width), mode="bilinear", align_corners=False)).floor()
        Image.fromarray(pixels[0].permute(1, 2, 0).to(torch.uint8).numpy()).save(
            root / "images" / "1.kind" / f"{i}.png"
        )
        lines["images"].append(f"{i + 1} 1.kind/{i}.png")
        lines["image_class_labels"].append(f"{i + 1} {labels[i] + 1}")
        lines["train_test_split"].append(f"{i + 1} {int(i == 0)}")
        lines["bounding_boxes"].append(f"{i + 1} " + " ".join(f"{x:.1f}" for x in wsol["cub_boxes_in"][i]))
    lines["classes"] = [f"{n + 1} kind_{n}" for n in range(max(labels) + 1)]
    for name, rows in lines.items():
        (root / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows))
    return root


def test_golden_labels_and_boxes(wsol, cub_root):
    found = read_cub(cub_root)
    assert (len(found.train), len(found.test), found.data_set.num_labels) == (1, 3, max(wsol["cub_labels"]) + 1)
    assert found.test.labels.tolist() == wsol["cub_labels"].tolist()
    sizes = [tuple(size) for size in wsol["cub_sizes"][1:].tolist()]
    boxes = [scaled_box(boxes[0], size, 224) for boxes, size in zip(found.test.boxes, sizes, strict=True)]
    assert np.array_equal(boxes, wsol["cub_boxes"])


def test_golden_image(wsol, cub_root):
    sample = WholeImages(read_cub(cub_root).test, side=224, normalisation=IMAGENET)[0]
    assert_golden(sample["image"][:, ::16, ::16], wsol["cub_image"], atol=1e-2)
    assert sample["size"].tolist() == wsol["cub_sizes"][1].tolist()
