"""From a command line to what the engine trains: the method's config and its net."""

from dataclasses import replace

from method.hsc.config import METHODS, HSCConfig

ABLATIONS = ("rsc", "csc", "psc", "bank", "cross")


def configure(
    method: str, *, without: list[str], overlap: float, foreground_share: float, second_view: int
) -> HSCConfig:
    """The config of `method` with the paper's ablation switches and the command line's numbers applied.

    Args:
        method: a key of `METHODS`. without: some of `ABLATIONS`.
        overlap: tau. foreground_share: alpha. second_view: side of view 2 in pixels, where the method has one.
    """
    config = METHODS[method]
    return replace(
        config,
        terms=config.terms - set(without),
        bank=config.bank and "bank" not in without,
        cross=config.cross and "cross" not in without,
        second_view=second_view if config.second_view is not None else None,
        saliency=replace(config.saliency, overlap=overlap, foreground_share=foreground_share),
    )
