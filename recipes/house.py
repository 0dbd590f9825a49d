"""The house recipe: EPS, and then EPS for longer, from its own weights; DeepLab v2 on its CRF seeds, from its weights.

    python run.py house --own_root MINE

Lengths are epochs, so that they fit any number of photographs: 15 as released, over which the rate falls to its end,
and 60 more. On photographs of five classes, with a small net, nothing gained as much as going on for longer: CRF seeds
of 61.8 after 2 + 8 epochs, 52.1 after the first 2; HSC that starts from EPS had 53.3 (docs/which_method.md). As many
epochs as here were not tried: `--set train.max_epoches=30` goes on for fewer. DeepLab has the classifier's backbone,
and starting from the classifier was worth as much there as three times the steps (docs/combine.md).
Figures: none on all of VOC, where the papers' methods are the ones to take.
Time: five times eps's in training.
Needs ResNet-38's ImageNet weights in network/ (docs/reproduce.md).
"""

from recipes import common, eps, mini
from tool.recipe import Setup, Stage

BY_EPOCHS = {"max_iters": "none", "iter_size": 1}


def stages(setup: Setup) -> list[Stage]:
    start = eps.training(setup, name="train_eps", **BY_EPOCHS)
    net = {flag: start.flags.get(flag) for flag in ("backbone", "width")}
    train = common.training(
        setup, "eps", session="house", mini_flags={**mini.length(600), **mini.VIEW, **net},
        **BY_EPOCHS, max_epoches=60, weights=start.makes, **net,
    )  # fmt: skip
    seeds = common.seeds(setup, train)
    return [
        *mini.data(setup),
        common.prepare(setup),
        start,
        train,
        *seeds,
        *common.deeplab(setup, seeds[-1].makes, train, **common.from_classifier(train)),
        common.report(setup, train),
    ]
