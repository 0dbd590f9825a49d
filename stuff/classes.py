"""COCO-Stuff: the eighty objects of COCO and 91 kinds of stuff, without a background."""

from coco14.classes import COCO14
from coco14.classes import UNUSED_CATEGORIES as COCO14_UNUSED
from tool.colour import palette_of, shifted_palette
from tool.dataset import DataSet

SPLITS = ("train2017", "val2017")
ANNOTATIONS, MASKS = "stuffthingmaps", "SegmentationClassStuff"
# COCO-Stuff numbers its 182 categories from 0 in masks; these, COCO's and one of its own, have no pixel.
UNUSED_CATEGORIES = (*(number - 1 for number in COCO14_UNUSED), 90)
CATEGORIES = 182
STUFF = DataSet(
    name="stuff",
    title="COCO-Stuff",
    classes=(
        *COCO14.classes,
        "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard",
        "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard",
        "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble", "floor-other", "floor-stone",
        "floor-tile", "floor-wood", "flower", "fog", "food-other", "fruit", "furniture-other", "grass",
        "gravel", "ground-other", "hill", "house", "leaves", "light", "mat", "metal", "mirror-stuff", "moss",
        "mountain", "mud", "napkin", "net", "paper", "pavement", "pillow", "plant-other", "plastic", "platform",
        "playingfield", "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea",
        "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
        "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable", "wall-brick",
        "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile", "wall-wood", "water-other",
        "waterdrops", "window-blind", "window-other", "wood",
    ),
    background=False,
    palette=palette_of(shifted_palette()[:171], repeat_last=True),
    images=SPLITS,
    masks=tuple(f"{MASKS}/{split}" for split in SPLITS),
    suffixes=(".jpg",),
    prepare="python -m stuff.prepare",
)  # fmt: skip
