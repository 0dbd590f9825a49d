"""HSC and its baselines as methods: their flags, and how their learner is made."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from method.base import Method, NetFlags
from method.hsc.config import (
    ABLATIONS,
    CONFIGS,
    CONTRAST_TERMS,
    RECIPES,
    SANE,
    HSCConfig,
    configure,
)
from method.oddities import mendable
from method.parts import add_part_flags, check_parts, settled_sane
from method.terms.config import SaliencyConfig
from tool.cli import check_bounds, positive
from tool.dataset import DataSet
from tool.flags import MAX_PIXELS, add_crf_backend

if TYPE_CHECKING:
    import torch

    from method.hsc.learner import HSCLearner


class HSCMethod(Method):
    """One of `method.hsc.config.CONFIGS`, by its name."""

    def __init__(self, name: str) -> None:
        self.name, self.config = name, CONFIGS[name]
        self.network = self.config.network
        self.reads = frozenset({"saliency"} if "sal" in self.config.terms else ())
        self.mendable = mendable(self.config, SANE)

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group(f"method {self.name}")
        add_part_flags(group, "hsc", ablations=ABLATIONS, oddities=SANE, mendable=self.mendable)
        group.add_argument(
            "--recipe", choices=RECIPES, default="released",
            help="released, or sane: correct those of the oddities that cost most on photographs (%(default)s)",
        )  # fmt: skip
        group.add_argument(
            "--tau", type=float, default=SaliencyConfig.overlap,
            help="share of a map that is salient in a foreground class (%(default)s)",
        )  # fmt: skip
        group.add_argument(
            "--alpha", type=float, default=SaliencyConfig.foreground_share,
            help="weight of the foreground map in the saliency (%(default)s)",
        )  # fmt: skip
        add_crf_backend(group)
        group.add_argument(
            "--view2_size", type=positive, default=HSCConfig.second_view,
            help="second view's side, pixels (%(default)s)",
        )  # fmt: skip

    def settle(self, args: argparse.Namespace) -> None:
        # A recipe, like all, means those oddities that the method has. They are recorded one by one.
        own = self.mendable
        args.sane = sorted({*settled_sane(args.sane, own)} | ({*RECIPES[args.recipe]} & {*own}))
        del args.recipe

    def check(self, args: argparse.Namespace) -> None:
        check_bounds(args, {"tau": (0, 1), "alpha": (0, 1), "view2_size": (1, MAX_PIXELS)})
        contrasts = CONTRAST_TERMS & self.config.terms
        check_parts(args, without=ABLATIONS if contrasts else (), sane=self.mendable)

    def configure(self, args: argparse.Namespace | None) -> HSCConfig:
        if args is None:
            return self.config
        return configure(
            self.name,
            without=args.without,
            overlap=args.tau,
            foreground_share=args.alpha,
            second_view=args.view2_size,
            crf_backend=args.crf_backend,
            sane=args.sane,
        )

    def learner(
        self,
        config: HSCConfig,
        net: NetFlags,
        data_set: DataSet,
        *,
        device: torch.device,
        amp: str = "off",
        compiled: bool = False,
    ) -> HSCLearner:
        from method.hsc.learner import HSCLearner
        from network.build import build_network
        from tool.crf import resolve_backend
        from tool.device import place

        resolve_backend(config.crf_backend, device)  # one that is not there is named before the first step
        made = build_network(self.network, num_classes=data_set.num_classes, **asdict(net), **config.net)
        return HSCLearner(place(made, device, amp), config, data_set, amp=amp, compiled=compiled)


HSC_METHODS = [HSCMethod(name) for name in CONFIGS]
