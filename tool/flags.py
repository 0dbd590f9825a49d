"""What flags that several scripts have may be; naming it needs no torch, as computing with it does."""

from collections.abc import Sequence

from tool.cli import UserError

AMP = ("off", "bf16", "fp16")  # what the network's convolutions and products are computed in
CRF_BACKENDS = ("auto", "pydensecrf", "torch")
MAX_PIXELS = 4096  # of a side that anybody could want to train on


def check_scales(scales: Sequence[float]) -> None:
    """Raise `UserError` unless all are above 0 and at most 8."""
    if not all(0 < scale <= 8 for scale in scales):
        raise UserError(f"--scales {' '.join(map(str, scales))}: expected factors above 0, at most 8")
