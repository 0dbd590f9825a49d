"""The twenty classes of PASCAL VOC, in VOC order. In label maps class c is label c + 1 and 0 is background."""

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
NUM_CLASSES = len(CLASSES)
LABEL_NAMES = ("background", *CLASSES)
IGNORE = 255
