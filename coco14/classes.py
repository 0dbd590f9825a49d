"""COCO 2014: eighty classes, in the order of its categories, and a background."""

from tool.dataset import DataSet

SPLITS = ("train2014", "val2014")  # a folder of images each, and one of masks
MASKS = "SegmentationClass"
# **Q** as the masks of val2014 are handed on; the right spelling comes first.
MISSPELT_MASKS = "SegmentationClas"
# COCO numbers its categories 1 to 90; these ten numbers have none.
UNUSED_CATEGORIES = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)

COCO14 = DataSet(
    name="coco14",
    title="COCO",
    classes=(
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
        "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
        "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
        "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
        "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
        "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
        "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
        "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
        "hair drier", "toothbrush",
    ),
    images=SPLITS,
    masks=tuple(f"{folder}/{split}" for folder in (MASKS, MISSPELT_MASKS) for split in SPLITS),
    suffixes=(".jpg",),
    prepare="python -m coco14.prepare",
)  # fmt: skip
CLASSES = COCO14.classes
NUM_CLASSES = COCO14.num_classes
# From the number of a category to its class, from 0.
CLASS_OF_CATEGORY = {
    category: index
    for index, category in enumerate(category for category in range(1, 91) if category not in UNUSED_CATEGORIES)
}
