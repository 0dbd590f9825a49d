"""DHR as stages behind any system's label maps: features, training, label maps of other images, scores, submission."""

from pathlib import Path

from recipes import mini
from recipes.data_sets import OWN, first_to_submit, has_masks, image_flags, list_file, truth_flags
from tool.recipe import Setup, Stage

# torchvision's, of ImageNet.
RESNET101_WEIGHTS = "network/resnet101-63fe2227.pth"
# CAUSE's, by the data set that it learnt from; own photographs have VOC's.
HEADS = {"voc12": "weights/CAUSE_VOC2012.pt", "coco14": "weights/CAUSE_COCO2014.pt", OWN: "weights/CAUSE_VOC2012.pt"}
SUBMISSION = ("dhr_test", "submission")  # label maps of VOC's test set, or of all own photographs; their packing


def features(setup: Setup, trained: Stage) -> Stage:
    """Unsupervised features of train_aug.txt, released ones by default; at `--mini` of the net that `trained` made."""
    folder = setup.out / "features"
    flags = {**image_flags(setup), "infer_list": list_file(setup, "train_aug"), "out_dir": folder}
    flags |= {"uss_weights": HEADS[setup.data_set]}
    small = {**mini.FEATURES, **mini.backbone_of(trained)}
    small["uss_backbone_weights"] = small.pop("weights")
    return setup.stage("features", "rebalance/features.py", flags, mini=small, makes=folder, fixed=["out_dir"])


def training(setup: Setup, masks: Path, uss: Stage | None, trained: Stage) -> Stage:
    """DHR on the label maps `masks` of train_aug.txt and the features of `uss`; without these, plain DeepLabv3+."""
    flags = {
        **image_flags(setup),
        "train_list": list_file(setup, "train_aug"),
        "labels": setup.out / "data" / "cls_labels.npy",
        "wss_masks": masks,
        **({"without": "labels"} if uss is None else {"uss_features": uss.flags["out_dir"]}),
        "weights": RESNET101_WEIGHTS,
        "work_dir": setup.out,
        "session": "dhr",
        "resume": True,
    }
    return setup.stage(
        "dhr", "rebalance/train.py", flags, mini={**mini.DHR, **mini.backbone_of(trained)},
        makes=setup.out / "dhr" / "last.pth", fixed=["work_dir", "session", "session_name"],
    )  # fmt: skip


def label_maps(setup: Setup, train: Stage, ids: str, *, name: str, folder: Path) -> Stage:
    """Label maps of a list by the net that `train` makes, scales, mirrors and a CRF."""
    net = {flag: train.flags[flag] for flag in ("backbone", "width") if flag in train.flags}
    flags = {**image_flags(setup), **net, "infer_list": list_file(setup, ids), "weights": train.makes}
    return setup.stage(name, "rebalance/masks.py", {**flags, "out_dir": folder}, makes=folder, fixed=["out_dir"])


def rebalanced(setup: Setup, masks: Path, trained: Stage, *, plain: bool = False) -> list[Stage]:
    """All of DHR on the label maps `masks` of train_aug.txt, to its scores on val.txt, where that has masks, and its
    label maps of all photographs of a user's own; where VOC's test set is there, to an archive for its server.

    trained: whose net has the backbone and the weights at `--mini`. plain: DHR's net and training, on labels that are
    the maps as they are.
    """
    uss = None if plain else features(setup, trained)
    train = training(setup, masks, uss, trained)
    folder = setup.out / "dhr"
    predict = label_maps(setup, train, "val", name="dhr_masks", folder=folder / "val")
    score = {
        **truth_flags(setup, "val"),
        "pred_dir": folder / "val",
        "strict": True,
        "json": folder / "val.json",
        "tag": setup.out.name,
        **({"count_empty": True} if setup.data_set == "coco14" else {}),
    }
    evaluate = setup.stage(
        "eval_dhr", "rebalance/evaluate.py", score,
        makes=folder / "val.json", score="segmentation_val", fixed=["json", "pred_dir"],
    )  # fmt: skip
    learnt = [*([] if plain else [uss]), train]
    scored = [predict, evaluate] if has_masks(setup, "val") else []
    if setup.data_set == OWN:
        return [*learnt, *scored, label_maps(setup, train, "test", name=SUBMISSION[0], folder=folder / "test")]
    return [*learnt, *scored, *submission(setup, train, folder)]


def submission(setup: Setup, train: Stage, folder: Path) -> list[Stage]:
    """Label maps of VOC's test set, checked and packed; nothing where its list or its images are not there."""
    if setup.data_set != "voc12" or not (setup.mini or first_to_submit(setup)):
        return []
    results = folder / "submissions" / "test" / "results" / "VOC2012" / "Segmentation" / "comp5_test_cls"
    predict = label_maps(setup, train, "test", name=SUBMISSION[0], folder=results)
    archive = folder / "results.tgz"
    flags = {"results": results, "list": list_file(setup, "test"), "img_root": image_flags(setup)["data_root"]}
    pack = setup.stage(
        SUBMISSION[1], "segmentation.submission", {**flags, "comp": 5, "out": archive}, makes=archive, fixed=["out"]
    )
    return [predict, pack]
