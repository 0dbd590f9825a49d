"""The grid of cells that a superpixel network starts from; a ViT's patches are as large."""

from tool.seed_recipe import Size

CELL = 16  # pixels of a cell's side


def whole_cells(size: Size, scale: float = 1.0) -> Size:
    """(height, width) times `scale`, rounded, and brought up to multiples of a cell's side."""
    height, width = (-(-max(round(scale * side), 1) // CELL) * CELL for side in size)
    return height, width
