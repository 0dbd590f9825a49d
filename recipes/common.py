"""Stages that recipes share, on the data sets of `recipes.data_sets`; lists are called as VOC's are.

Files go to OUT: data/ (lists, labels), a folder a method, deeplab/.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from method import METHODS, Method
from recipes import mini
from recipes.data_sets import OWN, has_masks, image_flags, layout, list_file, truth_flags, what_a_user_changes
from segmentation import weights_of_run
from segmentation.experiment.config import config_dict, configurations
from tool.cli import UserError
from tool.recipe import Flags, Setup, Stage

# ResNet-38's ImageNet weights (docs/reproduce.md).
RESNET38_WEIGHTS = "network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
# torchvision's, of ImageNet.
RESNET50_WEIGHTS = "network/resnet50-19c8e357.pth"


def released_deeplab(name: str) -> dict[str, Any]:
    """The keys of stage 3's released experiment `name`, but for its places."""
    keys = {key: value for key, value in configurations[name].items() if key not in ("EXP_NAME", "DATA_PSEUDO_GT")}
    return {key: "None" if value is None else value for key, value in keys.items()}  # None leaves a flag out


DEEPLABV1_RESNET38 = {**released_deeplab("SEAM_deeplabv1_resnet38"), "MODEL_BACKBONE_WEIGHTS": RESNET38_WEIGHTS}
DEEPLAB_MSC = released_deeplab("CRT_deeplabv2_resnet101_msc")


def inputs(setup: Setup) -> dict[str, Path]:
    """The flags of training and inference for images and their labels."""
    return {**image_flags(setup), "labels": setup.out / "data" / "cls_labels.npy"}


def prepare(setup: Setup, *, saliency: bool = True) -> Stage:
    """Labels and lists, after a look at every file."""
    saliency_root = setup.saliency_root if saliency else None
    data = setup.out / "data"
    flags = {f"{setup.data_set}_root": setup.data_root, "saliency_root": saliency_root, "out": data}
    stage = setup.stage("prepare", layout(setup).preparation, flags, makes=data / "cls_labels.npy", fixed=["out"])
    return stage._replace(reads=what_a_user_changes(setup))


def training(
    setup: Setup, method: str, *, name: str = "train", saliency: bool = True, mini_flags: dict[str, Any], **more: Any
) -> Stage:
    """Training of a method on train_aug.txt as released, with the flags `more`; at `--mini` with `mini_flags`."""
    flags = {
        "method": method,
        "work_dir": setup.out,
        **inputs(setup),
        "saliency_root": setup.saliency_root if saliency else None,
        "train_list": list_file(setup, "train_aug"),
        "resume": True,
        **more,
    }
    stage = setup.stage(name, "train_voc.py", flags, mini={**mini.TRAINING, **mini_flags}, makes=setup.out)
    session = stage.flags.get("session_name") or stage.flags.get("session") or stage.flags["method"]
    return stage._replace(makes=Path(stage.flags["work_dir"]) / session / f"{session}.pth")


def method_of(stage: Stage) -> Method:
    """The method that `stage` trains or infers with; any, where its flag is wrong, which the stage itself says."""
    return METHODS.get(stage.flags["method"], METHODS["hsc"])


def crf_seeds(infer: Stage) -> Path:
    """The folder of the CRF seeds that inference makes with the flags of `infer`; of several CRFs, the first one's.

    Raises `UserError` for a threshold in a file, which is not known yet.
    """
    flags, crf = infer.flags, method_of(infer).seeds.crf[0]
    number = ("crf_alpha", "alpha", float) if crf.threshold is None else ("thr", "threshold", float)
    for flag, name, kind in (("crf_t", "iterations", int), number):
        if flags.get(flag) is None:
            continue
        try:
            crf = replace(crf, **{name: kind(_first_word(flags[flag]))})
        except ValueError as error:
            raise UserError(
                f"--set {infer.name}.{flag}={flags[flag]}: expected a number, by which run.py finds the CRF seeds"
            ) from error
    return Path(flags["work_dir"], "crf", crf.folder)


def _first_word(value: Any) -> str:
    return str(value[0] if isinstance(value, list | tuple) else value)


def _seeding(stage: Stage, *, crf: bool) -> Stage:
    """`stage`, inference or merging, with what it makes: CRF seeds. Without a CRF: CAMs if the recipe has none (`crf`);
    label maps if the user switched it off."""
    if stage.flags.get("crf_t") != "none":
        return stage._replace(makes=crf_seeds(stage))
    return stage._replace(makes=Path(stage.flags["work_dir"], "cam_png" if crf else "cam_npy"))


