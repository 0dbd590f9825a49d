"""Stage 3: predict label maps with a trained DeepLab, and score them, with the settings of config.py.

    python test.py --set EXP_NAME=mine TEST_CKPT=../../exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth
    python test.py --set EXP_NAME=mine TEST_CKPT=... TEST_SPLIT=test      no ground truth: for the VOC server

Runs again from where it stopped: an image is done when its label map is there and whole.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python test.py` finds the packages from any folder
from data.images import check_images
from data.label_maps import check_label_maps
from data.score import count_images, file_pairs
from data.score_table import as_text, summarise
from segmentation.experiment.config import config_dict, configurations
from segmentation.settings import (
    Config,
    add_config_arguments,
    read_config,
    require_test_paths,
    settings_record,
    test_list,
    truth_folder,
)
from tool.artifact import reported_unwritable, write_json
from tool.cli import UserError, cores, pace, require_writable, run_script, script_parser
from tool.file_hash import sha256_of
from tool.folder import Claim, claim_folders, open_folder
from tool.lists import Source, find_images, find_masks, read_ids
from tool.metric import accuracies
from tool.torchrun import is_first, own_share

# What decides a label map, beside the checkpoint; of the net what its tensors' shapes leave open.
DECISIVE_FOR_LOGITS = (
    "MODEL_BACKBONE",
    "MODEL_BACKBONE_DILATED",
    "MODEL_BACKBONE_MULTIGRID",
    "TEST_AMP",
    "DATA_MEAN",
    "DATA_STD",
)
DECISIVE = (*DECISIVE_FOR_LOGITS, "TEST_MULTISCALE", "TEST_FLIP", "TEST_CRF", "TEST_CRF_IMAGE")
CHECKPOINT_HASH = "TEST_CKPT, sha256"  # beside them in records
# Those of them that came after older records.
CAME_LATER = {"TEST_CRF_IMAGE": "rgb", "MODEL_BACKBONE_DILATED": True, "MODEL_BACKBONE_MULTIGRID": False}
EXAMPLES = """\
  # predict and score the validation list
  python segmentation/experiment/test.py \\
      --set TEST_CKPT=exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth EXP_NAME=mine
  # without the CRF; results of other settings go elsewhere
  python segmentation/experiment/test.py --set EXP_NAME=mine_without_crf TEST_CRF=False \\
      TEST_CKPT=exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth
  # the test set, for the VOC server: no ground truth
  python segmentation/experiment/test.py --set EXP_NAME=mine TEST_SPLIT=test \\
      TEST_CKPT=exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth
  # four machines, each its part of the list; the first one scores
  torchrun --nnodes 4 --nproc_per_node 1 --rdzv_backend c10d --rdzv_endpoint HOST:29500 \\
      segmentation/experiment/test.py --set EXP_NAME=mine \\
      TEST_CKPT=exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 3: predict with a trained DeepLab and score, as config.py says.", examples=EXAMPLES)
    add_config_arguments(parser.add_argument_group("settings"), configurations)
    return parser.parse_args()


def results_of(config: Config) -> Path:
    """The folder of the label maps' folders, the scores and the records."""
    return config.EXP_ROOT / config.EXP_NAME / "results"


def label_map_folder(config: Config) -> Path:
    """The folder of the label maps, as VOC's server names it, of other data sets under their own title."""
    kit = f"VOC{config.DATA_YEAR}" if config.data_set.submission else config.data_set.title
    return results_of(config) / kit / "Segmentation" / f"comp6_{config.TEST_SPLIT}_cls"


def open_folders(config: Config) -> None:
    """Create the folders of label maps and logits, and keep others out; refuse one that holds another checkpoint's or
    setting's, and a place where TEST_SCORES could not be written."""
    folder = label_map_folder(config)
    open_folder(folder, "EXP_ROOT, EXP_NAME")
    if config.TEST_SCORES is not None:
        with reported_unwritable(config.TEST_SCORES):
            config.TEST_SCORES.parent.mkdir(parents=True, exist_ok=True)
        require_writable(config.TEST_SCORES, "TEST_SCORES")
    # Not in the folder itself, which is packed for the server as it is.
    record = results_of(config) / f"{config.TEST_SPLIT}_settings.json"
    claim_folders([claim_of(folder, "EXP_NAME", record, DECISIVE, config)])
    if config.TEST_LOGITS is not None:
        claim_logits(config)


def claim_of(folder: Path, key: str, record: Path, decisive: tuple[str, ...], config: Config) -> Claim:
    """That of a folder of files, which `key` leads to, that the checkpoint and the `decisive` keys decide. An older
    record does not say of which backbone its files are: it counts as of this one."""
    settings = {name: value for name, value in settings_record(config).items() if name in decisive}
    return Claim(
        folder,
        key,
        settings | {CHECKPOINT_HASH: checkpoint_of(config)},
        record,
        CAME_LATER | {"MODEL_BACKBONE": config.MODEL_BACKBONE},
    )


