"""What decides the labels of a step, as data; naming it needs no torch."""

from typing import NamedTuple

TRANSPORT_RULES = ("released", "converged")
SEED_CRFS = ("background", "released")


class LabelRecipe(NamedTuple):
    """tau: the cosine above which two labels are alike. ot_rule: of `TRANSPORT_RULES`. seed_crf: of `SEED_CRFS`;
    **Q** as released the classes compete in the CRF of seeds alone, so that nothing is left to the mask."""

    tau: float = 0.8
    ot_rule: str = "released"
    seed_crf: str = "background"
