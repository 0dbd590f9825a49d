"""The constants of HSC (Wu et al., IJCAI 2023) and which of its terms a method or an ablation trains with.

Values marked **Q** are oddities of the recipe behind the published weights, kept by default; `paper/deviations.md`
lists each with its sane value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from method.oddities import Oddity, mend
from method.terms.config import ConsistencyConfig, SaliencyConfig


@dataclass(frozen=True)
class ContrastConfig:
    """HSC: region (rsc), class (csc) and pixel (psc) contrast."""

    weight: float = 0.1  # lambda in front of each of the three terms
    temperature: float = 0.1
    # The background channel of the normalised CAM, for pseudo labels and csc's weights. Refined maps are flat at first,
    # and above 0.10 nearly everywhere; at 0.5 a class wins where it has more than it leaves, as in psc's score map.
    background_score: float = 0.10
    class_pixels: int = 128  # pixels of the batch that make up a class's anchor in csc
    class_bank_pixels: int = 16  # pixels that move a class's bank row in csc
    pixel_share: int = 16  # psc's prototypes are made from 1 / 16 of a map's pixels
    bank_momentum: float = 0.5  # share of a bank's row that stays
    min_cosine: float = 0.0005  # rsc clamps cosines to [0.0005, 0.9995]
    # Q: released divides region features by their norm along the width; False divides by the channels' norm.
    norm_along_width: bool = True
    # Q: released leaves zeroed entries of the normalised CAM negative; True clamps them at 0.
    clamp_normalised_cam: bool = False
    # Q: released never moves the class bank's background row, a random negative; False leaves it out.
    random_background_row: bool = True
    # Q: released makes and uses pixel prototypes for absent classes too; False leaves absent classes out.
    absent_prototypes: bool = True
    # Q: released scores pixels against the pixel bank's raw rows; True normalises them first.
    normalise_pixel_bank: bool = False


TERMS = ("cls", "sal", "er", "ecr", "rsc", "csc", "psc")
CONTRAST_TERMS = frozenset({"rsc", "csc", "psc"})
ABLATIONS = ("rsc", "csc", "psc", "bank", "cross")  # what `--without` takes


@dataclass(frozen=True)
class HSCConfig:
    """One training method: which terms it sums, from how many views, with which constants."""

    network: str = "resnet38_hsc"
    terms: frozenset[str] = frozenset(TERMS)
    refined: bool = True  # cls and sal are also taken on the PCM's refined maps
    bank: bool = True  # momentum prototypes
    cross: bool = True  # cross-view prototypes and pseudo labels
    second_view: int | None = 128  # side of view 2 in pixels; None trains on one view
    crf_backend: str = "auto"  # of the pseudo labels, one of `tool.flags.CRF_BACKENDS`
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    net: dict[str, bool] = field(default_factory=dict)  # switches of `network.hsc.HSCNet`


# What `--sane` takes: a name for each oddity (Q) of the losses and the net, and for the background's score. The
# optimiser's have flags of their own.
_REGIONS = frozenset({"rsc", "csc"})  # the terms that learn from the region head
SANE = {
    "background_score": Oddity("contrast", "background_score", 0.5, CONTRAST_TERMS),
    "ecr_channel": Oddity("consistency", "spared_channel", None, frozenset({"ecr"})),
    "cam_clamp": Oddity("contrast", "clamp_normalised_cam", True, CONTRAST_TERMS),
    "rsc_norm": Oddity("contrast", "norm_along_width", False, CONTRAST_TERMS),
    "csc_background": Oddity("contrast", "random_background_row", False, CONTRAST_TERMS),
    "psc_absent": Oddity("contrast", "absent_prototypes", False, CONTRAST_TERMS),
    "psc_bank": Oddity("contrast", "normalise_pixel_bank", True, CONTRAST_TERMS),
    "region_rate": Oddity("net", "region_head_at_backbone_rate", False, _REGIONS),
    "region_norm": Oddity("net", "freeze_region_norm", False, _REGIONS),
}

# What `--recipe` takes: of these, the ones that made seeds of photographs better than as released
# (paper/sane_values.md).
RECIPES = {"released": (), "sane": ("background_score",)}


# By the method's name, as released.
CONFIGS = {
    "hsc": HSCConfig(),
    "eps_seam": HSCConfig(terms=frozenset({"cls", "sal", "er", "ecr"}), net={"with_features": False}),
    "eps": HSCConfig(
        terms=frozenset({"cls", "sal"}),
        refined=False,
        second_view=None,
        net={"with_refined": False, "with_features": False},
    ),
    "cls": HSCConfig(network="resnet38_cls", terms=frozenset({"cls"}), refined=False, second_view=None),
}


def configure(
    method: str,
    *,
    without: Sequence[str] = (),
    overlap: float = SaliencyConfig.overlap,
    foreground_share: float = SaliencyConfig.foreground_share,
    second_view: int | None = HSCConfig.second_view,
    crf_backend: str = HSCConfig.crf_backend,
    sane: Sequence[str] = (),
) -> HSCConfig:
    """The config of `method` with the paper's ablation switches and the command line's numbers applied.

    Args:
        method: a key of `CONFIGS`. without: some of `ABLATIONS`.
        overlap: tau. foreground_share: alpha. second_view: side of view 2 in pixels, where the method has one.
        crf_backend: of the pseudo labels, one of `tool.flags.CRF_BACKENDS`.
        sane: oddities to mend, keys of `SANE`.
    """
    config = mend(CONFIGS[method], SANE, sane)
    return replace(
        config,
        terms=config.terms - set(without),
        bank=config.bank and "bank" not in without,
        cross=config.cross and "cross" not in without,
        second_view=second_view if config.second_view is not None else None,
        crf_backend=crf_backend,
        saliency=replace(config.saliency, overlap=overlap, foreground_share=foreground_share),
    )
