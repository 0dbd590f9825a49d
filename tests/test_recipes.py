"""The stages of the recipes themselves: what depends on a changed flag follows it, and released settings are theirs."""

import copy
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import demo
from method import METHODS
from recipes import cls, common, crt, dhr, eps, eps_seam, house, house_labels, hsc, ppc_eps
from segmentation.experiment.config import config_dict, configurations
from segmentation.settings import read_config
from tests.scripts.conftest import ROOT
from tool.cli import UserError
from tool.recipe import Setup, Stage, all_stages
from tool.run_recipe import command_line
from tool.seed_recipe import CRFRecipe, SeedRecipe


def test_what_depends_on_a_changed_flag_follows_it():
    changes = {("train", "backbone"): "resnet50", ("deeplab", "TRAIN_ITERATION"): 7, ("deeplab", "EXP_NAME"): "mine"}
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), changes=changes)
    stages = {stage.name: stage for stage in hsc.stages(setup)}
    assert stages["infer"].flags["backbone"] == stages["infer_aug"].flags["backbone"] == "resnet50"
    checkpoint = Path("out/mine/deeplabv2_resnet101_VOCDataset_itr7_all.pth")
    assert stages["test"].flags["TEST_CKPT"] == stages["deeplab"].makes == checkpoint
    changes = {("deeplab", "MODEL_BACKBONE"): "timm:resnet18", ("deeplab", "DATA_NAME"): "Ours"}
    changes |= {("train_eps", "session_name"): "first"}
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), mini=True, changes=changes)
    stages = {stage.name: stage for stage in hsc.stages(setup)}
    assert stages["deeplab"].makes == Path("out/deeplab/deeplabv2_timm_resnet18_Ours_itr300_all.pth")
    assert stages["train"].flags["weights"] == stages["train_eps"].makes == Path("out/first/first.pth")


def test_recipes_look_for_crf_seeds_where_each_methods_inference_puts_them():
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"))
    for name, method in METHODS.items():
        trained = common.training(setup, name, mini_flags={})
        crf = method.seeds.crf[0]
        infer = common.inference(setup, trained, name="infer", ids="train")
        assert infer.makes == Path("out", name, "crf", crf.folder)
        # ... also where a flag says which CRF.
        number = {"crf_alpha": ["5", "9"]} if crf.threshold is None else {"thr": "0.3"}
        infer = common.inference(setup, trained, name="infer", ids="train", crf_t=["4", "10"], **number)
        changed = replace(crf, iterations=4, **({"alpha": 5} if crf.threshold is None else {"threshold": 0.3}))
        assert infer.makes == Path("out", name, "crf", changed.folder)


def test_a_method_of_a_users_own_says_itself_where_its_crf_seeds_are(monkeypatch):
    mine = copy.copy(METHODS["cls"])
    mine.seeds = SeedRecipe(crf=(CRFRecipe(3, threshold=0.2),))
    monkeypatch.setitem(METHODS, "mine", mine)
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"))
    trained = common.training(setup, "mine", mini_flags={})
    assert common.inference(setup, trained, name="infer", ids="train").makes == Path("out/mine/crf/crf_3_thr0.2")


@pytest.mark.parametrize("recipe", [hsc, dhr, ppc_eps])
def test_what_is_scored_and_learnt_from_is_what_a_changed_crf_makes(recipe):
    changes = {("infer", "crf_t"): "4", ("infer_aug", "crf_t"): "5", ("infer_aug", "crf_alpha"): "6"}
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), changes=changes)
    stages = {stage.name: stage for stage in recipe.stages(setup)}
    folder = Path(stages["infer"].flags["work_dir"], "crf")
    assert stages["eval_crf"].flags["predict_dir"].parent == folder
    assert stages["eval_crf"].flags["predict_dir"].name.startswith("crf_4_")
    learner = stages["dhr"].flags["wss_masks"] if recipe is dhr else stages["deeplab"].flags["DATA_PSEUDO_GT"]
    assert learner == stages["infer_aug"].makes == folder / "crf_5_6"


