"""What decides a dense CRF's kernels."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CRFKernels:
    """Standard deviations of both kernels, in pixels (sxy) and colour levels of 0..255 (srgb), and their weights."""

    gaussian_sxy: float
    gaussian_compat: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_compat: float
