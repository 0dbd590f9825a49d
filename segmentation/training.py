"""A run of stage 3's training, from its configuration and ids to its files; what it reads has been checked."""

from collections.abc import Mapping
from glob import escape
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from data.normalisation import Normalisation
from data.training import LabelMapSet, training_loader
from network import CAFFE_RESNET101
from network.backbone_weights import load_backbone, load_caffe
from segmentation import weights_of_run, weights_stem
from segmentation.data import ScalesAugmentation, SegmentationAugmentation, start_loader_process
from segmentation.engine import LOG_EVERY, build_training, make_step
from segmentation.net import net_of, normalisation_of
from segmentation.settings import Config, check_processes, settings_record
from tool.checkpoint import save_weights
from tool.device import device_names, place
from tool.distributed import join_processes, leave_processes, wait_for_all, world_size
from tool.torchrun import is_first
from tool.training_run import Run, StartedRun, start_run

# Q: CRT's DeepLab starts from what more than image labels taught, and says so nowhere.
ABOUT_CAFFE = (
    "  these are Caffe-style weights; those that CRT's figures are from (deeplabv1_resnet101-coco.pth) learnt from"
    " COCO's segmentation masks, which is more than image labels and ImageNet"
)


def make_loader(
    config: Config, images: Mapping[str, Path], steps: range, *, normalisation: Normalisation, pin_memory: bool
) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before."""
    common = {
        "crop_size": config.DATA_RANDOMCROP,
        "jitter": (config.DATA_RANDOM_H, config.DATA_RANDOM_S, config.DATA_RANDOM_V),
        "mirrored": config.DATA_RANDOMFLIP,
        "normalisation": normalisation,
    }
    if config.DATA_SCALES is None:
        augmentation = SegmentationAugmentation(**common, scale=config.DATA_RANDOMSCALE)
    else:
        augmentation = ScalesAugmentation(**common, scales=config.DATA_SCALES)
    dataset = LabelMapSet(
        images,
        label_root=config.DATA_PSEUDO_GT,
        data_set=config.data_set,
        augmentation=augmentation,
        seed=config.TRAIN_SEED,
    )
    return training_loader(
        dataset,
        config.images_a_step,
        seed=config.TRAIN_SEED,
        shuffle=config.TRAIN_SHUFFLE,
        steps=steps,
        num_workers=config.DATA_WORKERS,
        pin_memory=pin_memory,
        start_process=start_loader_process,
    )


class Weights:
    """The run's weights: a file an epoch, which replaces the one before, and in the end one of the whole run."""

    def __init__(self, config: Config, net: nn.Module, folder: Path) -> None:
        self.settings, self.net = vars(config), net
        self.stem = folder / weights_stem(self.settings)

    def save_epoch(self, epoch: int) -> Path:
        """Write the file of `epoch`, from 1, and give it."""
        return self._save(Path(f"{self.stem}_epoch{epoch}.pth"))

    def save_run(self, num_steps: int) -> Path:
        """Write the whole run's file, and give it."""
        return self._save(self.stem.with_name(weights_of_run(self.settings, num_steps)))

    def _save(self, path: Path) -> Path:
        save_weights(path, self.net.state_dict())
        for other in self.stem.parent.glob(f"{escape(self.stem.name)}_epoch*.pth"):
            if other != path:
                other.unlink()
        return path


def first_weights(config: Config, net: nn.Module) -> str:
    """Put the weights that a fresh run starts from into `net`; a line on where they come from."""
    if not config.MODEL_BACKBONE_PRETRAIN or not is_first():  # the others get process 0's when their nets become one
        return "random weights"
    if config.MODEL_BACKBONE == CAFFE_RESNET101:
        return f"{load_caffe(net, config.MODEL_BACKBONE_WEIGHTS)}\n{ABOUT_CAFFE}"
    return str(load_backbone(net, config.MODEL_BACKBONE, config.MODEL_BACKBONE_WEIGHTS))


def run_of(config: Config, *, settings: dict, defaults: dict, resume: bool) -> Run:
    """The run as its command line names it; the arguments are `train_run`'s."""
    folder = config.EXP_ROOT / config.EXP_NAME
    return Run(folder, settings_record(config), settings, resume, "EXP_ROOT", "EXP_NAME", defaults)


def train_run(config: Config, images: Mapping[str, Path], *, settings: dict, defaults: dict, resume: bool) -> None:
    """Train on `images`, by id, from the start or from the run's checkpoint, and write all the run's files.

    Args:
        settings, defaults, resume: of `tool.training_run.Run`.

    Raises `UserError` for GPUs that are not there, a checkpoint or weights that do not fit, and as `run_steps`.
    """
    on_gpus = device_names(config.GPUS, "GPUS") != ["cpu"]
    device = join_processes(torch.device("cuda" if on_gpus else "cpu"))
    check_processes(config, world_size())
    run = run_of(config, settings=settings, defaults=defaults, resume=resume)
    checkpoint = run.find_checkpoint()
    steps_per_epoch = len(images) // config.images_a_step
    num_steps = max(config.TRAIN_ITERATION, config.TRAIN_MINEPOCH * steps_per_epoch)
    torch.manual_seed(config.TRAIN_SEED)
    net = place(net_of(config), device, config.TRAIN_AMP)
    normalisation = normalisation_of(config, net)
    origin = first_weights(config, net) if checkpoint is None else None
    wait_for_all()  # by the hosts, as the first process may download: NCCL gives up after ten minutes
    training = build_training(
        net,
        lr=config.TRAIN_LR,
        momentum=config.TRAIN_MOMENTUM,
        weight_decay=config.TRAIN_WEIGHT_DECAY,
        power=config.TRAIN_POWER,
        num_steps=num_steps,
        lr_decay=config.TRAIN_LR_DECAY,
    )
    started = start_run(
        run,
        training,
        checkpoint,
        origin=origin,
        num_steps=num_steps,
        num_images=len(images),
        curves=config.TRAIN_TBLOG,
    )
    weights = Weights(config, net, run.folder)
    loader = make_loader(config, images, started.steps, normalisation=normalisation, pin_memory=device.type == "cuda")
    losses = take_steps(config, started, loader, weights, normalisation=normalisation, epoch=steps_per_epoch)
    if started.log is not None:
        # After the loop: a run that had taken its last step, and whose file is gone, writes it again.
        started.say_trained(len(started.steps) * config.images_a_step, weights.save_run(num_steps))
        started.end(losses)
    leave_processes()


def take_steps(
    config: Config,
    started: StartedRun,
    loader: DataLoader,
    weights: Weights,
    *,
    normalisation: Normalisation,
    epoch: int,
) -> dict[str, float]:
    """Train on the batches of `loader`, and write `weights` at the end of each epoch of so many steps; the last
    losses."""

    def write_weights(step: int) -> None:
        started.log.line(f"weights: {weights.save_epoch(step // epoch)}", console=False)

    return started.train(
        make_step(
            started.training,
            amp=config.TRAIN_AMP,
            normalisation=normalisation,
            data_set=config.data_set,
            log=started.log,
            iter_size=config.TRAIN_ITER_SIZE,
        ),
        loader,
        seed=config.TRAIN_SEED,
        log_every=LOG_EVERY,
        save_every=config.TRAIN_SAVE_EVERY,
        epoch=epoch,
        write_weights=write_weights,
    )