@pytest.mark.parametrize("mini", [False, True])
def test_the_house_recipe_goes_on_from_its_own_eps_for_longer(mini):
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), mini=mini)
    stages = {stage.name: stage for stage in house.stages(setup)}
    start, train = stages["train_eps"], stages["train"]
    assert train.flags["weights"] == start.makes != train.makes
    assert start.flags["method"] == train.flags["method"] == "eps"
    if mini:
        assert train.flags["max_iters"] == 2 * start.flags["max_iters"]
    else:
        assert train.flags["max_iters"] == start.flags["max_iters"] == "none"
        assert train.flags["max_epoches"] == 60
    assert stages["infer"].flags["weights"] == stages["infer_aug"].flags["weights"] == train.makes
    assert stages["eval"].flags["predict_dir"] == Path("out/house/cam_npy")
    learner = stages["deeplab"].settings
    assert learner["DATA_PSEUDO_GT"] == stages["infer_aug"].makes == Path("out/house/crf/crf_8_7")
    assert (learner["MODEL_BACKBONE"], learner["MODEL_BACKBONE_WEIGHTS"]) == ("resnet38d", train.makes)


def test_both_trainings_of_the_house_recipe_have_the_net_of_the_first():
    for flag, value, mini in (("backbone", "resnet50", False), ("width", 0.5, False), ("width", 0.25, True)):
        setup = Setup(Path("out"), Path("voc"), Path("maps"), mini, {("train_eps", flag): value})
        stages = {stage.name: stage for stage in house.stages(setup)}
        assert stages["train"].flags[flag] == stages["infer"].flags[flag] == value


def test_vocs_test_set_is_segmented_where_its_list_and_its_images_are_there_and_may_come_later(tmp_path):
    images, lists = tmp_path / "JPEGImages", tmp_path / "ImageSets" / "Segmentation"
    images.mkdir()
    lists.mkdir(parents=True)

    def planned() -> dict[str, Stage]:
        return {stage.name: stage for stage in dhr.stages(Setup(Path("out"), tmp_path, Path("saliency")))}

    (lists / "test.txt").write_text("a\nb\n")
    assert "dhr_test" not in planned() and planned()["prepare"].reads == ()
    (images / "b.jpg").touch()
    assert {"dhr_test", "submission"} <= planned().keys()
    assert planned()["prepare"].reads == (lists / "test.txt", images / "b.jpg")


@pytest.mark.parametrize("mini", [False, True])
def test_the_house_recipe_of_labels_alone_reads_no_saliency_and_needs_no_superpixels(mini):
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), mini=mini)
    stages = {stage.name: stage for stage in house_labels.stages(setup)}
    assert not any("saliency" in str(value) for stage in stages.values() for value in stage.flags.values())
    assert not any("scn" in stage.flags for stage in stages.values())
    assert (stages["train"].flags["method"], stages["train"].flags["sp_cam"]) == ("msa_image", False)
    for name, ids in (("infer", "train.txt"), ("infer_aug", "train_aug.txt")):
        cams = stages[f"{name}_cams"]
        assert cams.flags["weights"] == stages["train"].makes and stages[name].flags["cam_dir"] == [cams.makes]
        assert {stage.flags["infer_list"].name for stage in (cams, stages[name])} == {ids}
    seeds = Path("out/house_labels/crf/crf_8_1")
    assert stages["eval_crf"].flags["predict_dir"] == seeds
    learner = stages["deeplab"].settings
    assert learner["DATA_PSEUDO_GT"] == stages["infer_aug"].makes == seeds
    backbone = "resnet18" if mini else "resnet50"
    assert (learner["MODEL_BACKBONE"], learner["MODEL_BACKBONE_WEIGHTS"]) == (backbone, stages["train"].makes)


