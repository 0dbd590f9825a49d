"""MSA's augmentation of an image and its saliency map, at the golden draws."""

import numpy as np
import pytest
from PIL import Image
from torch.nn import functional as F

from data.augmentation import Crop, Place, TrainingAugmentation
from data.saliency import SaliencyCrop
from network.msa import COCO_STATISTICS
from tests.golden_inputs import uni

pytestmark = pytest.mark.golden


def test_golden_crops(golden, msa_meta):
    expected, seed = np.load(golden / "msa" / "augment.npz"), msa_meta["seed"]
    crop = SaliencyCrop(nearest=True, first_channel=True, dark=100)
    augmentation = TrainingAugmentation(
        crop_size=64, resize=(40, 80), normalisation=COCO_STATISTICS, jitter=False, saliency=crop
    )
    kinds = set()
    for number, kind, longer, flip, x, y, left, top, width, height in expected["draws"].tolist():
        if kind == 2:  # of the superpixel network
            continue
        kinds.add(kind)
        columns, rows = msa_meta["augment_sizes"][number]
        small = uni(seed + 150 + number, 1, 3, 9, 9)
        smooth = F.interpolate(small, (rows, columns), mode="bilinear", align_corners=False)[0]
        image = Image.fromarray((256 * smooth).floor().permute(1, 2, 0).numpy().astype(np.uint8))
        grey = (uni(seed + 160 + number, rows, columns) > 0.5).numpy() * np.uint8(90 if number == 2 else 255)
        place = Place(longer, bool(flip), Crop((left, x, width), (top, y, height)))
        picture, saliency = augmentation.at(image, Image.fromarray(grey).convert("RGB"), place)
        if kind == 0:
            np.testing.assert_allclose(picture[:, ::2, ::2], expected[f"cls_image_{number}"], atol=0.02)
        else:
            assert ((255 * saliency[0]).round().byte().numpy() == expected[f"sal_mask_{number}"]).all()
    assert kinds == {0, 1}
