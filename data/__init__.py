"""Reading any data set; `DATASETS` names those that come with the project."""

import tool  # noqa: F401, before NumPy, which takes time: Ctrl-C is to end a script's imports quietly
from ade.classes import ADE
from coco14.classes import COCO14
from context.classes import CONTEXT
from stuff.classes import STUFF
from tool.dataset import DataSet
from voc12.classes import VOC12

DATASETS: dict[str, DataSet] = {data_set.name: data_set for data_set in (VOC12, COCO14, CONTEXT, ADE, STUFF)}