@pytest.mark.parametrize("recipe", [hsc, dhr, house, house_labels])
def test_where_the_user_leaves_the_crf_out_what_learns_takes_the_seeds_without_one(recipe):
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), changes={("infer_aug", "crf_t"): "none"})
    stages = {stage.name: stage for stage in recipe.stages(setup)}
    learner = stages["dhr"].flags["wss_masks"] if recipe is dhr else stages["deeplab"].flags["DATA_PSEUDO_GT"]
    assert learner == stages["infer_aug"].makes == Path(stages["infer_aug"].flags["work_dir"], "cam_png")


def test_seeds_without_a_crf_are_scored_alone():
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), changes={("infer", "crf_t"): "none"})
    assert "eval_crf" not in {stage.name for stage in hsc.stages(setup)}
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), changes={("infer", "thr"): "curve.json"})
    with pytest.raises(UserError, match=r"--set infer\.thr=curve\.json: expected a number, by which run\.py finds"):
        crt.stages(setup)


@pytest.mark.parametrize("backbone", [None, "resnet18"])
def test_irns_stages_take_any_training_and_what_follows_its_net_follows_it(backbone, monkeypatch):
    changes = {("irn_train", "crop_size"): 64}
    changes |= {("train", "backbone"): backbone, ("train", "width"): None} if backbone else {}
    setup = Setup(Path("out"), Path("VOC2012"), Path("saliency"), mini=True, changes=changes)
    trained = common.training(setup, "eps", mini_flags={})
    labels, train, infer, _ = common.irn(setup, trained, beta=8)
    for stage in (labels, train, infer):
        monkeypatch.setattr(sys, "argv", [str(word) for word in stage.words])
        importlib.import_module(stage.script.removesuffix(".py").replace("/", ".")).parse_arguments()
    assert infer.flags["cam_dir"] == Path("out/eps/cam_npy") and infer.flags["beta"] == 8
    assert infer.flags["weights"] == train.makes and infer.flags["crop_size"] == 64
    assert train.flags["weights"] == trained.makes
    net = (backbone, None) if backbone else ("resnet38d", 0.125)  # as the classifier has it
    assert all((stage.flags["backbone"], stage.flags["width"]) == net for stage in (train, infer))


def test_the_demo_runs_the_very_stages_of_the_recipes():
    out = Path("out")
    seeds, segmentation = demo.plan(["cls", "eps", "eps_seam", "hsc"], out, seed=0, quick=False)
    theirs = {stage.name: stage for stage in all_stages([*seeds, *segmentation])}

    def command(stage: Stage, **changes: object) -> str:
        seed = "TRAIN_SEED" if stage.name.endswith("deeplab") or stage.name.endswith("test") else "seed"
        flags = {name: value for name, value in stage.flags.items() if name != seed}
        return command_line(stage._replace(flags={**flags, **changes}))

    for recipe in (cls, eps, eps_seam, hsc):
        name = recipe.__name__.split(".")[-1]
        setup = Setup(out, out / "data" / "VOC2012", out / "data" / "VOC2012" / "saliency", mini=True)
        ours = {stage.name: stage for stage in recipe.stages(setup)}
        for stage in demo.SEEDS:
            assert command(theirs[f"{name}_{stage}"]) == command(ours[stage])
        if "train_eps" in ours:
            assert command(theirs["eps_train"]) == command(ours["train_eps"])
        assert command(theirs["data"]) == command(ours["data"])
    assert command(theirs["infer_aug"]) == command(ours["infer_aug"])
    assert command(theirs["seeds_deeplab"], EXP_NAME="deeplab") == command(ours["deeplab"])


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("SEAM_deeplabv1_resnet38", common.DEEPLABV1_RESNET38),
        ("CRT_deeplabv2_resnet101_msc", common.DEEPLAB_MSC),
    ],
)
def test_a_recipes_deeplab_is_the_released_configuration(name, keys, monkeypatch):
    monkeypatch.chdir(ROOT)
    places = {"EXP_NAME": "deeplab", "DATA_PSEUDO_GT": "masks", "MODEL_BACKBONE_WEIGHTS": "net.pth"}
    released = read_config({**config_dict, **configurations[name], **places}, [])
    ours = read_config(config_dict, [f"{key}={value}" for key, value in {**keys, **places}.items()])
    assert ours == released
