"""How the maps of an image become its seeds, as data; `tool.cam` and `tool.crf` compute it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CRFKernels:
    """What decides a dense CRF's two kernels: their standard deviations, in pixels (sxy) and colour levels of 0..255
    (srgb), and their weights."""

    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float


# Refining seeds at the image's full size (paper/method.md, Recipe, seeds, score).
SEED_KERNELS = CRFKernels(gaussian_sxy=3, gaussian_compat=3, bilateral_sxy=80, bilateral_srgb=13, bilateral_compat=10)

# Refining label maps, each label taken to be right with some probability (paper/method.md, SEAM and PPC;
# paper/method.md, IRN).
LABEL_KERNELS = CRFKernels(gaussian_sxy=3, gaussian_compat=3, bilateral_sxy=50, bilateral_srgb=5, bilateral_compat=10)

# Refining what a segmentation net says of an image (paper/method.md, Stage 3; paper/method.md, DHR).
MASK_KERNELS = CRFKernels(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4)


@dataclass(frozen=True)
class CRFRecipe:
    """What the CRF makes of an image's CAMs.

    iterations, alpha: of the flags --crf_t and --crf_alpha; background scores (1 - the classes' maximum)^alpha, or
    `threshold` where that is given. certainty: None: the scores are taken for probabilities; else their label map is,
    each label being right with that probability. all_labels: the data set's labels take part; else the image's alone.
    """

    iterations: int = 8
    alpha: float = 7.0
    threshold: float | None = None
    certainty: float | None = None
    all_labels: bool = False
    kernels: CRFKernels = SEED_KERNELS

    @property
    def background(self) -> tuple[str, float]:
        """What background's scores come from: the name of the number, and the number."""
        return ("alpha", self.alpha) if self.threshold is None else ("threshold", self.threshold)

    @property
    def folder(self) -> str:
        """The name of the folder of its files."""
        name, number = self.background
        return f"crf_{self.iterations}_{number:g}" if name == "alpha" else f"crf_{self.iterations}_thr{number:g}"

    def __str__(self) -> str:
        return f"CRF {self.iterations}, {self.background[1]:g}"


Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class SeedRecipe:
    """From a net's maps at several scales to CAMs, their label map and the CRF's.

    scales: of the image's sides. frame: the size on which the scales' maps are summed, from the image's; None: the
    image's. is_cut: a larger frame holds the image at its top left, so that the sum is cut to it; else the CAMs are
    resized to it at the end. normalise: what brings the sums to 0..1, a key of `tool.cam.NORMALISATIONS`.
    threshold: the background's score in label maps. crf: of the CRF seeds, alike but for iterations and alphas.
    """

    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    frame: Callable[[Size], Size] | None = None
    is_cut: bool = False
    normalise: str = "maximum"
    threshold: float = 0.22
    crf: tuple[CRFRecipe, ...] = (CRFRecipe(),)
