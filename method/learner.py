"""A method at work: its net, what a batch costs it, the maps it gives of an image, and its weights in and out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from data.images import load_rgb
from method.superpixels import Superpixels
from network import PRETRAINED
from network.backbone_weights import load_pretrained
from network.scn import SCN
from network.superpixel import to_whole_cells
from network.weights import LoadReport, load_released_state_dict, load_weights, released_state_dict
from tool.cam import maps_of_pair, mirrored_pair, turned_back
from tool.device import autocast
from tool.distributed import found_by_all
from tool.metric import mean_average_precision
from tool.optim import parameter_groups
from tool.randomness import mixed_seed
from tool.training import Stateful

Batch = Mapping[str, Tensor]


class Moment(NamedTuple):
    """When a step is taken: after how many others, in which epoch, both from 0, and in a run of which seed."""

    step: int = 0
    epoch: int = 0
    seed: int = 0

    def generator(self, device: torch.device) -> torch.Generator:
        """For what is drawn over the whole batch: it gives each process of a run the same."""
        return torch.Generator(device).manual_seed(mixed_seed(self.seed, self.step))


FIRST = Moment()


class Losses(NamedTuple):
    """What a batch costs: scalars, whose sum is trained on.

    watched: other figures of the step, without gradient, named with a slash. pictures: what the step saw of its first
    image, called only where it is to be shown: uint8 (3, H, W) by name; None where there is nothing to see.
    """

    terms: dict[str, Tensor]
    watched: dict[str, Tensor]
    pictures: Callable[[], dict[str, Tensor]] | None = None


class LabelledImages(NamedTuple):
    """Files of whole images, their labels, (K,) zeros and ones, and where there are some their masks, by id."""

    paths: Mapping[str, Path]
    labels: Mapping[str, np.ndarray]
    masks: Mapping[str, Path] = {}


class ReleasedState:
    """The state of a net under the released names, as checkpoints hold it: what `released` gives and `load` puts in."""

    def __init__(
        self,
        net: nn.Module,
        released: Callable[[nn.Module], dict[str, Tensor]] = released_state_dict,
        load: Callable[..., LoadReport] = load_released_state_dict,
    ) -> None:
        self.net, self.released, self.load = net, released, load

    def state_dict(self) -> dict[str, Tensor]:
        return self.released(self.net)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Raises `UserError` if the net differs."""
        self.load(self.net, state_dict, source="last.ckpt")


