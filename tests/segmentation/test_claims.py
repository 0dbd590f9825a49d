"""Folders of label maps and of logits belong to one net, though another may have the same tensors."""

import json
from pathlib import Path

import pytest
import torch

from segmentation.experiment.config import config_dict
from segmentation.experiment.test import open_folders
from segmentation.net import net_of
from segmentation.settings import Config, read_config
from tool.cli import UserError

COMMON = ["MODEL_BACKBONE_DEEPBASE=False", "DATA_MEAN=0.4,0.5,0.6", "DATA_STD=0.2,0.3,0.4"]  # timm's are others
BACKBONE = ["MODEL_BACKBONE=resnet50"]
OTHERS = {
    "MODEL_BACKBONE_DILATED": ([*BACKBONE, "MODEL_BACKBONE_DILATED=False"], "True then, False now"),
    "MODEL_BACKBONE_MULTIGRID": ([*BACKBONE, "MODEL_BACKBONE_MULTIGRID=True"], "False then, True now"),
    "MODEL_BACKBONE": (["MODEL_BACKBONE=timm:resnet50"], "resnet50 then, timm:resnet50 now"),
}
RECORDS = {"label maps": "exps/run/results/val_settings.json", "logits": "logits_settings.json"}


def config_of(folder: Path, net: list[str], kind: str) -> Config:
    """A test of one checkpoint, never loaded here, into the same folder of label maps, or of logits alone."""
    (folder / "net.pth").touch()
    places = [f"EXP_ROOT={folder / 'exps'}", f"TEST_CKPT={folder / 'net.pth'}", "EXP_NAME=run"]
    if kind == "logits":
        places[-1:] = [f"EXP_NAME=run {len([*folder.glob('exps/*')])}", f"TEST_LOGITS={folder / 'logits'}"]
    return read_config(config_dict, [*COMMON, *net, *places])


def shapes_of(config: Config) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in net_of(config).state_dict().items()}


@pytest.mark.parametrize("key", OTHERS)
@pytest.mark.parametrize("kind", RECORDS)
def test_files_of_another_net_with_the_same_tensors_are_refused(tmp_path, key, kind):
    net, said = OTHERS[key]
    first = config_of(tmp_path, BACKBONE, kind)
    open_folders(first)
    open_folders(config_of(tmp_path, BACKBONE, kind))
    other = config_of(tmp_path, net, kind)
    assert shapes_of(other) == shapes_of(first)
    with pytest.raises(UserError, match=f"other settings.*\n.*: {key}: {said}$"):
        open_folders(other)


@pytest.mark.parametrize("kind", RECORDS)
def test_an_older_record_counts_as_of_the_released_grid_and_of_any_backbone(tmp_path, kind):
    open_folders(config_of(tmp_path, BACKBONE, kind))
    record = tmp_path / RECORDS[kind]
    older = {key: value for key, value in json.loads(record.read_text()).items() if key not in OTHERS}
    assert "TEST_AMP" in older
    record.write_text(json.dumps(older))
    for net in (BACKBONE, OTHERS["MODEL_BACKBONE"][0]):
        open_folders(config_of(tmp_path, net, kind))
    for key in ("MODEL_BACKBONE_DILATED", "MODEL_BACKBONE_MULTIGRID"):
        net, said = OTHERS[key]
        with pytest.raises(UserError, match=f"\n.*: {key}: {said}$"):
            open_folders(config_of(tmp_path, net, kind))
