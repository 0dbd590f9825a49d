"""Any seeds through any refinement into any segmentation: each learns from what the one before it makes."""

from itertools import product
from pathlib import Path

import pytest

import run
from recipes import combined, eps
from tests.scripts.conftest import ROOT, forker
from tool.cli import UserError
from tool.recipe import Setup, SideBySide, Stage, all_stages

OF_VOC = [name for name in run.RECIPES if run.load_recipe(name)[1] == "voc12_root"]


def plan(seeds: str, *parts: str, mini: bool) -> list[Stage]:
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), mini)
    name, data, stages = run.load_recipe("+".join((seeds, *parts)))
    assert (name, data) == ("+".join((seeds, *parts)), "voc12_root")
    return stages(setup)


def plan_of(name: str, *, mini: bool) -> list[Stage]:
    return all_stages(run.load_recipe(name)[2](Setup(Path("out"), Path("VOC2012"), Path("saliency"), mini)))


def test_the_walks_of_seams_and_crts_own_recipes_are_those_of_their_combinations():
    seam = {stage.name: stage for stage in plan("seam", "affinity", "dhr", mini=False)}
    assert seam["aff_infer"].flags["alpha"] == 6 and "crf_t" not in seam["infer_aug"].flags
    assert seam["aff_train"].flags["la_crf_dir"] == seam["infer_aug"].makes == Path("out/seam/crf/crf_10_4")
    crt = {stage.name: stage for stage in plan("crt", "irn", "dhr", mini=False)}
    cams = {crt[name].flags["cam_dir"] for name in ("irn_labels", "irn_infer")}
    assert cams == {crt["infer_aug"].flags["cam_out_dir"]}


@pytest.mark.parametrize("mini", [False, True])
@pytest.mark.parametrize("seeds", OF_VOC)
def test_what_learns_last_learns_from_the_refinements_label_maps_of_these_seeds(seeds, mini):
    for refinement, segmentation in product(combined.REFINEMENTS, combined.SEGMENTATIONS):
        stages = {stage.name: stage for stage in plan(seeds, refinement, segmentation, mini=mini)}
        assert [*stages][-1] == "report"
        infer = stages["infer_aug"]
        maker = {"affinity": "aff_infer", "irn": "irn_infer"}.get(refinement, "infer_aug")
        name, flag = ("deeplab", "DATA_PSEUDO_GT") if segmentation in combined.DEEPLABS else ("dhr", "wss_masks")
        learner = stages[name]
        assert learner.flags[flag] == stages[maker].makes
        assert ("features" in stages) == (learner.flags.get("uss_features") is not None) == (segmentation == "dhr")
        of_recipe = {stage.name: stage for stage in plan_of(seeds, mini=mini)}
        assert {"eval", "eval_crf"} <= stages.keys()
        if maker in of_recipe and maker != "infer_aug":  # as the recipe refines itself
            for name in of_recipe.keys() & {"aff_prepare", "aff_train", "aff_infer", "irn_train", "irn_infer"}:
                assert name.split("_")[0] != maker.split("_")[0] or stages[name] == of_recipe[name]
            continue
        assert ("crf_t" in infer.flags) == (refinement != "crf")
        if refinement == "crf":  # of its own list, which another stage's folder of another threshold would not have
            thresholds = {"crf_10_thr0.26", "crf_10_thr0.15", "crf_10_thr0.25"}
            assert learner.flags[flag].name not in thresholds or "thr" not in infer.flags
        assert stages[maker].flags["infer_list"] == infer.flags["infer_list"]
        if segmentation == "deeplabv1":
            assert learner.settings["MODEL_NAME"] == "deeplabv1"
        cams = {"affinity": "aff_infer", "irn": "irn_infer"}
        if refinement in cams:
            assert stages[cams[refinement]].flags["cam_dir"] == Path(infer.flags["work_dir"], "cam_npy")


