"""EPS on SEAM's net: saliency maps, and the consistency of two scales (Wang et al., CVPR 2020), without HSC's contrast.

    python run.py eps_seam --voc12_root VOC2012 --saliency_root VOC2012/saliency

Figures: none are published for VOC 2012. Time: less than hsc's in training, whose steps have a CRF; as long after it.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, eps, mini
from tool.recipe import Setup, Stage


def stages(setup: Setup) -> list[Stage]:
    start = [eps.training(setup, name="train_eps")] if setup.mini else []  # there are no ImageNet weights
    train = common.training(setup, "eps_seam", mini_flags=mini.after(start))
    seeds = common.seeds(setup, train)
    return [
        *mini.data(setup),
        common.prepare(setup),
        *start,
        train,
        *seeds,
        *common.deeplab(setup, seeds[-1].makes, train),
        common.report(setup, train),
    ]
