"""PASCAL VOC's colour map, as palette PNGs carry it."""

import numpy as np


def voc_palette() -> np.ndarray:
    """The 256 colours of VOC's label maps, uint8 (256, 3): 0 black, 255 the border's cream.

    Colour k spreads the bits of k over the three channels, least significant first, from the channels' highest bit
    down (VOC development kit, `VOClabelcolormap`).
    """
    palette = np.zeros((256, 3), np.uint8)
    for label in range(256):
        for place in range(8):
            for channel in range(3):
                palette[label, channel] |= ((label >> (3 * place + channel)) & 1) << (7 - place)
    return palette


_VOC = voc_palette()


def shifted_palette() -> np.ndarray:
    """VOC's colours for labels without a background, uint8 (256, 3): label 0 has that of VOC's label 1, and so on up to
    254; 255 keeps its own."""
    palette = voc_palette()
    return np.concatenate([palette[1:255], palette[:1], palette[255:]])


def palette_of(colours: np.ndarray, *, repeat_last: bool = False) -> np.ndarray:
    """A palette of the labels' `colours`, uint8 (L, 3), alone, as DHR has it: black beyond, 255 VOC's; uint8 (256, 3).

    repeat_last: **Q** the entry behind the last label's has that one's colour, as where VOC's colours are shifted by
    one to leave the background out.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours
    if repeat_last:
        palette[len(colours)] = colours[-1]
    palette[255] = _VOC[255]
    return palette


def is_vocs(palette: bytes, num_labels: int) -> bool:
    """Whether a file's `palette`, three bytes a colour, is VOC's as far as there are labels, and beyond or black."""
    colours = np.frombuffer(palette, np.uint8)
    colours = colours[: len(colours) // 3 * 3].reshape(-1, 3)
    equal = (colours == _VOC[: len(colours)]).all(axis=1)
    return bool(equal[:num_labels].all() and (equal | (colours == 0).all(axis=1)).all())