@pytest.mark.parametrize(
    ("seeds", "change", "backbone"),
    [
        ("hsc", {}, "resnet38d"),
        ("crt", {}, "resnet152"),
        ("msa_image", {}, "resnet50"),
        ("eps", {("train", "backbone"): "mobilenet_v2"}, "mobilenet_v2"),
    ],
)
def test_deeplab_from_the_classifier_has_its_backbone_and_its_weights(seeds, change, backbone):
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), changes=change)
    stages = {stage.name: stage for stage in run.load_recipe(f"{seeds}+crf+deeplabv2_from_classifier")[2](setup)}
    for name in ("deeplab", "test"):
        net = stages[name].settings
        assert (net["MODEL_BACKBONE"], net["MODEL_BACKBONE_WEIGHTS"]) == (backbone, stages["train"].makes)
        assert net["MODEL_BACKBONE_DEEPBASE"] is False


@pytest.mark.parametrize(
    ("seeds", "head", "counts_empty"),
    [("eps", "weights/CAUSE_VOC2012.pt", False), ("eps_coco", "weights/CAUSE_COCO2014.pt", True)],
)
def test_dhrs_features_have_the_head_of_their_data_set_and_cocos_scores_count_empty_images(seeds, head, counts_empty):
    setup = Setup(Path("out"), Path("images"), Path("saliency"), data_set="coco14" if counts_empty else "voc12")
    stages = {stage.name: stage for stage in run.load_recipe(f"{seeds}+crf+dhr")[2](setup)}
    assert stages["features"].flags["uss_weights"] == head
    assert stages["eval_dhr"].flags.get("count_empty", False) is counts_empty


def test_instances_beside_irns_label_maps_change_nothing_for_what_learns_from_these():
    changes = {("irn_infer", "ins_seg_out_dir"): "instances", ("irn_train", "displacement"): "True"}
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), changes=changes)
    stages = {stage.name: stage for stage in run.load_recipe("eps+irn+deeplabv2")[2](setup)}
    assert "eval_ins" in stages
    assert stages["deeplab"].flags["DATA_PSEUDO_GT"] == stages["irn_infer"].makes == Path("out/eps/sem_seg")


@pytest.mark.parametrize(
    "name", ["eps+irn+dhr", "crt+affinity+deeplabv2_msc", "cls+crf+deeplabv3plus", "msa_image+irn+dhr"]
)
def test_its_stages_scripts_take_their_flags(name):
    done = forker().run(["run.py", name, "--mini", "--list"], ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"exps/{name}_mini" in done.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eps+crf", "SEEDS+REFINEMENT+SEGMENTATION, as hsc+crf+dhr; refinements are none, crf, affinity, irn; seg"),
        ("eps+irm+dhr", "expected a refinement among none, crf, affinity, irn, found irm; did you mean irn?"),
        ("eps+irn+deeplab", "expected a segmentation among deeplabv1"),
        ("epps+irn+dhr", "did you mean eps?"),
        ("crt_cub+irn+dhr", "crt_cub makes no seeds to refine: it has no stage infer_aug"),
    ],
)
def test_what_cannot_be_combined_is_named(name, expected):
    done = forker().run(["run.py", name, "--mini", "--list"], ROOT)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1


def test_a_recipe_of_ones_own_may_train_side_by_side_and_needs_a_stage_called_train():
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"))

    def beside(setup):
        return [SideBySide({"here": eps.stages(setup)[:1], "there": []}), *eps.stages(setup)[1:]]

    of_eps = [stage.name for stage in combined.combine(setup, "mine.py", eps.stages, "crf", "dhr")]
    assert [stage.name for stage in combined.combine(setup, "mine.py", beside, "crf", "dhr")] == of_eps

    def without(setup):
        return [stage for stage in eps.stages(setup) if stage.name != "train"]

    with pytest.raises(UserError, match=r"mine\.py makes no seeds to refine: it has no stage train"):
        combined.combine(setup, "mine.py", without, "crf", "dhr")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("dhr_masks.scales=0", "scale"),
        ("dhr_masks.threshold=2", "threshold"),
        ("infer.thr=none.json infer_aug.thr=none.json", ""),
    ],
)
def test_numbers_of_late_stages_are_looked_at_first_and_files_that_earlier_ones_make_are_not(change, expected):
    name = "house_labels+crf+dhr"
    done = forker().run(["run.py", name, "--mini", "--list", "--set", *change.split()], ROOT)
    if expected:
        assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1, done.stderr
    else:
        assert done.returncode == 0, done.stderr
