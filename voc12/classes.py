"""PASCAL VOC 2012: twenty classes, in VOC's order, and a background."""

from tool.dataset import DataSet

VOC12 = DataSet(
    name="voc12",
    title="VOC",
    classes=(
        "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
    suffixes=(".jpg",),
    prepare="python -m voc12.prepare",
    relabel="python -m voc12.relabel",
    submission="python -m segmentation.submission",
)  # fmt: skip
CLASSES = VOC12.classes
NUM_CLASSES = VOC12.num_classes
