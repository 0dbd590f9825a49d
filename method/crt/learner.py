"""CRT at work: both branches on a batch, one of them on an image."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.augmentation import top_left
from data.images import load_rgb
from method.crt.config import CRTConfig
from method.crt.criterion import CRTCriterion, label_loss
from method.learner import Batch, LabelledImages, Learner, Losses, Moment, ReleasedState
from method.picture import picture
from network.cells import CELL
from network.crt import CRTNet, CRTOutput, crt_state_dict, load_cnn, load_crt, load_crt_state_dict
from network.vit import PATCH, load_vit
from network.weights import LoadReport
from tool.dataset import DataSet
from tool.device import autocast
from tool.distributed import found_by_all
from tool.training import Stateful


class CRTLearner(Learner):
    """Both branches side by side on each batch."""

    measures_shares: ClassVar[bool] = False

    def __init__(
        self, net: CRTNet, config: CRTConfig, data_set: DataSet, *, amp: str = "off", compiled: bool = False
    ) -> None:
        super().__init__(net, CRTCriterion(config), amp=amp, compiled=compiled)
        self.config, self.data_set = config, data_set

    def outputs(self, batch: Batch) -> CRTOutput:
        return self.training_net(batch["image"])

    def losses(self, outputs: CRTOutput, batch: Batch, moment: Moment) -> Losses:
        label = batch["label"]

        def pictures() -> dict[str, Tensor]:
            cam, normalisation = outputs.transformer[0].detach().relu(), self.net.normalisation
            return picture(
                batch["image"][0],
                cam,
                label[0],
                self.data_set,
                normalisation=normalisation,
                saliency=None,
                pseudo=None,
            )

        return Losses(self.criterion(outputs, label, moment), watched={}, pictures=pictures)

    def groups(self, *, lr: float, weight_decay: float) -> list[dict]:
        """Each branch's body and its last layer, which learns ten times as fast; everything decays.

        The release has an optimiser a branch; with the same numbers for both, one that has all four groups takes the
        same steps.
        """
        groups = []
        for branch, head in ((self.net.cnn, "classifier"), (self.net.transformer, "head")):
            for factor, in_head in ((1, False), (10, True)):
                params = [
                    parameter
                    for name, parameter in branch.named_parameters()
                    if parameter.requires_grad and (name.split(".")[0] == head) is in_head
                ]
                groups.append({"params": params, "lr": factor * lr, "weight_decay": weight_decay})
        return groups

    def saved(self) -> dict[str, Stateful]:
        return {"model": ReleasedState(self.net, crt_state_dict, load_crt_state_dict), "criterion": self.criterion}

    def input_pair(self, image: Image.Image, scale: float, device: torch.device) -> Tensor:
        pair = super().input_pair(image, scale, device)
        if self.config.pad_mirror:
            return pair
        plain = F.pad(pair[0], (0, -pair.shape[3] % PATCH, 0, 0))
        return torch.stack([plain, plain.flip(-1)])

    def superpixel_pair(self, pair: Tensor) -> Tensor:
        """Padded, as the branches pad what they see, whose maps reach beyond the image."""
        height, width = pair.shape[2:]
        return super().superpixel_pair(F.pad(pair, (0, -width % CELL, 0, -height % CELL)))

    @torch.inference_mode()
    def validate(self, images: LabelledImages, device: torch.device) -> dict[str, float]:
        """The CNN's loss on the crops at the images' top left: the mean over full batches, as released; of fewer images
        than one, over all of them."""
        self.eval()
        every, size = list(images.paths), self.config.batch_size
        starts = range(0, len(every) - size + 1, size) if len(every) >= size else (0,)

        def crops_from(start: int) -> Tensor:
            return torch.stack([self._top_left(images.paths[image_id]) for image_id in every[start : start + size]])

        def loss_from(start: int, crops: Tensor) -> float:
            ids = every[start : start + size]
            label = torch.stack([torch.as_tensor(images.labels[image_id]) for image_id in ids]).to(device)
            with autocast(device, self.amp):
                maps = self.net.cnn(crops.to(device))
            return label_loss(maps, label).item()

        found = found_by_all(starts, loss_from, read=crops_from, what="score image labels", unit="batch")
        return {"cnn_loss": float(np.mean(found))}

    def _top_left(self, path: Path) -> Tensor:
        return top_left(load_rgb(path), self.config.side, self.net.normalisation)

    def load(self, path: str | Path, *, background_last: bool = False) -> LoadReport:
        return load_crt(self.net, path)

    def load_first(self, flag: str, path: str, *, backbone: str, background_last: bool) -> LoadReport:
        if flag == "weights":
            return load_cnn(self.net.cnn, backbone, path, flag="--weights")
        return load_vit(self.net.transformer, self.config.transformer, path, flag=f"--{flag}")

    def released(self) -> dict[str, dict[str, Tensor]]:
        """Both branches together, and each in a file as the release has it."""
        branches = {f"_{name}": dict(branch.state_dict()) for name, branch in self.net.branches.items()}
        return {"": crt_state_dict(self.net), **branches}
