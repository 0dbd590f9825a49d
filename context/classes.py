"""PASCAL Context: the 59 most frequent classes of VOC 2010's images, objects and surroundings, without a background."""

from tool.colour import palette_of, shifted_palette
from tool.dataset import DataSet

IMAGES, ANNOTATIONS, MASKS = "JPEGImages", "trainval", "SegmentationClassContext"
CONTEXT = DataSet(
    name="context",
    title="PASCAL Context",
    classes=(
        "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building",
        "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog",
        "door", "fence", "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike",
        "mountain", "mouse", "person", "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves",
        "sidewalk", "sign", "sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall",
        "water", "window", "wood",
    ),
    background=False,
    palette=palette_of(shifted_palette()[:59], repeat_last=True),
    images=(IMAGES,),
    masks=(MASKS,),
    suffixes=(".jpg",),
    prepare="python -m context.prepare",
)  # fmt: skip
# The classes' numbers among the 459 and more that images are annotated with, from 1; all others are void.
NUMBERS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98,
    104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308,
    324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