class Learner(nn.Module, ABC):
    """From a batch to its losses in one forward pass, and from an image to its maps.

    One module, so that several processes' gradients can be averaged while backward runs
    (`tool.distributed.one_over_processes`): what wraps a module sees one pass a step, though a net may run twice in it,
    and no output that a loss does not read.

    Args:
        net: what is trained and saved.
        criterion: the losses; what outlives a step is a buffer of it, and saved.
        amp: what the nets' passes compute in, one of `tool.flags.AMP`; losses are computed in float32.
        compiled: compile the net's training pass, once for each shape.
        helper: a frozen net that the method asks, such as one for superpixels: neither trained nor saved.
    """

    measures_shares: ClassVar[bool] = True  # whether what `validate` finds are shares, told in per cent
    has_background_map: ClassVar[bool] = False  # whether `maps` takes `tool.cam.BACKGROUND` for a class
    superpixels: Superpixels | None = None  # along which `maps` are brought to pixels, where that is asked for

    def __init__(
        self,
        net: nn.Module,
        criterion: nn.Module,
        *,
        amp: str = "off",
        compiled: bool = False,
        helper: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.net, self.criterion, self.amp = net, criterion, amp
        if compiled:  # as one graph, where the compiler would cut it at the buckets of several processes' gradients
            torch._dynamo.config.optimize_ddp = False
        # The net alone is compiled: it is most of the work, and a criterion's collectives would break its graph.
        # Both in a tuple, which keeps them from being parts of this module: the one is there already.
        self._aside = (torch.compile(net, dynamic=False) if compiled else net, helper and helper.eval())

    @property
    def training_net(self) -> nn.Module:
        """The net as training calls it, compiled or not."""
        return self._aside[0]

    @property
    def helper(self) -> nn.Module | None:
        return self._aside[1]

    # -- training ------------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch, moment: Moment) -> Losses:
        """
        Args:
            batch: image (N, 3, H, W), normalised; label (N, K), zeros and ones; what else the method reads.
        """
        with autocast(batch["image"].device, self.amp):
            outputs = self.outputs(batch)
        return self.losses(outputs, batch, moment)

    @abstractmethod
    def outputs(self, batch: Batch) -> Any:
        """What the nets give of a batch; computed in half precision where that is asked for."""

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch, moment: Moment) -> Losses:
        """What `outputs` cost, in float32."""

    def groups(self, *, lr: float, weight_decay: float) -> list[dict]:
        """The optimiser's groups of parameters, each with its rate and decay."""
        return parameter_groups(self.net, head_layers=self.net.head_layers, lr=lr, weight_decay=weight_decay)

    def saved(self) -> dict[str, Stateful]:
        """What a checkpoint holds of it, by name."""
        return {"model": ReleasedState(self.net), "criterion": self.criterion}

    # -- inference -----------------------------------------------------------------------------------------------------

    def maps(self, image: Image.Image, scale: float, classes: Tensor, device: torch.device) -> Tensor:
        """The maps of n classes, int64 (n) on `device`, of an image at a scale, float32 (n, h, w): those of the scaled
        image and of its mirror image, turned back, added; brought to pixels first where there are `superpixels`."""

        def net(pixels: Tensor) -> Tensor:
            with autocast(device, self.amp):
                return self.net.foreground_cam(pixels)

        pair = self.input_pair(image, scale, device)
        # One channel a class of the image: what follows would be done to the others for nothing.
        maps = maps_of_pair(net, pair).index_select(1, classes)
        if self.superpixels is None:
            return turned_back(maps)
        return self.superpixels.spread(maps, self.superpixels.associations(self.superpixel_pair(pair)))

    def input_pair(self, image: Image.Image, scale: float, device: torch.device) -> Tensor:
        """What `maps` shows the net of an image at a scale: it and its mirror image, normalised, (2, 3, h, w)."""
        return mirrored_pair(image, scale, normalise=self.net.normalisation.of_pixels, device=device)

    def superpixel_pair(self, pair: Tensor) -> Tensor:
        """What `maps` shows the superpixel network, of the same extent as the net's maps: (2, 3, H, W), both sides
        multiples of 16."""
        return to_whole_cells(SCN.normalisation.of_others(pair, self.net.normalisation))

    @torch.inference_mode()
    def validate(self, images: LabelledImages, device: torch.device) -> dict[str, float]:
        """What it is worth on images that it does not train on, by the names of the curves; in all processes.

        Mean average precision of the scores of whole images' labels, unless a method has another measure.
        """
        self.eval()

        def scores_of(path: Path, image: Image.Image) -> np.ndarray:
            pixels = self.net.normalisation(image, device)[None]
            with autocast(device, self.amp):
                return self.net.scores(pixels)[0].cpu().numpy()

        scores = found_by_all(list(images.paths.values()), scores_of, read=load_rgb, what="score image labels")
        truth = np.stack([images.labels[image_id] for image_id in images.paths])
        return {"mean_average_precision": mean_average_precision(np.stack(scores)[:, : truth.shape[1]], truth)}

    # -- weights -------------------------------------------------------------------------------------------------------

    def load(self, path: str | Path, *, background_last: bool = False) -> LoadReport:
        """Put the weights of a file into the net; as `network.weights.load_weights`."""
        return load_weights(self.net, path, background_last=background_last)

    def load_first(self, flag: str, path: str, *, backbone: str, background_last: bool) -> LoadReport:
        """Put into the net what a fresh run starts from: of the file at `path`, or `network.PRETRAINED`.

        flag: which of the method's `weight_flags` says so. backbone: of --backbone.
        """
        if path == PRETRAINED:
            return load_pretrained(self.net, backbone)
        return self.load(path, background_last=background_last)

    def released(self) -> dict[str, dict[str, Tensor]]:
        """The weights under their released names, by the ending of the file's stem that holds them."""
        return {"": released_state_dict(self.net)}
