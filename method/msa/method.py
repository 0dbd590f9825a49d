"""MSA with images and with saliency maps as methods: their flags, and how their learner is made."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data.saliency import SaliencyCrop
from method.base import Method, NetFlags, Rates
from method.msa.config import CONFIGS, OF_NET, SANE, MSAConfig
from method.oddities import mend, mendable
from method.parts import add_oddities_flag, settled_sane
from network import DCR, PRETRAINED
from network.cells import CELL, whole_cells
from tool.cli import UserError, add_switch, check_bounds, path_text
from tool.dataset import DataSet
from tool.folder import arguments_of_run
from tool.seed_recipe import LABEL_KERNELS, CRFRecipe, SeedRecipe

if TYPE_CHECKING:
    import torch

    from method.msa.learner import MSALearner

MAX_STEPS = 1000  # of AP
DARK = 100  # **Q** beside a saliency map of which nothing is above it, of 255, all is salient
SELECT = ("miou", "last")


def steps_text(text: str) -> int:
    """An argparse type: how many steps, which may be written as 8.0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise argparse.ArgumentTypeError(f"expected a whole number of steps, got {text!r}")
    return int(number)


def _sane_of_net(sane: Sequence[str]) -> list[str]:
    """Those of the values of --sane that inference has to know of, sorted."""
    return sorted({*settled_sane(sane, OF_NET)} & {*OF_NET})


# **Q** The scale of the image on which maps of all scales are summed: as released the last one, or 1.
FRAMES = {"msa_image": 2.0, "msa_sal": 1.0}
THRESHOLD = 0.25  # of seeds: the middle of those that are swept


