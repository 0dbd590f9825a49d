"""SEAM, PPC on SEAM and PPC on EPS as methods: their flags, and how their learner is made."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from data.descriptions import find_data_set
from method.base import Method, NetFlags
from method.oddities import mendable
from method.parts import add_part_flags, check_parts, settled_sane
from method.ppc.config import (
    ABLATIONS,
    CONFIGS,
    CONTRAST_TERMS,
    SANE,
    SECOND_SCALE,
    PPCConfig,
    configure,
)
from tool.cli import UserError, check_bounds, positive
from tool.dataset import DataSet
from tool.flags import MAX_PIXELS
from tool.seed_recipe import LABEL_KERNELS, CRFRecipe, SeedRecipe
from tool.torchrun import is_first

if TYPE_CHECKING:
    import torch

    from method.two_scales import TwoScaleLearner

# Seeds and their CRFs (paper/method.md, SEAM and PPC).
SEEDS = {
    # Much background and sure objects, or the other way round: AffinityNet takes both.
    "seam": SeedRecipe(normalise="min_max", threshold=0.26, crf=(CRFRecipe(10, 4), CRFRecipe(10, 24))),
    "ppc": SeedRecipe(
        normalise="min_max",
        threshold=0.26,
        crf=(CRFRecipe(10, threshold=0.26, certainty=0.7, all_labels=True, kernels=LABEL_KERNELS),),
    ),
    "ppc_eps": SeedRecipe(crf=(CRFRecipe(5, 8),)),
}
# Whole epochs, over which the rate decays; PPC on EPS trains for EPS's number of steps.
EPOCHS = {"batch_size": 8, "max_iters": None, "iter_size": 1, "max_epoches": 8}
MIN_BACKGROUND = 1e-6  # a score that float32's softmax tells from 0
DEFAULTS: dict[str, dict[str, Any]] = {"seam": EPOCHS, "ppc": EPOCHS, "ppc_eps": {"batch_size": 8}}


class PPCMethod(Method):
    """One of `method.ppc.config.CONFIGS`, by its name."""

    def __init__(self, name: str) -> None:
        self.name, self.config = name, CONFIGS[name]
        self.network = self.config.network
        self.reads = frozenset({"saliency"} if "sal" in self.config.terms else ())
        self.mendable = mendable(self.config, SANE)
        self.defaults = DEFAULTS[name]
        self.seeds = SEEDS[name]

    @property
    def contrasts(self) -> bool:
        return bool(CONTRAST_TERMS & self.config.terms)

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group(f"method {self.name}")
        add_part_flags(group, "ppc", ablations=ABLATIONS, oddities=SANE, mendable=self.mendable)
        side = self.config.second_view if self.contrasts else f"{SECOND_SCALE} of --crop_size"
        group.add_argument("--view2_size", type=positive, help=f"second view's side, pixels ({side})")
        if self.contrasts:
            group.add_argument(
                "--bg_threshold", type=float, default=self.config.contrast.background_score,
                help="background's score in the maps that pseudo labels and prototypes are made of (%(default)s)",
            )  # fmt: skip
        if "saliency" in self.reads:
            numbers = self.config.saliency
            group.add_argument(
                "--tau", type=float, default=numbers.overlap,
                help="share of a map that is salient in a foreground class (%(default)s)",
            )  # fmt: skip
            group.add_argument(
                "--alpha", type=float, default=numbers.foreground_share,
                help="weight of the foreground map in the saliency (%(default)s)",
            )  # fmt: skip

    def settle(self, args: argparse.Namespace) -> None:
        args.sane = settled_sane(args.sane, self.mendable)
        if args.view2_size is None:
            args.view2_size = self.config.second_view if self.contrasts else max(int(SECOND_SCALE * args.crop_size), 1)

    def check(self, args: argparse.Namespace) -> None:
        bounds = {"tau": (0, 1), "alpha": (0, 1), "bg_threshold": (0, 1), "view2_size": (1, MAX_PIXELS)}
        check_bounds(args, {name: limits for name, limits in bounds.items() if hasattr(args, name)})
        check_parts(args, without=ABLATIONS if self.contrasts else (), sane=self.mendable)
        contrast = self.configure(args).contrast
        is_safe = contrast.background_score >= MIN_BACKGROUND
        if not (is_safe or contrast.absent_prototypes or self.config.background_first):
            raise UserError(
                f"--bg_threshold {contrast.background_score:g}: expected {MIN_BACKGROUND:g} or more with --sane absent,"
                " as background that scores no more than an absent class gets its label, which has no prototype"
            )
        if self.contrasts and is_first() and (note := self.intra_note(args)):
            print(note, file=sys.stderr)

    def intra_note(self, args: argparse.Namespace) -> str | None:
        """A line where there are so few labels that intra finds no prototype to hold a pixel's own against."""
        config, labels = self.configure(args), find_data_set(args.data_set).num_labels
        ranked = labels if config.contrast.rank_own else labels - 1
        if "intra" not in config.terms or not config.contrast.mining or ranked > config.contrast.dropped:
            return None
        return (
            f"note: with {labels} labels the term intra is 0: it leaves out a pixel's {config.contrast.dropped} most"
            " similar prototypes; --without mining takes all"
        )

    def configure(self, args: argparse.Namespace | None) -> PPCConfig:
        if args is None:
            return self.config
        return configure(
            self.name,
            without=args.without,
            sane=args.sane,
            second_view=args.view2_size,
            background_score=getattr(args, "bg_threshold", None),
            overlap=getattr(args, "tau", None),
            foreground_share=getattr(args, "alpha", None),
        )

    def learner(
        self,
        config: PPCConfig,
        net: NetFlags,
        data_set: DataSet,
        *,
        device: torch.device,
        amp: str = "off",
        compiled: bool = False,
    ) -> TwoScaleLearner:
        from method.ppc.criterion import PPCCriterion
        from method.two_scales import TwoScaleLearner
        from network.build import build_network
        from tool.device import place

        made = place(build_network(self.network, num_classes=data_set.num_classes, **asdict(net)), device, amp)
        view = config.second_view
        return TwoScaleLearner(made, PPCCriterion(config), data_set, second_view=view, amp=amp, compiled=compiled)


PPC_METHODS = [PPCMethod(name) for name in CONFIGS]