def inference(
    setup: Setup, trained: Stage, *, name: str, ids: str, crf: bool = True, mini_flags: Flags | None = None, **more: Any
) -> Stage:
    """Seeds of the list `ids`, and with `crf` CRF seeds, by the net that `trained` makes; images that are done are left
    alone. more: other flags of inference.py."""
    folder = trained.makes.parent
    of_net = ("backbone", "width", *method_of(trained).net_flags)
    net = {flag: trained.flags[flag] for flag in of_net if flag in trained.flags}
    flags = {
        "method": trained.flags["method"],
        "weights": trained.makes,
        **net,
        **inputs(setup),
        "infer_list": list_file(setup, ids),
        "work_dir": folder,
        **({} if crf else {"crf_t": "none"}),
        **more,
    }
    fixed = ["work_dir", "cam_npy", "cam_png"]
    return _seeding(setup.stage(name, "inference.py", flags, mini=mini_flags, makes=folder, fixed=fixed), crf=crf)


def merging(
    setup: Setup, trained: Stage, cams: Sequence[Path], *, name: str, ids: str, crf: bool = True, **more: Any
) -> Stage:
    """The mean of the CAMs of the list `ids` in the folders `cams`, and its seeds, with `crf` CRF seeds, by the recipe
    of the method of `trained`, into its folder. more: other flags of merge.py."""
    folder = trained.makes.parent
    flags = {
        "cam_dir": [*cams],
        **image_flags(setup),
        "infer_list": list_file(setup, ids),
        "method": trained.flags["method"],
        "work_dir": folder,
        **({} if crf else {"crf_t": "none"}),
        **more,
    }
    return _seeding(setup.stage(name, "merge.py", flags, makes=folder, fixed=["work_dir"]), crf=crf)


def scores(setup: Setup, infer: Stage, **sweep: Any) -> list[Stage]:
    """mIoU on train.txt of the seeds that `infer` makes, over the background thresholds, and of its CRF seeds; nothing
    where there are no masks.

    sweep: the flags of `eval.py` that say which thresholds, and what is written of them (--curve).
    """
    if not has_masks(setup, "train"):
        return []
    folder = Path(infer.flags["work_dir"])
    method = folder.name
    common = {**truth_flags(setup, "train"), "logfile": folder / "evallog.txt"}
    curve, crf = folder / "curve.json", folder / "crf.json"
    seeds = {"predict_dir": folder / "cam_npy", "type": "npy", "plot": folder / "curve.png"}
    seeds |= sweep or {"curve": True}
    labels = {"predict_dir": infer.makes, "type": "png"}
    stages = [
        setup.stage(
            "eval", "eval.py", {**common, **seeds, "json": curve, "comment": f"{method}: seeds"},
            makes=curve, score="seed", fixed=["json"],
        ),
        setup.stage(
            "eval_crf", "eval.py", {**common, **labels, "json": crf, "comment": f"{method}: CRF seeds"},
            makes=crf, score="seed_crf", fixed=["json"],
        ),
    ]  # fmt: skip
    return stages[:1] if infer.flags.get("crf_t") == "none" else stages


def seeds(setup: Setup, trained: Stage, *, crf: bool = True) -> list[Stage]:
    """Seeds of train.txt by the net that `trained` makes, and their scores, where it has masks; seeds of train_aug.txt,
    with `crf` CRF seeds, which the last stage makes."""
    scored = scored_seeds(setup, inference(setup, trained, name="infer", ids="train"))
    return [*scored, inference(setup, trained, name="infer_aug", ids="train_aug", crf=crf)]


def scored_seeds(setup: Setup, infer: Stage, **sweep: Any) -> list[Stage]:
    """`infer`, which makes seeds of train.txt, and their `scores`; nothing where there are no masks."""
    evaluations = scores(setup, infer, **sweep)
    return [infer, *evaluations] if evaluations else []