def record_of_logits(config: Config) -> Path:
    return config.TEST_LOGITS.with_name(f"{config.TEST_LOGITS.name}_settings.json")


def checkpoint_of(config: Config) -> str:
    """The SHA-256 of TEST_CKPT; without one that of the net that the record of TEST_LOGITS names, or, where there is no
    record, a text with the folder. Raises `UserError` for a record that is none."""
    if config.TEST_CKPT is not None:
        return sha256_of(config.TEST_CKPT)
    record = record_of_logits(config)
    if not record.exists():
        return f"unknown, of {config.TEST_LOGITS}"
    try:
        return json.loads(record.read_text())[CHECKPOINT_HASH]
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise UserError(f"{record}: cannot be read as the record of settings that it is ({error})") from error


def claim_logits(config: Config) -> None:
    """Create TEST_LOGITS and keep others out, or refuse it if it holds another checkpoint's or setting's; without a
    checkpoint logits that nothing is noted of, as the release's, are taken as they are."""
    folder, record = config.TEST_LOGITS, record_of_logits(config)
    open_folder(folder, "TEST_LOGITS")
    if config.TEST_CKPT is None and not record.exists():
        print(f"TEST_LOGITS {folder}: taken as this net's, since {record} is missing, which would say so")
        return
    claim_folders([claim_of(folder, "TEST_LOGITS", record, DECISIVE_FOR_LOGITS, config)])


def check_data(config: Config, ids: list[str]) -> dict[str, Path]:
    """The images of this process's share of the list, by id, after they and, but for the test set, their ground truths
    were looked at; that those of the others are there, too."""
    source, truth = Source("DATA_LISTS", test_list(config)), truth_folder(config)
    images = find_images(ids, config.DATA_ROOT, config.data_set, flag="DATA_ROOT", source=source, fixed=True)
    own = {image_id: images[image_id] for image_id in own_share(ids)}
    if config.TEST_SPLIT == "test":
        check_images(own, config.DATA_ROOT)
        return own
    masks = find_masks(ids, config.DATA_ROOT, config.data_set, flag="DATA_ROOT", source=source, fixed=True)
    check_label_maps(own, masks, config.data_set, label_root=truth, label_key="DATA_ROOT, ground truth")
    return own


def score(config: Config) -> None:
    """Print and keep IoU of every label and mIoU, in per cent, on the split's list."""
    pairs = file_pairs(test_list(config), label_map_folder(config), truth_folder(config), "png", config.data_set)
    started = time.perf_counter()
    counts, _ = count_images(pairs, "png", config.data_set, num_workers=cores())
    summary = summarise(counts, config.data_set)
    print(f"scored {len(pairs)} images {pace(started, len(pairs))}")
    print(as_text(summary))
    write_json(results_of(config) / f"{config.TEST_SPLIT}_score.json", summary)
    if config.TEST_SCORES is not None:
        write_json(config.TEST_SCORES, accuracies(counts[:, 0]))


def report(config: Config) -> None:
    """The scores, or how the label maps become a submission."""
    data_set = config.data_set
    if config.TEST_SPLIT != "test":
        score(config)
    elif data_set.submission:
        images = config.DATA_ROOT / data_set.images[0]
        places = {"--results": label_map_folder(config), "--list": test_list(config), "--img_root": images}
        words = shlex.join(word for flag, path in places.items() for word in (flag, str(path)))
        print(f"for the {data_set.title} server, from {ROOT}: {data_set.submission} {words}")


def main() -> None:
    args = parse_arguments()
    config = read_config({**config_dict, **configurations.get(args.config, {})}, args.set)
    require_test_paths(config)
    ids = read_ids(test_list(config), "DATA_LISTS")
    images = check_data(config, ids)
    # Not at the top: they import torch, which takes seconds; a mistake in a key or a file has been named by now.
    import torch

    from segmentation.inference import load_net, needs_net, predict_missing
    from tool.device import device_names
    from tool.distributed import join_processes, wait_for_all

    device_names(config.GPUS, "GPUS", each=True)
    join_processes(torch.device("cpu"))  # GPUs are for the processes of the pools
    if with_weights := needs_net(config, images):
        if config.TEST_CKPT is None:
            raise UserError(
                f"TEST_CKPT: expected a file, found None; files of TEST_LOGITS {config.TEST_LOGITS} are damaged"
            )
        load_net(config)  # a wrong checkpoint is reported here and once, not by every process
    if is_first():
        open_folders(config)
    wait_for_all()
    predict_missing(config, images, label_map_folder(config), with_weights=with_weights)
    if is_first():
        report(config)


if __name__ == "__main__":
    run_script(main)
