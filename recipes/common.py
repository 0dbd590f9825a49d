"""Stages that recipes share, on VOC 2012. Files go to OUT: data/ (lists, labels), a folder a method, deeplab/."""

from pathlib import Path
from typing import Any

from method import METHODS
from recipes import mini
from tool.cli import UserError
from tool.recipe import Setup, Stage


def inputs(setup: Setup) -> dict[str, Path]:
    """The flags of training and inference for images and their labels."""
    return {"data_root": setup.voc12_root / "JPEGImages", "labels": setup.out / "data" / "cls_labels.npy"}


def prepare(setup: Setup, *, saliency: bool = True) -> Stage:
    """Labels and lists, after a look at every file."""
    saliency_root = setup.saliency_root if saliency else None
    data = setup.out / "data"
    flags = {"voc12_root": setup.voc12_root, "saliency_root": saliency_root, "out": data}
    return setup.stage("prepare", "voc12.prepare", flags, makes=data / "cls_labels.npy", fixed=["out"])


def training(
    setup: Setup, method: str, *, name: str = "train", saliency: bool = True, mini_flags: dict[str, Any]
) -> Stage:
    """Training of a method on train_aug.txt as released, or with `mini_flags` at `--mini`."""
    flags = {
        **{"method": method, "work_dir": setup.out, **inputs(setup)},
        **{"saliency_root": setup.saliency_root if saliency else None},
        **{"train_list": setup.out / "data" / "train_aug.txt", "resume": True},
    }
    stage = setup.stage(name, "train_voc.py", flags, mini={**mini.TRAINING, **mini_flags}, makes=setup.out)
    session = stage.flags.get("session_name") or stage.flags.get("session") or stage.flags["method"]
    return stage._replace(makes=Path(stage.flags["work_dir"]) / session / f"{session}.pth")


def crf_seeds(trained: Stage) -> Path:
    """The folder of the CRF seeds that inference makes with the net that `trained` makes."""
    return trained.makes.parent / "crf" / METHODS[trained.flags["method"]].seeds.crf[0].folder


def inference(setup: Setup, trained: Stage, *, name: str, ids: str) -> Stage:
    """Seeds and CRF seeds of the list `ids`, by the net that `trained` makes; images that are done are left alone."""
    folder = trained.makes.parent
    net = {flag: trained.flags[flag] for flag in ("backbone", "width") if flag in trained.flags}
    flags = {
        **{"method": trained.flags["method"], "weights": trained.makes, **net, **inputs(setup)},
        **{"infer_list": setup.out / "data" / f"{ids}.txt", "work_dir": folder},
    }
    fixed = ["work_dir", "cam_npy", "cam_png"]
    return setup.stage(name, "inference.py", flags, makes=crf_seeds(trained), fixed=fixed)


def scores(setup: Setup, trained: Stage) -> list[Stage]:
    """mIoU on train.txt of the seeds, over the background thresholds, and of the CRF seeds."""
    folder = trained.makes.parent
    method = folder.name
    common = {"list": setup.out / "data" / "train.txt", "gt_dir": setup.voc12_root / "SegmentationClass"}
    common |= {"logfile": folder / "evallog.txt"}
    curve, crf = folder / "curve.json", folder / "crf.json"
    seeds = {"predict_dir": folder / "cam_npy", "type": "npy", "curve": True, "plot": folder / "curve.png"}
    labels = {"predict_dir": crf_seeds(trained), "type": "png"}
    return [
        setup.stage(
            "eval", "eval.py", {**common, **seeds, "json": curve, "comment": f"{method}: seeds"},
            makes=curve, score="seed", fixed=["json"],
        ),
        setup.stage(
            "eval_crf", "eval.py", {**common, **labels, "json": crf, "comment": f"{method}: CRF seeds"},
            makes=crf, score="seed_crf", fixed=["json"],
        ),
    ]  # fmt: skip


def report(setup: Setup, trained: Stage, *, saliency: bool = True) -> Stage:
    """The run as a page to look at, with the DeepLab that learnt from its seeds."""
    saliency_root = setup.saliency_root if saliency else None
    folder = trained.makes.parent
    flags = {"run": folder, "data_root": setup.voc12_root / "JPEGImages", "saliency_root": saliency_root}
    return setup.stage("report", "tool.report", flags, makes=folder / "report.html", fixed=["run", "out", "compare"])


def deeplab(setup: Setup, masks: Path, trained: Stage) -> list[Stage]:
    """DeepLab trained on the label maps `masks` of train_aug.txt, and its test with CRF on val.txt."""
    where = {"EXP_NAME": "deeplab", "EXP_ROOT": setup.out, "DATA_ROOT": setup.voc12_root}
    where |= {"DATA_LISTS": setup.out / "data", "DATA_PSEUDO_GT": masks}
    train = setup.stage(
        "deeplab",
        "segmentation/experiment/train.py",
        {**where, "resume": True},
        mini={**mini.DEEPLAB, "MODEL_BACKBONE_WEIGHTS": trained.makes},
        makes=setup.out / "deeplab" / "last.ckpt",
    )
    keys = train.settings
    if str(keys.get("TRAIN_MINEPOCH") or 0) != "0":
        raise UserError(
            f"--set {train.name}.TRAIN_MINEPOCH: expected TRAIN_ITERATION alone, by which run.py finds the weights; set"
            " that to as many steps"
        )
    folder = Path(keys["EXP_ROOT"]) / keys["EXP_NAME"]
    named = {"MODEL_NAME": "deeplabv2", "MODEL_BACKBONE": "resnet101", "DATA_NAME": "VOCDataset"}
    named |= {"TRAIN_ITERATION": 20000, **keys}
    file = "{MODEL_NAME}_{MODEL_BACKBONE}_{DATA_NAME}_itr{TRAIN_ITERATION}_all.pth".format_map(named)
    train = train._replace(makes=folder / file.replace(":", "_"))  # timm:NAME
    test = setup.stage(
        "test",
        "segmentation/experiment/test.py",
        {**keys, "TEST_CKPT": train.makes},
        makes=folder / "results" / "val_score.json",
        score="segmentation_val",
        fixed=["EXP_NAME", "EXP_ROOT", "TEST_SPLIT"],
    )
    return [train, test]
