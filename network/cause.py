"""The heads that unsupervised segmentation learns on frozen features: CAUSE's decoder and STEGO's projections
(paper/method.md, DHR)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network.whole import check_whole
from tool.checkpoint import load_checkpoint
from tool.cli import UserError, first_few

QUERIES, CODES, HIDDEN = 529, 2048, 2048
CAUSE_DIM, STEGO_DIM = 90, 70
PREFIX = "head_ema."  # of the tensors that are used; the others were the training's


class CauseBlock(nn.Module):
    """One layer of a transformer's decoder, and the two projections behind it, under the released names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, 1, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(channels, 1, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(channels, HIDDEN), nn.Linear(HIDDEN, channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.f1 = nn.Conv2d(channels, CAUSE_DIM, 1)
        self.f2 = _two_layers(channels, CAUSE_DIM)


class CauseHead(nn.Module):
    """CAUSE's decoder: each token's nearest entry of a codebook, attending to the others and to the tokens."""

    dim = CAUSE_DIM

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_pos = nn.Parameter(torch.empty(QUERIES, channels))
        self.tr = CauseBlock(channels)
        self.register_buffer("codebook", torch.empty(CODES, channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, h, w), a ViT's patches, to (N, 90, h, w)."""
        grid, block = features.shape[2:], self.tr
        tokens = features.flatten(2).transpose(1, 2)
        positions = F.interpolate(self.query_pos.T[None], size=tokens.shape[1], mode="linear", align_corners=False)
        positions = positions.transpose(1, 2).to(tokens.dtype)
        found = self.nearest_entries(tokens).to(tokens.dtype)
        asked = found + positions
        found = block.norm1(found + block.self_attn(asked, asked, found, need_weights=False)[0])
        found = block.norm2(found + block.multihead_attn(found + positions, tokens, tokens, need_weights=False)[0])
        found = tokens + block.norm3(found + block.linear2(F.relu(block.linear1(found))))
        found = found.transpose(1, 2).unflatten(2, grid)
        return block.f1(found) + block.f2(found)

    def nearest_entries(self, tokens: Tensor) -> Tensor:
        """The codebook's entry of the largest cosine with each of `tokens` (N, T, channels), float32, in their place.

        In float32 under autocast too: in half precision entries that lie near each other tie.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            cosines = F.normalize(tokens.float(), dim=2) @ F.normalize(self.codebook.float(), dim=1).T
        return self.codebook[cosines.argmax(dim=2)]


class StegoHead(nn.Module):
    """STEGO's linear and its two-layer projection, summed."""

    dim = STEGO_DIM

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cluster1 = nn.Sequential(nn.Conv2d(channels, STEGO_DIM, 1))
        self.cluster2 = _two_layers(channels, STEGO_DIM)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, h, w), a ViT's patches, to (N, 70, h, w)."""
        return self.cluster1(features) + self.cluster2(features)


def _two_layers(channels: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, dim, 1))


def load_cause(head: CauseHead, path: str | Path, flag: str) -> None:
    """Put the decoder and the codebook of a file, {"decoder": state dict, "codebook": tensor}, into `head`.

    Raises `UserError`, naming `flag`, for a file that is missing, damaged, or of another backbone.
    """
    parts = _parts(path, flag, {"decoder": dict, "codebook": Tensor})
    state = {name.removeprefix(PREFIX): value for name, value in parts["decoder"].items() if name.startswith(PREFIX)}
    _load(head, {**state, "codebook": parts["codebook"]}, f"{flag} {path}")


def load_stego(head: StegoHead, path: str | Path, flag: str) -> None:
    """Put both projections of a file, {"cluster1": state dict, "cluster2": state dict}, into `head`; raises as
    `load_cause`."""
    parts = _parts(path, flag, {"cluster1": dict, "cluster2": dict})
    state = {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}
    _load(head, state, f"{flag} {path}")


def _parts(path: str | Path, flag: str, expected: dict[str, type]) -> dict[str, Any]:
    """The entries of a file, each of its type."""
    content = load_checkpoint(Path(path), flag)
    names = " and ".join(expected)
    if not isinstance(content, dict) or not expected.keys() <= content.keys():
        found = first_few(list(map(str, content))) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{flag} {path}: expected a dict with {names}, found {found}")
    for name, kind in expected.items():
        entries = content[name] if isinstance(content[name], dict) else {name: content[name]}
        are_tensors = all(isinstance(key, str) and isinstance(value, Tensor) for key, value in entries.items())
        if not isinstance(content[name], kind) or not are_tensors:
            what = "a state dict" if kind is dict else "a tensor"
            raise UserError(f"{flag} {path}: expected {what} under {name}, found {type(content[name]).__name__}")
    return content


def _load(head: nn.Module, state: dict[str, Tensor], source: str) -> None:
    check_whole(state, head.state_dict(), source=source, advice="is it of another --backbone?")
    head.load_state_dict(state)
