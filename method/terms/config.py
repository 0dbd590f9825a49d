"""The constants of terms that several methods have; a method's own are in its `config.py`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SaliencyConfig:
    """EPS (Lee et al., CVPR 2021): the pseudo saliency map and which classes count as foreground in it."""

    overlap: float = 0.5  # tau: a class is foreground where this share of its map is salient
    foreground_share: float = 0.5  # alpha: weight of the foreground map against the inverted background map


@dataclass(frozen=True)
class ConsistencyConfig:
    """SEAM (Wang et al., CVPR 2020)."""

    hardest_share: float = 0.2  # share of entries that ecr averages, the largest ones
    # The channel that takes no part in the per-pixel maximum and stays. Q: EPS and what builds on it keep channel 0
    # out, which is the first class there; None treats every channel alike.
    spared_channel: int | None = 0
