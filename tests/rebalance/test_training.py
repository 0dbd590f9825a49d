"""What a run of DHR's training shows of a step."""

import numpy as np
import torch

from rebalance.training import picture_of
from voc12.classes import VOC12


def test_a_picture_has_the_image_the_mask_and_the_labels_in_their_colours():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (2, 4, 5, 3), generator=generator, dtype=torch.uint8)
    mask, labels = (torch.tensor(values).view(1, 4, 5).expand(2, -1, -1) for values in ([255] * 20, [*range(20)]))
    found = picture_of({"picture": pictures, "mask": mask.byte()}, labels, VOC12).permute(1, 2, 0).numpy()
    assert found.shape == (4, 15, 3) and found.dtype == np.uint8
    assert (found[:, :5] == pictures[0].numpy()).all() and (found[:, 5:10] == VOC12.palette[255]).all()
    assert (found[:, 10:] == VOC12.palette[np.arange(20).reshape(4, 5)]).all()
