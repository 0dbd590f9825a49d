"""MSA with saliency maps on COCO 2014: every flag is as on VOC; weights and threshold are chosen on 1,000 train images.

    python run.py msa_sal_coco --coco14_root COCO --saliency_root COCO/saliency

Figures: none. Needs ResNet-50's ImageNet weights in network/ (docs/from_msa.md).
"""

from recipes import msa_sal
from tool.recipe import Setup, Stage

DATA = "coco14_root"  # the flag of run.py that leads to it


def stages(setup: Setup) -> list[Stage]:
    return msa_sal.stages(setup)
