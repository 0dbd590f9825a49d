"""The constants of SEAM (Wang et al., CVPR 2020) and PPC (Du et al., CVPR 2022), and the terms that a method sums.

Values marked **Q** are oddities of the released code, kept by default; `paper/deviations.md` lists each with its sane
value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from method.oddities import Oddity, mend
from method.terms.config import ConsistencyConfig, SaliencyConfig

SECOND_SCALE = 0.3  # SEAM's view 2, of view 1's side
BACKGROUND = -1  # the channel of background in a map


@dataclass(frozen=True)
class ContrastConfig:
    """PPC: pixel-to-prototype contrast across views (cross, cross2) and within one (intra)."""

    weight: float = 0.1  # in front of each of the three terms
    temperature: float = 0.1
    background_score: float = 0.20  # beta: the background channel of the normalised CAM
    pixel_share: int = 8  # prototypes are made from 1 / 8 of a map's pixels
    dropped: int = 3  # intra leaves out a pixel's most similar prototypes: they may be of its own class
    kept: int = 10  # and takes that many after them
    hard_share: float = 0.6  # hard pixels are the furthest of this share of a label's, less the very furthest
    mining: bool = True  # semi-hard prototypes; without, all
    hard: bool = True  # half drawn, half hard pixels; without, all
    # Q: released leaves zeroed entries of the normalised CAM negative; True clamps them at 0.
    clamp_normalised_cam: bool = False
    # Q: released ranks background's pixels by the constant beta, all ties, so that its prototype is of the first
    # image's top rows; True ranks by 1 - the strongest class, as HSC.
    background_by_rest: bool = False
    # Q: released makes and uses prototypes for absent classes too; False leaves absent classes out.
    absent_prototypes: bool = True
    # Q: in intra, released ranks a pixel's own prototype among the others: it may be counted twice, or fill one of the
    # dropped places; False ranks the others alone.
    rank_own: bool = True
    # Q: in intra, released counts a pixel that is both drawn and hard twice; False once.
    count_twice: bool = True
    # Q: in intra, released divides by the number of all labels, but a label of one pixel adds nothing; False leaves it
    # out of the number.
    count_lone: bool = True


TERMS = ("cls", "sal", "er", "ecr", "cross", "cross2", "intra")
CONTRAST_TERMS = frozenset({"cross", "cross2", "intra"})
ABLATIONS = ("cross", "cross2", "intra", "mining", "hard")  # what `--without` takes


@dataclass(frozen=True)
class PPCConfig:
    """One training method: which terms it sums, with which constants."""

    network: str
    terms: frozenset[str]
    second_view: int  # side of view 2 in pixels
    # SEAM's net gives maps at its input's size, where consistency and classification are taken; EPS's on its grid.
    at_view_size: bool = True
    # Q: with maps at the view's size, released also takes classification's mean and lowest quarter there; True takes
    # them on the grid, which a resize with aligned corners does not weigh alike.
    classify_on_grid: bool = False
    # Among equal scores a pseudo label is the first in released order, where background is the first or the last.
    background_first: bool = True
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    consistency: ConsistencyConfig = field(default_factory=lambda: ConsistencyConfig(spared_channel=BACKGROUND))
    contrast: ContrastConfig = field(default_factory=ContrastConfig)


# What `--sane` takes: a name for each oddity (Q) of the losses.
SANE = {
    "cls_grid": Oddity(None, "classify_on_grid", True, frozenset({"cls"}), where=lambda config: config.at_view_size),
    "ecr_channel": Oddity("consistency", "spared_channel", BACKGROUND, frozenset({"ecr"})),
    "cam_clamp": Oddity("contrast", "clamp_normalised_cam", True, CONTRAST_TERMS),
    "background_rank": Oddity("contrast", "background_by_rest", True, CONTRAST_TERMS),
    "absent": Oddity("contrast", "absent_prototypes", False, CONTRAST_TERMS),
    "own_rank": Oddity("contrast", "rank_own", False, frozenset({"intra"})),
    "twice": Oddity("contrast", "count_twice", False, frozenset({"intra"})),
    "lone": Oddity("contrast", "count_lone", False, frozenset({"intra"})),
}


_SEAM = frozenset({"cls", "er", "ecr"})
# By the method's name, as released; view 2 at crops of 448.
CONFIGS = {
    "seam": PPCConfig("resnet38_seam", _SEAM, second_view=int(SECOND_SCALE * 448)),
    "ppc": PPCConfig("resnet38_ppc", _SEAM | CONTRAST_TERMS, second_view=128),
    "ppc_eps": PPCConfig(
        "resnet38_ppc_eps",
        frozenset(TERMS),
        second_view=128,
        at_view_size=False,
        background_first=False,
        saliency=SaliencyConfig(overlap=0.4),
        consistency=ConsistencyConfig(),
        contrast=ContrastConfig(background_score=0.10, pixel_share=16),
    ),
}


def configure(
    method: str,
    *,
    without: Sequence[str] = (),
    sane: Sequence[str] = (),
    second_view: int | None = None,
    background_score: float | None = None,
    overlap: float | None = None,
    foreground_share: float | None = None,
) -> PPCConfig:
    """The config of `method` with the ablation switches and the command line's numbers applied.

    Args:
        method: a key of `CONFIGS`. without: some of `ABLATIONS`. sane: oddities to mend, keys of `SANE`.
        second_view: side of view 2 in pixels. background_score: beta. overlap: tau. foreground_share: alpha. Of these,
            None means the method's own.
    """
    config = mend(CONFIGS[method], SANE, sane)
    return replace(
        config,
        terms=config.terms - set(without),
        second_view=second_view or config.second_view,
        saliency=_with(config.saliency, overlap=overlap, foreground_share=foreground_share),
        contrast=_with(
            config.contrast,
            background_score=background_score,
            mining="mining" not in without,
            hard="hard" not in without,
        ),
    )


def _with(part: Any, **numbers: Any) -> Any:
    """`part` with those of `numbers` that are not None."""
    return replace(part, **{name: number for name, number in numbers.items() if number is not None})
