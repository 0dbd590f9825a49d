"""Where the tests' images lie."""

from collections.abc import Sequence
from pathlib import Path


def images_in(folder: Path, ids: Sequence[str]) -> dict[str, Path]:
    """The paths `<id>.jpg` in `folder` by id, as `find_images` gives them."""
    return {identifier: folder / f"{identifier}.jpg" for identifier in ids}
