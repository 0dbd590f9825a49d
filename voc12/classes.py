"""The twenty classes of PASCAL VOC, in VOC order. In label maps class c is label c + 1 and 0 is background."""

from tool.classes import LABEL_NAMES

CLASSES = LABEL_NAMES[1:]
NUM_CLASSES = len(CLASSES)
IGNORE = 255
