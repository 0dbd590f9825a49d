"""Stage 3: train DeepLab on pseudo labels, with the settings of config.py.

    python train.py
    python train.py --set EXP_NAME=mine DATA_PSEUDO_GT=../../exps/crf/crf_8_7 --resume

Released recipe (the defaults): ResNet-101 from ImageNet weights, 20,000 steps of batch 10 at crop 448. With GPUS above
1 it starts torchrun by itself; torchrun may also start it, on one machine or on several.
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python train.py` finds the packages from any folder
import tool  # noqa: F401  # before torch

# isort: split
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from segmentation.data import (
    InputNormalisation,
    PseudoLabelSet,
    SegmentationAugmentation,
    check_label_maps,
    start_loader_process,
)
from segmentation.engine import build_training, train
from segmentation.experiment.config import config_dict
from segmentation.net import net_of
from segmentation.net.weights import load_backbone
from segmentation.settings import (
    Config,
    add_config_arguments,
    read_config,
    require_training_paths,
    settings_record,
    train_list,
)
from tool.checkpoint import save_checkpoint
from tool.cli import UserError, add_switch, pace, run_script, script_parser
from tool.device import device_names, place
from tool.distributed import (
    join_processes,
    leave_processes,
    own_cores,
    rank,
    share_norms,
    started_by_torchrun,
    world_size,
)
from tool.lists import read_ids
from tool.lock import hold_folder
from tool.log import RunLog, curve_name
from tool.run import find_checkpoint, make_folder, restore_checkpoint
from voc12.dataset import EpochSampler, hash_of_sizes

# Keys that may change between a run and its resumption: they do not touch the weights, or what they lead to is known.
FREE_TO_CHANGE = {
    *("EXP_ROOT", "GPUS", "DATA_WORKERS", "TRAIN_TBLOG", "TRAIN_SAVE_EVERY"),
    *("DATA_ROOT", "DATA_PSEUDO_GT", "DATA_LISTS"),
}
EXAMPLES = """\
  # the released recipe, as config.py has it
  python segmentation/experiment/train.py
  # other settings for one run
  python segmentation/experiment/train.py --set EXP_NAME=mine DATA_PSEUDO_GT=exps/crf/crf_8_7
  # go on after a stop: the same command with --resume
  python segmentation/experiment/train.py --set EXP_NAME=mine DATA_PSEUDO_GT=exps/crf/crf_8_7 \\
      --resume
  # four GPUs: starts torchrun by itself
  python segmentation/experiment/train.py --set GPUS=4
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 3: train DeepLab on pseudo labels, as config.py says.", examples=EXAMPLES)
    add_config_arguments(parser.add_argument_group("settings"))
    run = parser.add_argument_group("run")
    add_switch(run, "--resume", default=False, help="go on from the run's last.ckpt where there is one (False)")
    return parser.parse_args()


def settings_of(config: Config, ids: list[str]) -> dict:
    """What decides what a run's weights become; ids and pseudo labels by themselves, wherever they lie.

    Images are taken to be what their ids say: one that was damaged may be mended.
    """
    settings = {
        key: value
        for key, value in settings_record(config).items()
        if key not in FREE_TO_CHANGE and not key.startswith("TEST_")
    }
    return {
        **settings,
        "the ids of DATA_LISTS (sha256)": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "the label maps of DATA_PSEUDO_GT (sha256 of their sizes)": hash_of_sizes(ids, config.DATA_PSEUDO_GT),
    }


def check_data(config: Config) -> list[str]:
    """The ids to train on, after every file that training will read has been looked at."""
    require_training_paths(config)
    ids = read_ids(train_list(config), "DATA_LISTS")
    if config.TRAIN_BATCHES > len(ids):
        raise UserError(f"TRAIN_BATCHES {config.TRAIN_BATCHES}: {train_list(config)} has {len(ids)} images")
    check_label_maps(
        ids,
        image_root=config.DATA_ROOT / "JPEGImages",
        label_root=config.DATA_PSEUDO_GT,
        label_key="DATA_PSEUDO_GT",
        advice="run inference.py on this list to make what is missing",
    )
    return ids


def check_processes(config: Config, processes: int) -> None:
    """Raise `UserError` where the batch does not go round."""
    if config.TRAIN_BATCHES % processes:
        raise UserError(f"TRAIN_BATCHES {config.TRAIN_BATCHES}: expected a multiple of the {processes} processes")
    pooled = config.MODEL_NAME == "deeplabv2" and config.MODEL_ASPP_HASGLOBAL
    shared = processes > 1 and torch.cuda.is_available()  # the norms' statistics
    if pooled and config.TRAIN_BATCHES == processes and not shared:
        raise UserError(
            f"TRAIN_BATCHES {config.TRAIN_BATCHES}: expected at least two images a process, since the norm behind the"
            " image's mean has no statistics of one; or set MODEL_ASPP_HASGLOBAL=False"
        )


def start_torchrun(processes: int) -> None:
    """Become torchrun, which starts this script once a GPU."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    os.execv(sys.executable, [*launcher, str(Path(__file__).resolve()), *sys.argv[1:]])


def make_loader(config: Config, ids: list[str], steps: range, *, pin_memory: bool) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before."""
    augmentation = SegmentationAugmentation(
        crop_size=config.DATA_RANDOMCROP,
        scale=config.DATA_RANDOMSCALE,
        jitter=(config.DATA_RANDOM_H, config.DATA_RANDOM_S, config.DATA_RANDOM_V),
        mirrored=config.DATA_RANDOMFLIP,
        normalise=InputNormalisation(config.DATA_MEAN, config.DATA_STD),
    )
    dataset = PseudoLabelSet(
        ids,
        image_root=config.DATA_ROOT / "JPEGImages",
        label_root=config.DATA_PSEUDO_GT,
        augmentation=augmentation,
        seed=config.TRAIN_SEED,
    )
    sampler = EpochSampler(
        len(ids),
        config.TRAIN_BATCHES,
        seed=config.TRAIN_SEED,
        shuffle=config.TRAIN_SHUFFLE,
        start_step=steps.start,
        num_steps=len(steps),
        rank=rank(),
        world_size=world_size(),
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=min(config.DATA_WORKERS, own_cores()),
        pin_memory=pin_memory,
        worker_init_fn=start_loader_process,
    )