def affinity(setup: Setup, trained: Stage, *, posteriors: tuple[Path, Path] | None = None, **walk: Any) -> list[Stage]:
    """AffinityNet trained on the CAM dicts of train_aug.txt that the net of `trained` gave, its walked masks of them,
    which the last stage but one makes, and their mIoU on train.txt where it has masks.

    posteriors: folders of CRF posteriors with much and with little background; None: made here. walk: infer.py's flags.
    """
    folder, learnt = trained.makes.parent, list_file(setup, "train_aug")
    images, cams = image_flags(setup), {"cam_dir": folder / "cam_npy"}
    made = folder / "aff_crf"
    low, high = posteriors or (made / "4.00", made / "24.00")
    prepare = setup.stage(
        "aff_prepare", "refine/affinity/prepare.py",
        {**cams, **images, "infer_list": learnt, "out_crf": made}, makes=high, fixed=["out_crf"],
    )  # fmt: skip
    train = setup.stage(
        "aff_train", "refine/affinity/train.py",
        {
            **images, "train_list": learnt, "la_crf_dir": low, "ha_crf_dir": high,
            "work_dir": folder, "session": "aff", "weights": RESNET38_WEIGHTS, "resume": True,
        },
        mini={**mini.AFFINITY, **mini.backbone_of(trained)}, makes=folder / "aff" / "aff.pth",
        fixed=["work_dir", "session", "session_name"],
    )  # fmt: skip
    net = {flag: train.flags[flag] for flag in ("backbone", "width") if flag in train.flags}
    flags = {**cams, **images, **net, "infer_list": learnt, "weights": train.makes, **walk}
    masks = folder / "out_rw"
    infer = setup.stage(
        "aff_infer",
        "refine/affinity/infer.py",
        {**flags, "out_rw": masks},
        mini=mini.WALK,
        makes=masks,
        fixed=["out_rw"],
    )
    score = {
        **truth_flags(setup, "train"),
        "predict_dir": masks,
        "type": "png",
        "logfile": folder / "evallog.txt",
        "json": folder / "walk.json",
        "comment": f"{folder.name}: walked masks",
    }
    evaluate = setup.stage("eval_walk", "eval.py", score, makes=folder / "walk.json", score="refined", fixed=["json"])
    scored = [evaluate] if has_masks(setup, "train") else []
    return [*([] if posteriors else [prepare]), train, infer, *scored]


def irn(setup: Setup, trained: Stage, *, cam_dir: Path | None = None, **walk: Any) -> list[Stage]:
    """IRN trained on the CAM dicts of train_aug.txt that the net of `trained` gave, its walked masks of them, which the
    third stage makes, and their mIoU on train.txt; with instances (--set irn_infer.ins_seg_out_dir=DIR
    irn_train.displacement=True, or of an earlier run eval_ins.predict_dir=DIR) their average precision, too.

    cam_dir: of the dicts; None: the run's cam_npy. walk: infer.py's flags.
    """
    folder, learnt = trained.makes.parent, list_file(setup, "train_aug")
    images, cams = image_flags(setup), {"cam_dir": cam_dir or folder / "cam_npy"}
    labels = setup.stage(
        "irn_labels", "refine/irn/labels.py",
        {**cams, **images, "infer_list": learnt, "ir_label_out_dir": folder / "ir_label"}, makes=folder,
    )  # fmt: skip
    labels = labels._replace(makes=Path(labels.flags["ir_label_out_dir"]))
    of_shift = list_file(setup, "train") if has_masks(setup, "train") else learnt
    train = setup.stage(
        "irn_train", "refine/irn/train.py",
        {
            **images, "train_list": learnt, "infer_list": of_shift,
            "ir_label_out_dir": labels.makes, "work_dir": folder, "session": "irn", "weights": RESNET50_WEIGHTS,
            "resume": True,
        },
        mini={**mini.IRN, **mini.backbone_of(trained)},
        makes=folder / "irn" / "irn.pth", fixed=["work_dir", "session", "session_name"],
    )  # fmt: skip
    net = {flag: train.flags[flag] for flag in ("backbone", "width", "crop_size") if flag in train.flags}
    flags = {**cams, **images, **net, "infer_list": learnt, "weights": train.makes, **walk}
    infer = setup.stage(
        "irn_infer",
        "refine/irn/infer.py",
        {**flags, "sem_seg_out_dir": folder / "sem_seg"},
        mini=mini.IRN_WALK,
        makes=folder,
    )
    masks, instances = (infer.flags.get(f"{kind}_seg_out_dir") for kind in ("sem", "ins"))
    infer = infer._replace(makes=Path(masks or instances or folder))
    score = {
        **truth_flags(setup, "train"),
        "predict_dir": infer.makes,
        "type": "png",
        "logfile": folder / "evallog.txt",
        "json": folder / "irn.json",
        "comment": f"{folder.name}: masks walked by IRN",
    }
    evaluate = setup.stage("eval_irn", "eval.py", score, makes=folder / "irn.json", score="refined", fixed=["json"])
    stages = [labels, train, infer, *([evaluate] if has_masks(setup, "train") else [])]
    scored = instances or setup.changes.get(("eval_ins", "predict_dir"))
    return stages if scored is None else [*stages, _score_instances(setup, folder, scored)]


