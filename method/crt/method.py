"""CRT as a method: its flags, how long it trains, its seeds, and how its learner is made."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, ClassVar

from method.base import Method, NetFlags
from method.crt.config import BRANCHES, SANE, CRTConfig
from method.parts import add_oddities_flag, settled_sane
from network import PRETRAINED
from network.cells import whole_cells
from tool.cli import UserError, check_bounds, path_text
from tool.dataset import DataSet
from tool.seed_recipe import LABEL_KERNELS, CRFRecipe, SeedRecipe

if TYPE_CHECKING:
    import torch

    from method.crt.learner import CRTLearner

SMALLEST_CROP, CROP_STEP = 224, 112  # windows of the transformer, and from one to the next


class CRTMethod(Method):
    """A ResNet and a ViT, each pulled towards the other's class maps."""

    name = "crt"
    network = "crt"
    jitter = False
    weight_flags = ("weights", "transformer_weights")
    net_flags = ("transformer",)
    defaults: ClassVar[dict[str, Any]] = {
        "backbone": "resnet152",
        "weights": PRETRAINED,
        "batch_size": 16,
        "max_iters": None,
        "iter_size": 1,
        "max_epoches": 10,
        "lr": 0.1,
        "wt_dec": 1e-4,
        "momentum": 1e-4,
        "crop_size": 336,
        "resize_size": [210, 420],
        "eval_every": 1,
    }
    seeds = SeedRecipe(
        scales=(1.0, 0.5, 1.5, 2.0, 0.75, 1.25, 1.75),
        frame=whole_cells,
        is_cut=True,
        threshold=0.15,
        crf=(CRFRecipe(10, threshold=0.15, certainty=0.7, kernels=LABEL_KERNELS),),
    )

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("method crt")
        self._add_transformer(group)
        group.add_argument(
            "--transformer_weights", type=path_text, default=PRETRAINED, metavar="FILE",
            help=f"DeiT's or timm's file, {PRETRAINED} (downloaded), or none; --weights is the CNN's (%(default)s)",
        )  # fmt: skip
        group.add_argument(
            "--cam_lambda", type=float, default=CRTConfig.consistency_weight,
            help="weight of the difference of the branches' maps, from the second epoch on (%(default)s)",
        )  # fmt: skip

    def add_inference_flags(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("method crt")
        self._add_transformer(group)
        group.add_argument(
            "--cam_branch", choices=BRANCHES, default=CRTConfig.branch,
            help="whose maps seeds are made of (%(default)s)",
        )  # fmt: skip
        add_oddities_flag(group, SANE)

    @staticmethod
    def _add_transformer(group: argparse._ArgumentGroup) -> None:
        group.add_argument(
            "--transformer", default=CRTConfig.transformer, metavar="NAME",
            help="a plain ViT of timm with patches of 16 pixels; --backbone is the CNN's (%(default)s)",
        )  # fmt: skip

    def check(self, args: argparse.Namespace) -> None:
        check_bounds(args, {"cam_lambda": (0, 1e6)})
        size = args.crop_size
        if size % CROP_STEP or size < SMALLEST_CROP:
            below = max(size // CROP_STEP * CROP_STEP, SMALLEST_CROP)
            raise UserError(
                f"--crop_size {size}: expected a multiple of {CROP_STEP} from {SMALLEST_CROP} on, which the"
                f" transformer's windows cover; take {below} or {below + CROP_STEP}"
            )

    def configure(self, args: argparse.Namespace | None) -> CRTConfig:
        if args is None:
            return CRTConfig()
        return CRTConfig(
            transformer=args.transformer,
            consistency_weight=args.cam_lambda,
            side=args.crop_size,
            batch_size=args.batch_size,
        )

    def configure_inference(self, args: argparse.Namespace) -> CRTConfig:
        sane = settled_sane(args.sane, SANE)
        return CRTConfig(
            transformer=args.transformer,
            branch=args.cam_branch,
            pad_multiples="padding" not in sane,
            pad_mirror="mirror" not in sane,
        )

    def inference_settings(self, args: argparse.Namespace) -> dict[str, Any]:
        own = {"transformer": args.transformer, "cam_branch": args.cam_branch}
        return {**own, "sane": sorted(settled_sane(args.sane, SANE))}

    def learner(
        self,
        config: CRTConfig,
        net: NetFlags,
        data_set: DataSet,
        *,
        device: torch.device,
        amp: str = "off",
        compiled: bool = False,
    ) -> CRTLearner:
        from method.crt.learner import CRTLearner
        from network.crt import CRTNet
        from tool.device import place

        if net.width != 1:
            raise UserError(f"--width {net.width}: --method crt has one width only: leave --width at 1")
        made = CRTNet(
            net.backbone,
            config.transformer,
            num_classes=data_set.num_classes,
            frozen=net.frozen,
            branch=config.branch,
            pad_multiples=config.pad_multiples,
        )
        return CRTLearner(place(made, device, amp), config, data_set, amp=amp, compiled=compiled)
