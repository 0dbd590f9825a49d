"""MSA with saliency maps: as msa_image, but that class maps rebuild an image's saliency map; then DeepLab.

    python run.py msa_sal --voc12_root VOC2012 --saliency_root VOC2012/saliency

Figures: none are published with the code; ours are the first that anyone can repeat. What is chosen on masks, and what
DeepLab starts from: recipes/msa_image.py.
Needs ResNet-50's ImageNet weights in network/ (docs/from_msa.md).
"""

from recipes import msa_image
from tool.recipe import Setup, Stage


def stages(setup: Setup) -> list[Stage]:
    return msa_image.stages(setup, "msa_sal", saliency=True)
