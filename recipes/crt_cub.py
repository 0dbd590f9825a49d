"""CRT's object localisation on CUB-200-2011 (Huo, Su, Wu, 2022): DeiT-S beside a ResNet-50, from image labels to boxes.

    python run.py crt_cub --cub_root CUB_200_2011

Figures, as published: Top-1 72.9 %, Top-5 86.4, GT-known 90.1, of the epoch that is best on the test set (the 19th);
the last epoch gives 70.2, 82.9 and 86.3. TS-CAM, the transformer alone, 71.3, 83.8 and 87.7.
Needs DeiT-S's and ResNet-50's ImageNet weights in network/ (docs/localise.md).
"""

from pathlib import Path

from tool.recipe import Setup, Stage

DATA = "cub_root"  # the flag of run.py that leads to it
WEIGHTS = {
    "transformer_weights": "network/deit_small_patch16_224-cd65a155.pth",
    "weights": "network/resnet50-19c8e357.pth",
}
# timm's smallest plain ViT and the smallest ResNet, from random weights: five minutes of one core.
MINI = {
    "transformer": "test_vit",
    "transformer_weights": "none",
    "backbone": "resnet18",
    "weights": "none",
    "from_scratch": True,
    "batch_size": 12,
    "max_epoches": 6,
    "lr": 1e-3,
    "lr_epochs": 6,
    "drop_path": 0,
    "cnn_lr": 0.002,
    "num_workers": 1,
    "save_every": 10,
}
MINI_IMAGES = {"train": 120, "test": 60, "size": 128}
FIGURES = {"top1": "loc_top1", "top5": "loc_top5", "gt_known": "gt_known"}


def test(setup: Setup, train: Stage, *, name: str, weights: Path) -> Stage:
    """Scores, boxes and pictures of one of the files that `train` leaves."""
    out = weights.parent / name
    as_trained = {flag: train.flags.get(flag) for flag in ("transformer", "cam_thr")}
    return setup.stage(
        name,
        "localise/test.py",
        {"cub_root": setup.data_root, **as_trained, "weights": weights, "out": out},
        makes=out / "scores.json",
        figures={f"{figure}_{name}": key for figure, key in FIGURES.items()},
        fixed=["out"],
    )


def stages(setup: Setup) -> list[Stage]:
    data = setup.out / "data"
    generated = {"out": data, **MINI_IMAGES}
    makes = setup.data_root / "images.txt"
    train = setup.stage(
        "train",
        "localise/train.py",
        {"cub_root": setup.data_root, "work_dir": setup.out, "session_name": "crt_cub", **WEIGHTS, "resume": True},
        mini=MINI,
        makes=setup.out / "crt_cub" / "scores.json",
        fixed=["work_dir", "session_name", "session"],
    )
    folder, last = train.makes.parent, train.flags.get("max_epoches", 60)
    return [
        *([setup.stage("data", "cub.mini", generated, makes=makes, fixed=["out"])] if setup.mini else []),
        setup.stage(
            "prepare",
            "cub.prepare",
            {"cub_root": setup.data_root, "json": data / "found.json"},
            makes=data / "found.json",
            fixed=["json"],
        ),
        train,
        test(setup, train, name="best", weights=folder / "model_best_top1_loc.pth"),
        test(setup, train, name="last", weights=folder / f"model_epoch{last}.pth"),
    ]
