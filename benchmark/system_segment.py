"""The segmentations of `benchmark.systems`: any that recipes know, learning from the label maps of any run and
refinement, at small sizes."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmark.system_refine import REFINEMENTS, Flags
from benchmark.system_runs import CURVE_FILE, SAVE_EVERY, refinement_flags, run_named, trained, weights_of
from benchmark.system_seeds import Trained, trainings_of
from recipes import combined
from recipes.rebalance import SUBMISSION
from tool.cli import FILE, UserError, what_is_at
from tool.lists import read_ids
from tool.lock import turn_in
from tool.recipe import Stage
from tool.run_recipe import run_stages

MASKS = "masks"  # stands for a run whose label maps are the masks of train.txt
BATCH_SIZE = 8
# DeepLab: small images, and a small rate, since norms are folded into the ImageNet weights of the small benchmark.
DEEPLAB = {
    "GPUS": 1,
    "MODEL_ASPP_OUTDIM": 64,
    "MODEL_FREEZEBN": True,
    "TRAIN_BN_MOM": 0.1,
    "DATA_RANDOMCROP": 192,
    "DATA_RANDOMSCALE": "[0.35,0.75]",
    "TRAIN_BATCHES": BATCH_SIZE,
    "TRAIN_LR": 0.0005,
    "TEST_MULTISCALE": "[0.35,0.5,0.75]",
    "TRAIN_SAVE_EVERY": SAVE_EVERY,
}
EMA = 0.98  # of DHR and its DeepLabv3+: an average that follows in as few steps
USS_DIM = 30  # channels of the features, which are the backbone's as ImageNet left it


class Segmented(NamedTuple):
    """What --segment asks for: whose seeds, how refined, and the segmentation that learns from them."""

    run: str
    refinement: str
    segmentation: str

    def __str__(self) -> str:
        return "+".join(part for part in self if part)

    @property
    def predictions(self) -> Path:
        """The folder of its label maps of val.txt, in its own."""
        if self.segmentation in combined.DEEPLABS:
            return Path("deeplab/results/VOC2012/Segmentation/comp6_val_cls")
        return Path("dhr/val")

    @property
    def score(self) -> Path:
        """The file that says that it is whole."""
        of_deeplab = self.segmentation in combined.DEEPLABS
        return Path("deeplab/results/val_score.json" if of_deeplab else "dhr/val.json")


def segmented(text: str) -> Segmented:
    """An argparse type: RUN+REFINEMENT+SEGMENTATION, or masks+SEGMENTATION."""
    run, *parts = text.split("+")
    if run == MASKS:
        parts = ["none", *parts]
    else:
        run_named(run)
    try:
        combined.check_parts(text, parts)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Segmented(run, "" if run == MASKS else parts[0], parts[1])


def segment_one(args: argparse.Namespace, asked: Segmented, seed: int) -> None:
    """Make what `asked` says of a run that is there, in a folder of its own beside the run's; what is done is left
    alone."""
    on_masks = asked.run == MASKS
    learnt = args.lists / "train.txt" if on_masks else args.segment_list
    changes = {**refinement_flags(args, args.segment_list), **_flags(args, learnt, seed, asked)}
    run = trained(args, "eps" if on_masks else asked.run, seed, changes)  # eps's is not run
    folder = run.setup.out / str(asked)
    made, masks = ([], args.voc12_root / "SegmentationClass") if on_masks else _label_maps(run, asked)
    start = run.train if on_masks else classifier_of(args, asked, run, seed)
    learning = combined.learning(replace(run.setup, out=folder), masks, start, asked.segmentation)
    learning = [stage for stage in learning if stage.name not in SUBMISSION]
    if asked.segmentation != "dhr":
        run_stages([*made, *learning], folder)
        return
    # The same for all seeds and runs: made once, for others to wait for.
    shared = args.out / "features" / learnt.stem
    shared.mkdir(parents=True, exist_ok=True)
    features, *learning = [_with_features(stage, shared) for stage in learning]
    with turn_in(shared.parent):
        run_stages([*made, features], folder, then=learning)
    run_stages(learning, folder, before=[*made, features])


def classifier_of(args: argparse.Namespace, asked: Segmented, run: Trained, seed: int) -> Stage:
    """The training of the net that made the seeds, which may be another run's (`crt_cnn`, `eps_alpha_4`); of a mean the
    first."""
    return run.train._replace(makes=weights_of(args, trainings_of(asked.run)[0], seed))


def is_there(args: argparse.Namespace, asked: Segmented, seed: int) -> bool:
    """Whether `segment_one` has made it."""
    return what_is_at(args.out / f"seed_{seed}" / str(asked) / asked.score) == FILE


def segmented_in(out: Path) -> Iterator[tuple[int, Segmented, Path]]:
    """What `segment_one` has made in `out`: the seed, what was asked for, the folder of the label maps."""
    for folder in sorted(out.glob("seed_*/*+*")):
        seed = folder.parent.name.removeprefix("seed_")
        try:
            asked = segmented(folder.name)
        except argparse.ArgumentTypeError:  # another's folder
            continue
        if seed.isdecimal() and what_is_at(folder / asked.score) == FILE:
            yield int(seed), asked, folder / asked.predictions


def check_segmented(args: argparse.Namespace) -> None:
    """Raise `UserError` for what --segment could not make."""
    for asked in args.segment:
        if args.amp == "fp16" and asked.segmentation in combined.DEEPLABS:
            raise UserError(f"--amp fp16: DeepLab of --segment {asked} trains in bf16 or off; take one of them")
        from_one = asked.run != MASKS and len(trainings_of(asked.run)) == 1
        if asked.segmentation == combined.FROM_CLASSIFIER and not from_one:
            raise UserError(f"--segment {asked}: expected the seeds of one net, whose weights it takes")
        learnt = args.lists / "train.txt" if asked.run == MASKS else args.segment_list
        if (found := len(read_ids(learnt, "--lists"))) < BATCH_SIZE:
            raise UserError(f"--segment {asked}: expected a batch of {BATCH_SIZE} images in {learnt}, found {found}")
        if asked.run == MASKS or asked.run in args.runs:
            continue
        for seed in args.seeds:
            if what_is_at(args.out / f"seed_{seed}" / asked.run / CURVE_FILE) != FILE:
                raise UserError(f"--segment {asked}: seed {seed} has no {asked.run} in {args.out}; name it in --runs")


def _label_maps(run: Trained, asked: Segmented) -> tuple[list[Stage], Path]:
    """The stages that make the label maps to learn from, and their folder."""
    *cams, infer = run.inference("infer_aug")
    if asked.refinement not in REFINEMENTS:
        infer = combined.with_label_maps(infer, crf=asked.refinement == "crf")
        return [*cams, infer], infer.makes
    infer = combined.with_label_maps(infer, crf=False)
    refinement = REFINEMENTS[asked.refinement]
    *stages, _ = refinement.stages(run)  # but for the score
    return [*cams, infer, *stages], run.folder / refinement.masks


def _with_features(stage: Stage, folder: Path) -> Stage:
    """`stage` of DHR, whose features are in `folder`."""
    if stage.name == "features":
        return stage._replace(flags={**stage.flags, "out_dir": folder}, makes=folder)
    return stage._replace(flags={**stage.flags, "uss_features": folder}) if stage.name == "dhr" else stage


def _flags(args: argparse.Namespace, learnt: Path, seed: int, asked: Segmented) -> Flags:
    net = {"backbone": args.backbone, "amp": args.amp}
    val = args.lists / "val.txt"
    epochs = max(args.segmentation_steps * BATCH_SIZE // len(read_ids(learnt, "--lists")), 1)
    start = {"MODEL_BACKBONE": args.backbone, "MODEL_BACKBONE_WEIGHTS": args.weights}
    return {
        "deeplab": {
            **DEEPLAB,
            "DATA_LISTS": args.out / "lists",
            "DATA_AUG": asked.run != MASKS,
            "TRAIN_SEED": seed,
            "DATA_WORKERS": args.num_workers,
            "TRAIN_AMP": args.amp,
            "TEST_CRF_WORKERS": args.num_workers,
            **({} if asked.segmentation == combined.FROM_CLASSIFIER else start),
            "TRAIN_ITERATION": args.segmentation_steps,
        },
        "features": {
            **net,
            "uss": "Backbone",
            "uss_backbone_weights": args.weights,
            "uss_weights": None,
            "uss_dim": USS_DIM,
            "infer_list": learnt,
        },
        "dhr": {
            **net,
            "weights": args.weights,
            "labels": args.labels,
            "train_list": learnt,
            "seed": seed,
            **dict(zip(("min_image", "max_image"), args.resize_size, strict=True)),
            "crop_size": args.crop_size,
            "batch_size": BATCH_SIZE,
            "ema": EMA,
            "max_epoches": epochs,
            "num_workers": args.num_workers,
            "crf_workers": args.num_workers,
            "save_every": SAVE_EVERY,
        },
        "dhr_masks": {"amp": args.amp, "infer_list": val, "scales": sorted(args.scales, reverse=True)},
        "eval_dhr": {"list": val},
    }