class MSAMethod(Method):
    """One of `method.msa.config.CONFIGS`, by its name."""

    network = "msa"
    jitter = False
    helper_flags = ("scn",)
    net_flags = ("scn", "sp_cam", "dcr", "beta", "th")
    scores_masks = True

    def __init__(self, name: str) -> None:
        self.name, self.config = name, CONFIGS[name]
        self.reads = frozenset({"saliency"} if self.config.target == "saliency" else ())
        self.mendable = mendable(self.config, SANE)
        self.defaults: dict[str, Any] = {
            "backbone": "resnet50",
            "weights": PRETRAINED,
            "clip_grad": 1.0,
            "batch_size": 16,
            "max_iters": None,
            "iter_size": 1,
            "max_epoches": 12,
            "lr": 0.1,
            "wt_dec": 4e-5,
            "momentum": 4e-5,
            "crop_size": 480,
            "resize_size": [320, 640],
            "eval_every": 1,
            "val_list": "voc12/train_600.txt",
        }
        self.seeds = SeedRecipe(
            frame=functools.partial(whole_cells, scale=FRAMES[name]),
            normalise="positive",
            threshold=THRESHOLD,
            crf=(CRFRecipe(10, threshold=THRESHOLD, certainty=0.7, kernels=LABEL_KERNELS),),
        )

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        group, config = parser.add_argument_group(f"method {self.name}"), self.config
        group.add_argument(
            "--scn", type=path_text, metavar="FILE",
            help="the superpixel network's weights, which superpixel/train.py writes; it is asked and not trained",
        )  # fmt: skip
        self._add_net_flags(group, self.mendable)
        group.add_argument(
            "--alpha",
            type=float,
            default=config.ipc.weight,
            help="weight of ipc, the error of what maps rebuild (%(default)s)",
        )
        group.add_argument(
            "--ig_th", type=float, default=config.ipc.threshold,
            help="a patch counts whose foreground and background are larger somewhere (%(default)s)",
        )  # fmt: skip
        group.add_argument(
            "--patch_number", type=int, default=config.ipc.patches,
            help="patches of a map, a square number (%(default)s)",
        )  # fmt: skip
        add_switch(group, "--nesterov", default=True, help="Nesterov's momentum (True)")
        group.add_argument(
            "--gt_dir", type=path_text, help="folder of the masks of --val_list, <id>.png, which --eval_every scores"
        )
        group.add_argument(
            "--select", choices=SELECT,
            help="miou: keep the weights that score best on masks; last: the last (miou where there is --gt_dir)",
        )  # fmt: skip

    def add_inference_flags(self, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group(f"method {self.name}")
        self._add_net_flags(group, list(dict.fromkeys((*self.mendable, *OF_NET))))
        add_switch(group, "--up", default=True, help="maps come to pixels along superpixels; False: resized (True)")

    def check_inference(self, args: argparse.Namespace) -> None:
        self._check_net(args)
        if args.refine_list and not args.up:
            raise UserError(
                f"--refine_list {args.refine_list}: maps walk only on their way along superpixels; take 0, or --up True"
            )
        run = arguments_of_run(args.weights)
        trained = run.get("sane") if run.get("method") in CONFIGS else None
        if isinstance(trained, list):
            given = _sane_of_net(args.sane)
            if others := [name for name in OF_NET if name in self.mendable and (name in trained) != (name in given)]:
                raise UserError(
                    f"--sane {' '.join(given) or '(none)'}: the net of {args.weights} was trained with --sane"
                    f" {' '.join(trained) or '(none)'}; take the same {' and '.join(others)} here"
                )

    def _add_net_flags(self, group: argparse._ArgumentGroup, oddities: list[str]) -> None:
        config = self.config
        add_switch(group, "--sp_cam", default=True, help="superpixels, DCR and AP; False: the plain baseline (True)")
        group.add_argument(
            "--dcr", choices=DCR, default=config.dcr,
            help="whether superpixels, too, or features alone say how maps are rebuilt (%(default)s)",
        )  # fmt: skip
        group.add_argument(
            "--beta", type=steps_text, default=config.steps, metavar="STEPS",
            help="of affinity propagation, 0 for none (%(default)s)",
        )  # fmt: skip
        group.add_argument(
            "--th", "--gama", dest="th", type=float, default=config.threshold,
            help="cells less alike do not take part in it (%(default)s)",
        )  # fmt: skip
        add_oddities_flag(group, oddities)

    def settle(self, args: argparse.Namespace) -> None:
        args.sane = settled_sane(args.sane, self.mendable)
        if args.select is None:
            args.select = "last" if args.gt_dir is None else "miou"

    def check(self, args: argparse.Namespace) -> None:
        self._check_net(args)
        check_bounds(args, {"alpha": (0, 1e6), "ig_th": (0, 1)})
        if args.patch_number < 1 or math.isqrt(args.patch_number) ** 2 != args.patch_number:
            raise UserError(f"--patch_number {args.patch_number}: expected a square number, as 1, 4 or 9")
        if args.crop_size % CELL or args.crop_size < 2 * CELL:  # one cell has no spread for the norms
            raise UserError(f"--crop_size {args.crop_size}: expected a multiple of {CELL} from {2 * CELL}")
        if args.nesterov and not args.momentum:
            raise UserError("--nesterov: expected a --momentum above 0, found 0; or --nesterov False")
        if args.patch_number > (cells := (args.crop_size // CELL) ** 2):
            raise UserError(
                f"--patch_number {args.patch_number}: expected at most {cells}, the cells of maps at --crop_size"
                f" {args.crop_size}"
            )
        if not args.sp_cam and args.scn is not None:
            raise UserError(f"--scn {args.scn}: the baseline, --sp_cam False, asks no superpixel network; leave it out")
        if args.select == "miou" and (args.gt_dir is None or not args.eval_every):
            raise UserError("--select miou: needs --gt_dir, masks to score, and --eval_every; or take --select last")

    def _check_net(self, args: argparse.Namespace) -> None:
        check_bounds(args, {"th": (0, 1), "beta": (0, MAX_STEPS)})
        if args.sp_cam and args.scn is None:
            raise UserError(
                f"--scn: --method {self.name} needs a superpixel network's weights, which superpixel/train.py writes;"
                " --sp_cam False is the baseline, without"
            )

    def configure(self, args: argparse.Namespace | None) -> MSAConfig:
        if args is None:
            return self.config
        ipc = replace(self.config.ipc, weight=args.alpha, patches=args.patch_number, threshold=args.ig_th)
        config = replace(self._with_net_flags(args), ipc=ipc, scn=args.scn)
        return mend(config, SANE, args.sane)

    def configure_inference(self, args: argparse.Namespace) -> MSAConfig:
        config = replace(self._with_net_flags(args), along=args.up)
        return mend(config, SANE, _sane_of_net(args.sane))

    def _with_net_flags(self, args: argparse.Namespace) -> MSAConfig:
        """The method's config with those flags that training and inference share."""
        return replace(self.config, sp_cam=args.sp_cam, dcr=args.dcr, steps=args.beta, threshold=args.th)

    def inference_settings(self, args: argparse.Namespace) -> dict[str, Any]:
        flags = {name: getattr(args, name) for name in ("sp_cam", "dcr", "beta", "th", "up")}
        return {**flags, "sane": _sane_of_net(args.sane)}

    def saliency_crop(self, args: argparse.Namespace) -> SaliencyCrop:
        return SaliencyCrop(nearest=True, first_channel=True, dark=None if self.configure(args).black_padding else DARK)

    def rates(self, args: argparse.Namespace) -> Rates:
        return Rates(power=self.config.power, nesterov=args.nesterov)

    def learner(
        self,
        config: MSAConfig,
        net: NetFlags,
        data_set: DataSet,
        *,
        device: torch.device,
        amp: str = "off",
        compiled: bool = False,
    ) -> MSALearner:
        from data.normalisation import IMAGENET
        from method.msa.learner import MSALearner
        from network.msa import COCO_STATISTICS, CAMNet, MSANet
        from network.scn import frozen_scn
        from tool.device import place

        if net.width != 1:
            raise UserError(f"--width {net.width}: --method {self.name} has one width only: leave --width at 1")
        options = {"num_classes": data_set.num_classes, "frozen": net.frozen}
        options["normalisation"] = IMAGENET if config.imagenet_statistics else COCO_STATISTICS
        if config.sp_cam:
            made = MSANet(net.backbone, dcr=config.dcr, leaky_scores=config.leaky_scores, **options)
        else:
            made = CAMNet(net.backbone, **options)
        scn = None if config.scn is None else frozen_scn(config.scn, amp, device, flag="--scn")
        return MSALearner(place(made, device, amp), config, data_set, amp=amp, compiled=compiled, scn=scn)


MSA_METHODS = [MSAMethod(name) for name in CONFIGS]
