"""The names of the weights that DeepLab's training leaves, which need no torch."""

from collections.abc import Mapping
from typing import Any


def weights_stem(settings: Mapping[str, Any]) -> str:
    """What the names of all files of a run's weights begin with, by its settings."""
    backbone = settings["MODEL_BACKBONE"].replace(":", "_")  # timm:NAME
    return f"{settings['MODEL_NAME']}_{backbone}_{settings['DATA_NAME']}"


def weights_of_run(settings: Mapping[str, Any], num_steps: int) -> str:
    """The name of the file of the whole run's weights."""
    return f"{weights_stem(settings)}_itr{num_steps}_all.pth"
