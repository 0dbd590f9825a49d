"""The runs of `benchmark.systems`: what each is, and the stages that make it, with the flags that all of them share."""

import argparse
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmark.system_refine import REFINEMENTS, Flags, changes_of
from benchmark.system_seeds import (
    ALONG,
    MEAN,
    RESIZED,
    Trained,
    crf_of,
    mean_of,
    net_of,
    parts_of,
    trainings_of,
    without_alpha,
)
from method import METHODS
from method.arguments import own_flags
from method.hsc.config import ABLATIONS, SANE
from recipes import common
from tool.cli import did_you_mean
from tool.recipe import Setup
from tool.run_recipe import run_stages

AFTER_EPS = "_after_eps"  # ends the name of a run that goes on from eps's weights: eps going on is its reference
# After a baseline's name: of so many times the steps, as long as a method whose step takes that much longer.
LONGER = {"_twice": 2, "_four_times": 4}
CURVE_FILE = "curve.json"  # of a run, written last
SAVE_EVERY = 50  # steps

# crt's pair of nets is no backbone that others have too; MSA's nets ask a superpixel network.
OF_MSA = sorted(name for name, method in METHODS.items() if method.helper_flags)
BASELINES = sorted(METHODS.keys() - {"hsc", "crt", *OF_MSA})
# Part by part: the baseline; maps rebuilt by their neighbours; spread by affinity; whose prototypes rebuild a target.
CAM = "msa_image_cam"
MSA = {
    **{f"{CAM}{longer}": {"method": "msa_image", "sp_cam": False, "alpha": 0} for longer in ("", *LONGER)},
    "msa_image_dcr": {"method": "msa_image", "alpha": 0},
    "msa_image_ap": {"method": "msa_image", "alpha": 0},
    **{name: {"method": name} for name in OF_MSA},
}
NEEDS_SCN = [name for name in MSA if not name.startswith(CAM)]  # whose maps follow superpixels
CRT_RATE = 0.01
# By the branch whose maps are its seeds, both of one training.
CRT = {"crt": "transformer", "crt_cnn": "cnn"}
# The flags of train_voc.py that make each run what it is: methods and ablations; the oddities one by one, and HSC's
# ablations without them.
CLAIM = {
    **{method: {"method": method} for method in (*BASELINES, "hsc")},
    **{f"hsc_without_{term}": {"method": "hsc", "without": term} for term in ABLATIONS},
}
MENDED = {f"hsc_sane_{name}": {"method": "hsc", "sane": name} for name in (*SANE, "all")}
FROM_IMAGENET = {
    **CLAIM,
    **{f"{method}{longer}": {"method": method} for method in (*BASELINES, "hsc") for longer in LONGER},
    **MENDED,
    **{f"{run}_without_{term}": {**MENDED[run], "without": term} for run in MENDED for term in ABLATIONS},
}
# The same from the weights of the seed's eps, which have no place in cls's net, with as many steps again.
FROM_EPS = {
    f"{run}{AFTER_EPS}": flags
    for run, flags in FROM_IMAGENET.items()
    if METHODS[flags["method"]].network != METHODS["cls"].network
}
TRAINED = {**FROM_IMAGENET, **FROM_EPS, **MSA, **{name: {"method": "crt"} for name in CRT}}
SPREAD = [f"{run}{start}" for run in (*BASELINES, "hsc") for start in ("", AFTER_EPS) if f"{run}{start}" in TRAINED]
RUNS = {
    **TRAINED,
    **{f"{run}{ALONG}": TRAINED[run] for run in SPREAD},
    **{f"{run}{RESIZED}": MSA[run] for run in NEEDS_SCN},
}


def run_named(text: str) -> str:
    """An argparse type: a run's name, or mean_of_RUN_and_RUN; any of them with _alpha_A."""
    parts = parts_of(text) or [text]
    for name in parts:
        if name not in RUNS:
            raise argparse.ArgumentTypeError(f"{text}: {name} is no run{did_you_mean(name, list(RUNS))}")
    if len({*parts}) < len(parts) or f"{MEAN}{parts[0]}" == without_alpha(text)[0]:
        raise argparse.ArgumentTypeError(f"{text}: expected several runs, each once, as mean_of_eps_and_hsc")
    if without_alpha(text)[1] is not None and crf_of(text).threshold is not None:
        raise argparse.ArgumentTypeError(f"{text}: the score of background in its CRF is a threshold, no power")
    return text


def is_run(name: str) -> bool:
    """Whether `run_named` takes it; a folder of another name is another's."""
    with suppress(argparse.ArgumentTypeError):
        return bool(run_named(name))
    return False


def in_order(names: Iterable[str]) -> list[str]:
    """Each once, those first that others start from, have the net of or are the mean of."""
    names = dict.fromkeys(names)
    single = sorted((name for name in RUNS if name in names), key=lambda name: net_of(name) != name)
    return [*single, *(name for name in names if parts_of(name))]


def reads_saliency(name: str) -> bool:
    """Whether a training for the run `name` reads saliency maps."""
    return any("saliency" in METHODS[RUNS[run]["method"]].reads for run in trainings_of(name))