def over_processes(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """`net`, or one net over all processes: gradients averaged and, on GPUs, batch norms synchronised."""
    if world_size() == 1:
        return net
    share_norms(net)  # in place: the head's norms are the modules that `net` itself holds
    return DistributedDataParallel(net)


class Weights:
    """The run's weights: a file an epoch, which replaces the last one, and in the end one of the whole run."""

    def __init__(self, config: Config, folder: Path, *, steps_per_epoch: int) -> None:
        self.stem = folder / f"{config.MODEL_NAME}_{config.MODEL_BACKBONE}_{config.DATA_NAME}"
        self.steps_per_epoch = steps_per_epoch

    def _of_epochs(self) -> list[Path]:
        return sorted(self.stem.parent.glob(f"{self.stem.name}_epoch*.pth"))

    def of_run(self, num_steps: int) -> Path:
        return Path(f"{self.stem}_itr{num_steps}_all.pth")

    def save(self, net: nn.Module, step: int, *, last: bool) -> Path | None:
        """Write what is due after `step` steps; the file, or None."""
        earlier = self._of_epochs()
        if last:
            path = self.of_run(step)
        elif step % self.steps_per_epoch == 0:
            path = Path(f"{self.stem}_epoch{step // self.steps_per_epoch}.pth")
        else:
            return None
        save_checkpoint(path, net.state_dict())
        for other in earlier:
            if other != path:
                other.unlink()
        return path


def first_weights(config: Config, net: nn.Module) -> str:
    """Put the weights that a fresh run starts from into `net`; a line on where they come from."""
    if not config.MODEL_BACKBONE_PRETRAIN or rank() > 0:  # the others get process 0's when their nets become one
        return "random weights"
    return str(load_backbone(net, config.MODEL_BACKBONE, config.MODEL_BACKBONE_WEIGHTS))


def main() -> None:
    args = parse_arguments()
    config = read_config(config_dict, args.set)
    device = torch.device(device_names(config.GPUS, "GPUS")[0])
    if not started_by_torchrun():
        check_processes(config, max(config.GPUS, 1))
    ids = check_data(config)
    folder = config.EXP_ROOT / config.EXP_NAME
    settings = settings_of(config, ids)
    device = join_processes(device)  # alone as long as torchrun was not started
    if rank() == 0:
        hold_folder(folder, "EXP_ROOT")
    checkpoint = find_checkpoint(folder, resume=args.resume, settings=settings, name_flag="EXP_NAME")
    if config.GPUS > 1 and not started_by_torchrun():
        start_torchrun(config.GPUS)
    check_processes(config, world_size())

    steps_per_epoch = len(ids) // config.TRAIN_BATCHES
    num_steps = max(config.TRAIN_ITERATION, config.TRAIN_MINEPOCH * steps_per_epoch)
    torch.manual_seed(config.TRAIN_SEED)
    net = place(net_of(config), device, config.TRAIN_AMP)
    training = build_training(
        net,
        lr=config.TRAIN_LR,
        momentum=config.TRAIN_MOMENTUM,
        weight_decay=config.TRAIN_WEIGHT_DECAY,
        power=config.TRAIN_POWER,
        num_steps=num_steps,
    )
    if checkpoint is None:
        first_step, origin = 0, first_weights(config, net)
    else:
        first_step = restore_checkpoint(training, checkpoint, folder=folder, num_steps=num_steps)
        origin = "resumed"
    log = None
    if rank() == 0:
        make_folder(folder, settings_record(config), flag="EXP_ROOT")
        log = RunLog(folder, first_step=first_step, curves=config.TRAIN_TBLOG)
        log.line(origin)
        log.line(f"step {first_step} of {num_steps}, {len(ids)} images, on {world_size()} x {device.type}")
    weights = Weights(config, folder, steps_per_epoch=steps_per_epoch)

    def save(step: int) -> None:
        if log is None:
            return
        path = weights.save(net, step, last=step == num_steps)
        if path is not None:
            log.line(f"weights: {path}", console=False)
        # After the weights: a run killed between the two goes on from an earlier step, and writes them again.
        save_checkpoint(folder / "last.ckpt", {**training.state(), "step": step, "settings": settings})

    started, steps = time.perf_counter(), range(first_step, num_steps)
    losses = train(
        training,
        make_loader(config, ids, steps, pin_memory=device.type == "cuda"),
        forward=over_processes(net),
        device=device,
        amp=config.TRAIN_AMP,
        normalise=InputNormalisation(config.DATA_MEAN, config.DATA_STD),
        steps=steps,
        seed=config.TRAIN_SEED,
        log=log,
        save=save,
        save_due=lambda step: step % config.TRAIN_SAVE_EVERY == 0 or step % steps_per_epoch == 0,
    )
    if log is not None:
        images = len(steps) * config.TRAIN_BATCHES
        log.line(f"trained {len(steps)} steps {pace(started, images)}: {weights.of_run(num_steps)}")
        log.hparams(num_steps, settings_record(config), [curve_name(name) for name in losses])
        log.close()
    leave_processes()


if __name__ == "__main__":
    run_script(main)