def _score_instances(setup: Setup, folder: Path, instances: Path) -> Stage:
    """The average precision of `instances`, a folder, of train.txt."""
    figures = folder / "instances.json"
    flags = {**truth_flags(setup, "train"), "object_dir": setup.data_root / "SegmentationObject"}
    flags |= {"predict_dir": instances, "json": figures}
    scored, precision = "refine/irn/score_instances.py", {"instances": "mAP"}
    return setup.stage("eval_ins", scored, flags, makes=figures, figures=precision, fixed=["json"])


def report(setup: Setup, trained: Stage, *, saliency: bool = True) -> Stage:
    """The run as a page to look at, with the DeepLab that learnt from its seeds; no scores where there are no masks."""
    folder = trained.makes.parent
    flags = {"run": folder, **image_flags(setup), "saliency_root": setup.saliency_root if saliency else None}
    flags |= {} if has_masks(setup, "train") else {"gt_dir": "none"}
    return setup.stage("report", "tool.report", flags, makes=folder / "report.html", fixed=["run", "out", "compare"])


def from_classifier(trained: Stage) -> dict[str, Any]:
    """The keys of a DeepLab that starts as the net that `trained` makes: its backbone, and its weights."""
    flags = {**method_of(trained).defaults, **trained.flags}
    return {
        "MODEL_BACKBONE": flags.get("backbone") or "resnet38d",
        "MODEL_BACKBONE_WIDTH": flags.get("width") or 1,
        "MODEL_BACKBONE_DEEPBASE": False,  # classifiers have torchvision's stem
        "MODEL_BACKBONE_WEIGHTS": trained.makes,
    }


def deeplab(setup: Setup, masks: Path, trained: Stage, **released: Any) -> list[Stage]:
    """DeepLab trained on the label maps `masks` of train_aug.txt, and its test with CRF on val.txt, where that has
    masks; its label maps of all photographs of a user's own.

    released: keys that differ from config.py's, but for those of `--mini`.
    """
    where = {"EXP_NAME": "deeplab", "EXP_ROOT": setup.out, "DATA_ROOT": setup.data_root}
    where |= {"DATA_LISTS": setup.out / "data", "DATA_PSEUDO_GT": masks}
    of_net = {**mini.DEEPLAB_OF_NET.get(released.get("MODEL_NAME"), {}), **from_classifier(trained)}
    train = setup.stage(
        "deeplab",
        "segmentation/experiment/train.py",
        {**where, **layout(setup).keys, **released, "resume": True},
        mini={**mini.DEEPLAB, **of_net},
        makes=setup.out / "deeplab" / "last.ckpt",
    )
    keys = train.settings
    if train.flags.get("config"):
        raise UserError(
            f"--set {train.name}.config: expected keys alone, which its test takes, too, as"
            f" {train.name}.MODEL_NAME=deeplabv1; leave it out"
        )
    if str(keys.get("TRAIN_MINEPOCH") or 0) != "0":
        raise UserError(
            f"--set {train.name}.TRAIN_MINEPOCH: expected TRAIN_ITERATION alone, by which run.py finds the weights; set"
            " that to as many steps"
        )
    folder = Path(keys["EXP_ROOT"]) / keys["EXP_NAME"]
    named = config_dict | {key: value for key, value in keys.items() if value is not None}
    train = train._replace(makes=folder / weights_of_run(named, named["TRAIN_ITERATION"]))
    test = setup.stage(
        "test",
        "segmentation/experiment/test.py",
        {**keys, "TEST_CKPT": train.makes},
        makes=folder / "results" / "val_score.json",
        score="segmentation_val",
        fixed=["EXP_NAME", "EXP_ROOT", "TEST_SPLIT", "config"],
    )
    if setup.data_set != OWN:
        return [train, test]
    predict = setup.stage(
        "predict",
        "segmentation/experiment/test.py",
        {**keys, "TEST_CKPT": train.makes, "TEST_SPLIT": "test"},
        makes=folder / "results" / "test_settings.json",
        fixed=["EXP_NAME", "EXP_ROOT", "TEST_SPLIT", "config"],
    )
    return [train, *([test] if has_masks(setup, "val") else []), predict]
