"""EPS on COCO 2014: a classifier that learns from saliency maps too, then DeepLab on its CRF seeds.

    python run.py eps_coco --coco14_root COCO --saliency_root COCO/saliency

Every flag is as on VOC, since no settings for COCO came with those that we rebuild: 20,000 steps of 12 images are three
epochs of COCO's 82,081, at a rate that hardly decays. `--set train.max_iters=51300` trains for the rate's 15 epochs.
Figures: none. Seeds are scored on the first thousand images of train, DeepLab on val.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md). Any other recipe becomes COCO's with the line below.
"""

from recipes import eps
from tool.recipe import Setup, Stage

DATA = "coco14_root"  # the flag of run.py that leads to it


def stages(setup: Setup) -> list[Stage]:
    return eps.stages(setup)
