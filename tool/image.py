"""Images as they come from outside: which formats are read, and what goes wrong with them."""

import struct
import warnings
from pathlib import Path

from PIL import Image

from tool.cli import UserError
from tool.limits import limit_met

# What may be behind an image's name. Pillow knows others: it hands PostScript to a program that runs it, and turns a
# TIFF as a camera's rotation flag says.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
# What Pillow raises for a file that is missing, damaged, no image, or of absurd size,
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
# and where a part of the file is shorter than its reader expects.
UNREADABLE += (EOFError, IndexError, KeyError, TypeError, struct.error)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # of a panorama, which is no attack
TOO_LARGE = f"an image of more than {2 * Image.MAX_IMAGE_PIXELS} pixels is not read; make it smaller"


def load_image(path: str | Path, mode: str) -> Image.Image:
    """The image at `path` in Pillow's `mode`; a camera's rotation flag is ignored, as VOC's masks and tools do.

    Raises `UserError` naming the file if it is missing, truncated, empty or no image. What a limit of the
    machine raises is left as it is.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.convert(mode)
    except UNREADABLE as error:
        if limit_met(error) is not None:  # of the machine; the file may be sound
            raise
        if isinstance(error, Image.DecompressionBombError):
            raise UserError(f"{path}: {TOO_LARGE}") from error
        raise UserError(f"{path}: cannot be read as an image, missing or damaged ({error})") from error


def has_picture(path: Path, size: tuple[int, int]) -> bool:
    """Whether a picture of `size`, (width, height), is at `path`, whole."""
    try:
        return path.exists() and load_image(path, "RGB").size == size
    except UserError:
        return False