def longer_of(name: str) -> str:
    """What of `LONGER` is in a run's name; of a mean, the longest; "" for neither."""
    return max((longer for longer in LONGER if longer in name), key=LONGER.get, default="")


def weights_of(args: argparse.Namespace, name: str, seed: int) -> Path:
    """The weights that the training of run `name` makes."""
    return args.out / f"seed_{seed}" / name / f"{name}.pth"


def run_flags(args: argparse.Namespace, name: str, seed: int) -> Flags:
    """The flags of a run's stages up to the seeds' score."""
    shared = {"backbone": args.backbone, "amp": args.amp}
    length = LONGER.get(longer_of(name), 1)
    has_second_view = "--view2_size" in own_flags(METHODS[RUNS[name]["method"]])
    of_kind = {"view2_size": args.view2_size} if has_second_view else {}
    if (net := net_of(name)) in MSA:  # the last weights, so that no mask is seen; labels alone are scored
        of_kind = {"scn": args.scn if net in NEEDS_SCN else None, "val_list": args.lists / "train.txt"}
    if name in CRT:
        of_kind = {"transformer": args.transformer, "transformer_weights": args.transformer_weights}
        # Its labels are scored between epochs, no mask is seen. The rate is that of the other classifiers: at the
        # released one, ten times that, small nets from ImageNet learn no map.
        of_kind |= {"val_list": args.lists / "train.txt", "lr": CRT_RATE}
    flags = {
        "train": {
            **RUNS[name],
            **shared,
            "labels": args.labels,
            "session": name,
            "seed": seed,
            "train_list": args.training,
            "weights": weights_of(args, "eps", seed) if name.endswith(AFTER_EPS) else args.weights,
            "batch_size": args.batch_size,
            "crop_size": args.crop_size,
            "resize_size": args.resize_size,
            "max_iters": args.steps * length,
            "iter_size": 1,
            "max_epoches": args.epochs * length,
            "num_workers": args.num_workers,
            "save_every": SAVE_EVERY,
            "from_scratch": args.from_scratch,
            **of_kind,
        },
        "eval": {"list": args.lists / "train.txt", "classes": args.classes, "num_workers": args.num_workers},
    }
    lists = {"infer": args.lists / "train.txt", "infer_aug": args.segment_list}
    lists |= dict.fromkeys(("infer_refine", "infer_irn"), args.refine_list)
    for stage, ids in lists.items():
        flags[stage] = {**shared, "labels": args.labels, "infer_list": ids, "scales": args.scales}
        flags[stage] |= {"crf_workers": args.num_workers, **_seed_flags(args, name, seed)}
    return flags


def _seed_flags(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """The flags of inference that make the seeds of `name` what they are."""
    flags = {} if net_of(name) == name else {"weights": weights_of(args, net_of(name), seed)}
    if name in CRT:
        flags["cam_branch"] = CRT[name]
    if name.removesuffix(RESIZED) == "msa_image_dcr":
        flags["beta"] = 0
    if name.endswith(ALONG):
        flags["scn"] = args.scn
    if name.endswith(RESIZED):
        flags["up"] = False
    return flags


def trained(args: argparse.Namespace, name: str, seed: int, changes: Flags) -> Trained:
    """A run, made with the flags of this benchmark and with `changes`, by the stages' names."""
    if parts := parts_of(name):
        runs = tuple(trained(args, part, seed, changes) for part in parts)
        return mean_of(args.out / f"seed_{seed}" / name, runs[0].setup, runs)
    tables = (run_flags(args, name, seed), changes)
    merged = {(stage, flag): value for table in tables for stage, of in table.items() for flag, value in of.items()}
    setup = Setup(args.out / f"seed_{seed}", args.voc12_root, args.voc12_root / "saliency", changes=merged)
    return Trained(common.training(setup, RUNS[name]["method"], mini_flags={}), setup)


def run_one(args: argparse.Namespace, name: str, seed: int) -> None:
    """Train a run, infer the seeds of train.txt and score them: the curve's file says that the run is whole."""
    run = trained(args, name, seed, {})
    training = [] if run.parts or net_of(name) != name else [run.train]
    inference = run.inference("infer")
    run_stages([*training, *inference, common.scores(run.setup, inference[-1])[0]], run.folder)


def refinement_flags(args: argparse.Namespace, ids: Path) -> Flags:
    """The flags of refinements that walk the list `ids`."""
    net = {"backbone": args.backbone, "amp": args.amp}
    flags = changes_of(learnt=args.refine_list, walked=ids, net=net, weights=args.weights, num_workers=args.num_workers)
    score = {"list": args.lists / "train.txt", "classes": args.classes, "num_workers": args.num_workers}
    return {**flags, "eval_walk": score, "eval_irn": score}


def refine_one(args: argparse.Namespace, name: str, seed: int, kind: str) -> None:
    """Refine the seeds of a run that is there, and score its label maps; what is done is left alone."""
    run = trained(args, name, seed, refinement_flags(args, args.lists / "train.txt"))
    run_stages(REFINEMENTS[kind].stages(run), run.folder / f"refine_{kind}")
