"""CUB-200-2011 (Wah et al., 2011): birds of 200 kinds, one an image, each in a box. Their names come with its files."""

from collections.abc import Sequence

from tool.dataset import DataSet

IMAGES = "images"  # the folder of <class>/<file>
# Text files, a line an image (or a class), each beginning with its number from 1.
IMAGE_FILE, LABEL_FILE, SPLIT_FILE = "images.txt", "image_class_labels.txt", "train_test_split.txt"
BOX_FILE, CLASS_FILE = "bounding_boxes.txt", "classes.txt"


def cub(names: Sequence[str]) -> DataSet:
    """The data set whose classes.txt has `names`."""
    return DataSet(
        name="cub",
        title="CUB-200-2011",
        classes=tuple(names),
        background=False,
        images=(IMAGES,),
        prepare="python -m cub.prepare",
    )
