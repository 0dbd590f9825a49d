"""A label map of an image's instances: which label a pixel has that several instances, or none, cover."""

from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from coco14.annotations import Annotated, Instance
from coco14.classes import COCO14
from tool.artifact import load_label_map, save_label_map
from tool.cli import UserError
from tool.dataset import IGNORE


def label_map(image: Annotated) -> np.ndarray:
    """The labels of an image, uint8 (H, W): 0 background, class + 1, 255 in crowds.

    COCO does not say which of several instances a pixel belongs to. Ours: the smaller, as the cup on the table and what
    the person carries, are in front; of equal ones the later. Crowds, whose objects nobody outlined, are left out of
    scores, but for the instances in front of them.
    """
    covers = [(instance, _covered(instance, image.shape)) for instance in image.instances]
    # Crowds first, then the larger before the smaller, which are painted over them.
    covers.sort(key=lambda cover: (not cover[0].is_crowd, -int(coco_mask.area(cover[1]))))
    labels = np.zeros(image.shape, np.uint8)
    for instance, covered in covers:
        label = IGNORE if instance.is_crowd else COCO14.label_of(instance.class_index)
        labels[coco_mask.decode(covered) > 0] = label
    return labels


def _covered(instance: Instance, shape: tuple[int, int]) -> dict:
    """The pixels of an instance, in pycocotools' packed form."""
    if isinstance(instance.where, np.ndarray):
        return coco_mask.frPyObjects({"counts": instance.where, "size": list(shape)}, *shape)
    if not instance.where:
        return coco_mask.encode(np.zeros(shape, np.uint8, order="F"))
    return coco_mask.merge(coco_mask.frPyObjects(instance.where, *shape))


def make_mask(identifier: str, path: Path, image: Annotated) -> None:
    """Write the label map of an image, `identifier`, to `path`, unless one of its size is there, whole."""
    try:
        load_label_map(path, COCO14, shape=image.shape)
    except UserError:
        save_label_map(path, label_map(image), COCO14)
