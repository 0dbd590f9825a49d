"""Weights of backbones that others made: torchvision's and timm's for download, or a file in their place."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from network import PRETRAINED, TIMM
from network.timm_backbone import download_from_timm
from network.weights import read_weights
from tool.cli import UserError


def read_or_download(name: str, path: str | Path, flag: str) -> tuple[str, Mapping[str, Tensor]]:
    """Where weights of a backbone are from, and they: a file's, or with `PRETRAINED` as `path` what `download` gives.

    `flag` names the argument, which may be none instead. Raises `UserError` as `read_weights` and `download`.
    """
    if path == PRETRAINED:
        return download(name, asked=f"{flag} {PRETRAINED}", weights=flag, without=f"{flag} to none")
    return f"{flag} {path}", read_weights(path, flag)


def download(name: str, *, asked: str, weights: str, without: str) -> tuple[str, Mapping[str, Tensor]]:
    """torchvision's first ImageNet weights of a backbone, or timm's, from a cache or the web, and where they are from.

    For messages: how they were `asked` for, the flag or key that takes a file (`weights`), and what does `without`.

    Raises `UserError` where there are none, or no network.
    """
    if name == "resnet38d":
        raise UserError(
            f"{asked}: resnet38d has no weights for download: set {weights} to ImageNet's .params or a classifier of"
            f" train_voc.py, or {without}"
        )
    if name.startswith(TIMM):
        source, where = f"timm's weights of {name.removeprefix(TIMM)}", "their cache"
    else:
        from torchvision import models  # not at the top: it takes as long as torch

        found = models.get_model_weights(name).IMAGENET1K_V1
        source, where = found.url, f"{torch.hub.get_dir()}/checkpoints"
    try:
        if name.startswith(TIMM):
            return source, download_from_timm(name.removeprefix(TIMM))
        return source, found.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # network, disk and a damaged file in the cache can raise nearly anything
        raise UserError(
            f"{asked}: expected {source} on the web or in {where}, found neither, or a damaged file"
            f" ({type(error).__name__}: {error}); fetch it by other means and set {weights} to the file, or remove the"
            f" damaged one, or set {without}"
        ) from error
