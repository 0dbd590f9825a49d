"""What decides the labels of a step, as data; naming it needs no torch."""

from typing import NamedTuple

TRANSPORT_RULES = ("released", "converged")
SEED_CRFS = ("background", "released")
# What can be left out of the making of labels, to see what it brings; without `labels`, the masks serve as labels.
PARTS = ("seed", "uss", "wss", "transport", "labels")
# Of an image's sides, at which label maps are predicted; on the grid of the first the posteriors are averaged.
SCALES = (1.0, 0.5, 1.5, 2.0)


class LabelRecipe(NamedTuple):
    """tau: the cosine above which two labels are alike. ot_rule: of `TRANSPORT_RULES`. seed_crf: of `SEED_CRFS`;
    **Q** as released the classes compete in the CRF of seeds alone, so that nothing is left to the mask. without: some
    of `PARTS`."""

    tau: float = 0.8
    ot_rule: str = "released"
    seed_crf: str = "background"
    without: frozenset[str] = frozenset()
