"""Stage 3: train DeepLab on pseudo labels, with the settings of config.py.

    python train.py
    python train.py --set EXP_NAME=mine DATA_PSEUDO_GT=../../exps/crf/crf_8_7 --resume

Released recipe (the defaults): ResNet-101 from ImageNet weights, 20,000 steps of batch 10 at crop 448. With GPUS above
1 it starts torchrun by itself; torchrun may also start it, on one machine or on several.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python train.py` finds the packages from any folder
from data.images import hash_of_sizes
from data.label_maps import check_label_maps
from segmentation.experiment.config import config_dict, configurations
from segmentation.settings import (
    Config,
    add_config_arguments,
    check_processes,
    read_config,
    require_training_paths,
    settings_record,
    train_list,
)
from tool.cli import FILE, UserError, add_switch, run_script, script_parser, what_is_at
from tool.file_hash import sha256_of
from tool.folder import checkpoint_of
from tool.limits import check_loaders
from tool.lists import LABEL_MAP_ENDINGS, Source, expect_files, find_images, read_ids
from tool.lock import hold_folder
from tool.torchrun import is_first, loader_processes, own_share, started_by_torchrun
from tool.training_flags import hash_of_ids

# Keys that may change between a run and its resumption: they do not touch the weights, or what they lead to is known.
FREE_TO_CHANGE = {
    "EXP_ROOT",
    "GPUS",
    "DATA_WORKERS",
    "TRAIN_TBLOG",
    "TRAIN_SAVE_EVERY",
    "DATA_SET",
    "DATA_ROOT",
    "DATA_PSEUDO_GT",
    "DATA_LISTS",
}
FROM_FILE = "MODEL_BACKBONE_WEIGHTS names a file"
# What runs had that are older than these keys.
CAME_LATER = {"TRAIN_ITER_SIZE": 1}
EXAMPLES = """\
  # the released recipe, as config.py has it
  python segmentation/experiment/train.py
  # other settings for one run
  python segmentation/experiment/train.py --set EXP_NAME=mine DATA_PSEUDO_GT=exps/crf/crf_8_7
  # go on after a stop: the same command with --resume
  python segmentation/experiment/train.py --set EXP_NAME=mine DATA_PSEUDO_GT=exps/crf/crf_8_7 \\
      --resume
  # a released experiment: SEAM's and PPC's net, on masks of one's own
  python segmentation/experiment/train.py --config SEAM_deeplabv1_resnet38 \\
      --set DATA_PSEUDO_GT=exps/seam/out_rw
  # two GPUs: starts torchrun by itself
  python segmentation/experiment/train.py --set GPUS=2
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 3: train DeepLab on pseudo labels, as config.py says.", examples=EXAMPLES)
    add_config_arguments(parser.add_argument_group("settings"), configurations)
    run = parser.add_argument_group("run")
    add_switch(run, "--resume", default=False, help="go on from the run's last.ckpt where there is one (False)")
    return parser.parse_args()


def settings_of(config: Config, ids: list[str]) -> dict:
    """What decides what a run's weights become; ids and pseudo labels by themselves, wherever they lie.

    Images are taken to be what their ids say: one that was damaged may be mended. A file of first weights is known by
    `hash_of_first`.
    """
    settings = {
        key: value
        for key, value in settings_record(config).items()
        if key not in FREE_TO_CHANGE and not key.startswith("TEST_")
    }
    settings[FROM_FILE] = settings.pop("MODEL_BACKBONE_WEIGHTS") is not None
    return {
        **settings,
        "the ids of DATA_LISTS (sha256)": hash_of_ids(ids),
        "the label maps of DATA_PSEUDO_GT (sha256 of their sizes)": hash_of_sizes(ids, config.DATA_PSEUDO_GT),
    }


def hash_of_first(config: Config) -> dict[str, str]:
    """What the file of weights holds that a fresh run starts from; nothing of one that is gone, which a run that goes
    on does not need."""
    path = config.MODEL_BACKBONE_WEIGHTS
    if not config.MODEL_BACKBONE_PRETRAIN or path is None or what_is_at(path) != FILE:
        return {}
    return {"the weights of MODEL_BACKBONE_WEIGHTS (sha256)": sha256_of(path)}


def check_data(config: Config, *, fresh: bool) -> dict[str, Path]:
    """The images to train on, by id, after every file that training will read has been looked at; `fresh` from the
    start, not from a checkpoint."""
    require_training_paths(config, fresh=fresh)
    ids = read_ids(train_list(config), "DATA_LISTS")
    if config.images_a_step > len(ids):
        times = f" x TRAIN_ITER_SIZE {config.TRAIN_ITER_SIZE}" if config.TRAIN_ITER_SIZE > 1 else ""
        raise UserError(f"TRAIN_BATCHES {config.TRAIN_BATCHES}{times}: {train_list(config)} has {len(ids)} images")
    source = Source("DATA_LISTS", train_list(config))
    images = find_images(ids, config.DATA_ROOT, config.data_set, flag="DATA_ROOT", source=source, fixed=True)
    expect_files(ids, config.DATA_PSEUDO_GT, ".png", flag="DATA_PSEUDO_GT", source=source, endings=LABEL_MAP_ENDINGS)
    check_label_maps(
        images,
        {identifier: config.DATA_PSEUDO_GT / f"{identifier}.png" for identifier in ids},
        config.data_set,
        label_root=config.DATA_PSEUDO_GT,
        label_key="DATA_PSEUDO_GT",
        advice="run inference.py on this list to make what is missing",
    )
    return images


def batch_bytes(config: Config) -> int:
    """The size of this process's share of a batch: float32 images and int64 labels."""
    return (3 * 4 + 8) * config.DATA_RANDOMCROP**2 * len(own_share(range(config.images_a_step)))


def start_torchrun(processes: int) -> None:
    """Become torchrun, which starts this script once a GPU."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    os.execv(sys.executable, [*launcher, str(Path(__file__).resolve()), *sys.argv[1:]])


def main() -> None:
    args = parse_arguments()
    config = read_config({**config_dict, **configurations.get(args.config, {})}, args.set)
    alone = not started_by_torchrun()
    if alone and config.GPUS <= 1:
        check_processes(config, 1)
    folder = config.EXP_ROOT / config.EXP_NAME
    if is_first():
        hold_folder(folder, "EXP_ROOT")
    fresh = checkpoint_of(folder, resume=args.resume, name_flag="EXP_NAME") is None
    images = check_data(config, fresh=fresh)
    first = hash_of_first(config)
    settings = settings_of(config, list(images)) | first
    defaults = CAME_LATER | first | {FROM_FILE: settings[FROM_FILE]}
    if not alone or config.GPUS <= 1:  # else each of torchrun's processes sees to its own
        check_loaders(
            workers=loader_processes(config.DATA_WORKERS),
            batch_bytes=batch_bytes(config),
            num_batches=max(config.TRAIN_ITERATION, config.TRAIN_MINEPOCH * (len(images) // config.images_a_step)),
            flag="DATA_WORKERS",
        )
    # Not at the top: they import torch, which takes seconds; a mistake in a key or a file has been named by now.
    from segmentation.training import run_of, train_run
    from tool.device import device_names

    if alone and config.GPUS > 1:  # what is wrong is reported here and once, not by every process
        device_names(config.GPUS, "GPUS")
        check_processes(config, config.GPUS)
        run_of(config, settings=settings, defaults=defaults, resume=args.resume).find_checkpoint()
        start_torchrun(config.GPUS)
    train_run(config, images, settings=settings, defaults=defaults, resume=args.resume)


if __name__ == "__main__":
    run_script(main)
