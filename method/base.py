"""What a method of stage 1 is: an object in `method.METHODS`, which has its flags and makes its learner.

Its name, its flags and what they may be need no torch; the learner does (`method.learner`).
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from data.saliency import MEAN_SALIENCY, SaliencyCrop
from tool.dataset import DataSet
from tool.seed_recipe import SeedRecipe
from tool.training_flags import steps_of_epochs

if TYPE_CHECKING:
    import torch

    from method.learner import Learner


@dataclass(frozen=True)
class NetFlags:
    """What flags say of a net: its backbone, the multiplier of its channels, and whether batch norms and stem stay as
    they were loaded (`--from_scratch` trains them); under the names that `network.build.build_network` has."""

    backbone: str = "resnet38d"
    width: float = 1.0
    frozen: bool = True


class Rates(NamedTuple):
    """How SGD uses its rates: (1 - step / steps) ** `power` of them, with Nesterov's momentum or the plain one."""

    power: float = 0.9
    nesterov: bool = False


class Method(ABC):
    """One way to train a classifier from image labels, and to make seeds of its maps.

    name: of --method. network: of `network.NETWORKS`, what it trains. reads: what it reads of each image beside the
    image and its labels, by the batch's names (saliency). jitter: whether its augmentation changes colours.
    weight_flags: those of files that a fresh run starts from. helper_flags: those of frozen nets' weights, which every
    run reads; a flag's value is None where its net is not used. net_flags: those of training and of inference that say
    what the net is, and may differ on purpose. scores_masks: whether it has --gt_dir and --select, which say that it
    scores seeds on masks and which weights it keeps. defaults: its recipe's values of the flags that all methods have,
    where they are others. seeds: how its maps become seeds.
    """

    name: str
    network: str
    reads: frozenset[str] = frozenset()
    jitter: bool = True
    weight_flags: tuple[str, ...] = ("weights",)
    helper_flags: tuple[str, ...] = ()
    net_flags: tuple[str, ...] = ()
    scores_masks: bool = False
    defaults: ClassVar[dict[str, Any]] = {}
    seeds: SeedRecipe = SeedRecipe()

    @abstractmethod
    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags that are its own."""

    def add_inference_flags(self, parser: argparse.ArgumentParser) -> None:  # noqa: B027 - most have none
        """Add those of its own flags that inference.py has."""

    def settle(self, args: argparse.Namespace) -> None:  # noqa: B027 - some record their flags as parsed
        """Bring its own flags, just parsed, into the form that a run records. By default they stay as they are."""

    @abstractmethod
    def check(self, args: argparse.Namespace) -> None:
        """Raise `UserError` for values of its own flags that are wrong or do not go together."""

    @abstractmethod
    def configure(self, args: argparse.Namespace | None) -> Any:
        """What its learner needs to know, from train_voc.py's flags; None: as released, for inference."""

    def check_inference(self, args: argparse.Namespace) -> None:  # noqa: B027 - most have no flags there
        """Raise `UserError` for values of its own flags of inference.py that are wrong or do not go together."""

    def configure_inference(self, args: argparse.Namespace) -> Any:
        """What its learner needs to know, from inference.py's flags."""
        return self.configure(None)

    def inference_settings(self, args: argparse.Namespace) -> dict[str, Any]:
        """What inference.py's flags of its own say, for the record of what files were made with."""
        return {}

    @abstractmethod
    def learner(
        self,
        config: Any,
        net: NetFlags,
        data_set: DataSet,
        *,
        device: torch.device,
        amp: str = "off",
        compiled: bool = False,
    ) -> Learner:
        """What it trains and infers with, on `device`, with random weights.

        config: of `configure`. amp: what its nets' forward passes compute in, one of `tool.flags.AMP`. compiled: they
        are compiled, once for each shape.
        """

    def saliency_crop(self, args: argparse.Namespace) -> SaliencyCrop:
        """How its saliency maps become crops'."""
        return MEAN_SALIENCY

    def rates(self, args: argparse.Namespace) -> Rates:
        return Rates()

    def steps(self, args: argparse.Namespace, num_images: int) -> tuple[int, int]:
        """How many steps to train on `num_images` images, and over how many of them the rate decays.

        With `--max_iters none` as many as --max_epoches have, and over all of them.
        """
        decay = steps_of_epochs(args, num_images)
        return (decay if args.max_iters is None else args.max_iters * args.iter_size), decay

    def decay_note(self, args: argparse.Namespace, num_images: int) -> str | None:
        """A line where the rate ends its decay before half of the steps of `steps`, as it does with few images."""
        steps, decay = self.steps(args, num_images)
        if 2 * decay >= steps:
            return None
        epochs = -(-steps // (num_images // args.batch_size))
        return (
            f"note: the learning rate stays at its lowest after step {decay} of {steps} (--max_epoches"
            f" {args.max_epoches}; --max_iters {args.max_iters}, --iter_size {args.iter_size}); to let it fall until"
            f" the end, take --max_epoches {epochs}"
        )
