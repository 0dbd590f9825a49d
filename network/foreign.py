"""Checkpoints of other code whose names and shapes are ours: what the channels of their head mean."""

from collections.abc import Mapping

from torch import Tensor

from voc12.classes import NUM_CLASSES

HEAD = "fc8.weight"  # (channels, features, 1, 1); with a background, it is our last channel
# In the file, of SEAM's form: where background is among the channels of `HEAD`.
FIRST, LAST = "first", "last"
# By the number of a head's channels: what it scores, and which of our nets and methods does.
KNOWN_HEADS = {
    NUM_CLASSES: (f"{NUM_CLASSES} classes without background, as PSA's", "resnet38_cls", "cls"),
    NUM_CLASSES + 1: (f"{NUM_CLASSES} classes and background", "resnet38_hsc", "hsc, eps or eps_seam"),
}


def has_form_of_seam(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether `state` has the layers of SEAM's net (Wang et al., CVPR 2020), and of PPC's on it, which scores
    background in channel 0: a PCM, but neither of the projections that the nets with background last have beside it
    (HSC's both, PPC's on EPS `proj_fc`; PPC's on SEAM calls its own `fc_proj`). So has EPS with SEAM, which scores it
    last: only the user knows. `own`: the state of the net that is to take it, of as many classes."""
    layers = {HEAD, "f8_3.weight", "f8_4.weight", "f9.weight"}
    return (
        layers <= state.keys() & own.keys()
        and state[HEAD].shape[:1] == own[HEAD].shape[:1]
        and not any(name.startswith(("proj_fc.", "extra_F.")) for name in state)
    )


def with_head_rolled(state: Mapping[str, Tensor], shift: int) -> dict[str, Tensor]:
    """`state` with the channels of its head, if it has one, in the other order: `shift` -1 brings background from the
    first to the last, 1 back."""
    if HEAD not in state or not state[HEAD].ndim:
        return dict(state)
    return {**state, HEAD: state[HEAD].roll(shift, dims=0)}


def head_advice(channels: int, expected: int) -> str:
    """For a message about a head of `channels`, where the net has one of `expected`: what it is, and what to do."""
    backbone_alone = f"start from a copy without {HEAD}, which is its backbone alone"
    if channels not in KNOWN_HEADS or expected not in KNOWN_HEADS:
        return (
            f"it scores {channels} labels, --data_set has another number: name the data set that it was trained on; to"
            f" train on this one, {backbone_alone}"
        )
    scored, network, methods = KNOWN_HEADS[channels]
    return (
        f"it scores {scored}: inference.py reads it with --network {network}, train_voc.py with --method {methods},"
        f" or, for another method, {backbone_alone}"
    )
