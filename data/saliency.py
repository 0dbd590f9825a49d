"""Saliency maps: whether they hold what training takes them for, grey values from 0 to 255 with the salient white."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tool.cli import UserError
from tool.image import load_image
from tool.places import sample

NUM_MAPS = 32  # that are looked at
SIDE = 100  # pixels of a map's shorter side that are looked at, at least
COLOURED = 4.0  # mean difference of a pixel's channels; JPEG's own is below 1
DIM = 128  # maps of which none is brighter may be shares of 100
DARKER = 32  # by so much the middle of inverted maps is darker than their rim


@dataclass(frozen=True)
class SaliencyCrop:
    """How a saliency map becomes a crop's.

    nearest: it is resized to the nearest pixel, else bicubic. first_channel: that of three is read, else their mean.
    dark: beside a map of which nothing is above this, of 0..255, the crop is salient; None: beside none.
    """

    nearest: bool = False
    first_channel: bool = False
    dark: int | None = None


MEAN_SALIENCY = SaliencyCrop()


class _Look(NamedTuple):
    """What one map shows: its highest grey value, and the means of its rim and of its middle, 0..255."""

    highest: float
    rim: float
    middle: float
    is_flat: bool  # of one colour
    is_coloured: bool
    has_alpha: bool  # that says something


def _look_at(path: Path, first_channel: bool) -> _Look:
    pixels = np.asarray(load_image(path, "RGBA"))
    step = max(min(pixels.shape[:2]) // SIDE, 1)
    pixels = pixels[::step, ::step]
    colours, alpha = pixels[..., :3], pixels[..., 3]
    grey = colours[..., 0] if first_channel else colours.mean(axis=-1)  # as training has it
    height, width = grey.shape
    rim = np.ones(grey.shape, bool)
    rim[height // 20 + 1 : -(height // 20 + 1), width // 20 + 1 : -(width // 20 + 1)] = False
    return _Look(
        highest=float(grey.max()),
        rim=float(grey[rim].mean()),
        middle=float(grey[height // 4 : height - height // 4, width // 4 : width - width // 4].mean()),
        is_flat=bool((colours == colours[0, 0]).all()),
        is_coloured=bool(np.ptp(colours, axis=-1).mean() > COLOURED),
        has_alpha=bool(alpha.min() != alpha.max()),
    )


def check_saliency(saliency_root: str | Path, ids: Sequence[str], *, first_channel: bool = False) -> list[str]:
    """Look at the values of some 32 maps `<saliency_root>/<id>.png`, spread over `ids`, as `SaliencyCrop` reads them.

    Returns notes on what is read as it stands and may be meant otherwise: colours, an alpha channel, low values, one
    value, a middle darker than the rim. Raises `UserError` for maps without any saliency, of 0 and 1, or in the alpha
    channel, and for one that cannot be read.
    """
    looks = [_look_at(Path(saliency_root, f"{identifier}.png"), first_channel) for identifier in sample(ids, NUM_MAPS)]
    maps = f"--saliency_root {saliency_root}: expected grey values from 0 to 255 (white is salient), found"
    among = f"in {len(looks)} maps"
    highest = max(look.highest for look in looks)
    if any(look.has_alpha for look in looks) and all(look.is_flat for look in looks):
        raise UserError(f"{maps} one colour, and values in the alpha channel alone, {among}; save that channel as grey")
    if highest == 0:
        raise UserError(f"{maps} nothing but black {among}; give the maps that the saliency detector made")
    if highest <= 1:
        raise UserError(f"{maps} at most 1 {among}; save them times 255")
    notes = []
    if any(look.has_alpha for look in looks):
        notes.append(f"{maps} an alpha channel, too, {among}: it is not read")
    if any(look.is_coloured for look in looks):
        read = "red alone" if first_channel else "the mean of red, green and blue"
        notes.append(f"{maps} colours {among}: {read} is read; are these saliency maps?")
    if all(look.is_flat for look in looks):
        notes.append(f"{maps} one value in each of {len(looks)} maps")
    elif np.mean([look.rim - look.middle for look in looks]) > DARKER:
        notes.append(
            f"{maps} bright rims around a dark middle {among}: are they inverted? Save them as 255 less each value"
        )
    if highest <= DIM:
        notes.append(f"{maps} at most {highest:g} {among}: are these shares of 100? Save them times 2.55")
    return notes
