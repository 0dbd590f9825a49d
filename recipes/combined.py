"""Any system's seeds through any refinement into any segmentation: `python run.py eps+irn+dhr` (docs/combine.md)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recipes import common
from recipes.rebalance import rebalanced
from tool.cli import UserError, did_you_mean
from tool.recipe import Setup, Stage, Steps, all_stages

SEEDS = "infer_aug"  # the stage of a recipe that makes what refinements and segmentation learn from
SCORES = ("eval", "eval_crf")  # those that score seeds
MAKERS = {"affinity": "aff_infer", "irn": "irn_infer"}  # the stages that make the label maps of these refinements
REFINEMENTS = ("none", "crf", *MAKERS)
FROM_CLASSIFIER = "deeplabv2_from_classifier"  # on the backbone of the net that made the seeds, from its weights
# The keys of stage 3 that make each DeepLab what it is.
DEEPLABS: dict[str, dict[str, Any]] = {
    "deeplabv1": {"MODEL_NAME": "deeplabv1"},
    "deeplabv2": {},
    FROM_CLASSIFIER: {},
    "deeplabv2_msc": common.DEEPLAB_MSC,
}
SEGMENTATIONS = (*DEEPLABS, "deeplabv3plus", "dhr")
PARTS = {"refinement": REFINEMENTS, "segmentation": SEGMENTATIONS}


def check_parts(name: str, parts: Sequence[str]) -> None:
    """Raise `UserError` unless behind the seeds' recipe in `name` stand a refinement and a segmentation."""
    if len(parts) != len(PARTS):
        known = "; ".join(f"{what}s are {', '.join(names)}" for what, names in PARTS.items())
        raise UserError(f"{name}: expected SEEDS+REFINEMENT+SEGMENTATION, as hsc+crf+dhr; {known}")
    for part, (what, known) in zip(parts, PARTS.items(), strict=True):
        if part not in known:
            raise UserError(
                f"{name}: expected a {what} among {', '.join(known)}, found {part}{did_you_mean(part, known)}"
            )


def combine(
    setup: Setup, name: str, seeds: Callable[[Setup], Steps], refinement: str, segmentation: str
) -> list[Stage]:
    """The stages of the recipe `seeds`, called `name`, that make seeds, the refinement, what learns last, the report.

    Raises `UserError` for a recipe that makes no seeds of train_aug.txt.
    """
    of_recipe = all_stages(seeds(setup))
    names = [stage.name for stage in of_recipe]
    for needed in ("train", SEEDS):
        if needed not in names:
            raise UserError(f"{name} makes no seeds to refine: it has no stage {needed}")
    found = of_recipe[: max(names.index(end) for end in (SEEDS, *SCORES) if end in names) + 1]
    trained, place = found[names.index("train")], names.index(SEEDS)
    if refinement in MAKERS:
        refining = {"affinity": common.affinity, "irn": common.irn}[refinement](setup, trained)
        # A recipe that refines so itself does it its own way; what it does not prepare, its seeds' CRF has made.
        own = [stage for stage in of_recipe if stage.name in {each.name for each in refining}]
        if not own or own[0].name == refining[0].name:
            found[place] = with_label_maps(found[place], crf=False)
        found += own or refining
        masks = next(stage.makes for stage in found if stage.name == MAKERS[refinement])
    else:
        found[place] = with_label_maps(found[place], crf=refinement == "crf")
        masks = found[place].makes
    reports = [stage for stage in of_recipe if stage.name == "report"]
    return [*found, *learning(setup, masks, trained, segmentation), *reports]


def learning(setup: Setup, masks: Path, trained: Stage, segmentation: str) -> list[Stage]:
    """The stages of one of `SEGMENTATIONS`, which learns from the label maps `masks` of train_aug.txt.

    trained: whose net has the backbone and the weights at `--mini`, and those of `FROM_CLASSIFIER`.
    """
    if segmentation in DEEPLABS:
        start = common.from_classifier(trained) if segmentation == FROM_CLASSIFIER else {}
        return common.deeplab(setup, masks, trained, **DEEPLABS[segmentation], **start)
    return rebalanced(setup, masks, trained, plain=segmentation == "deeplabv3plus")


def with_label_maps(infer: Stage, *, crf: bool) -> Stage:
    """Inference that makes label maps with a CRF, its method's unless its flags have one, or without."""
    if not crf:
        folder = Path(infer.flags.get("cam_png") or Path(infer.flags["work_dir"], "cam_png"))
        return infer._replace(flags={**infer.flags, "crf_t": "none"}, makes=folder)
    # Without another recipe's "none", and without a threshold that the seeds' scores are to choose.
    left_out = {"crf_t": infer.flags.get("crf_t") == "none", "thr": isinstance(infer.flags.get("thr"), Path)}
    infer = infer._replace(flags={name: value for name, value in infer.flags.items() if not left_out.get(name)})
    return infer._replace(makes=common.crf_seeds(infer))
