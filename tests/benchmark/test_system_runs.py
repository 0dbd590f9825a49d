"""The names of the runs of `benchmark.systems`, and what follows from them."""

import argparse
import re
import sys

import pytest

from benchmark import system_runs, systems
from benchmark.system_figures import crf_folder
from benchmark.system_gains import reference_of
from benchmark.system_refine import REFINEMENTS
from benchmark.system_runs import in_order, refinement_flags, run_named, run_one, trained
from benchmark.system_seeds import trainings_of
from benchmark.system_segment import classifier_of, segmented
from tool.cli import UserError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean_of_eps_and_hcs", "mean_of_eps_and_hcs: hcs is no run; did you mean hsc?"),
        ("mean_of_eps", "mean_of_eps: expected several runs, each once"),
        ("mean_of_eps_and_eps", "mean_of_eps_and_eps: expected several runs, each once"),
        ("mean_of_", "mean_of_:  is no run"),
        ("mean_of_eps_alpha_4", "mean_of_eps_alpha_4: expected several runs, each once"),
        ("ppc_alpha_4", "ppc_alpha_4: the score of background in its CRF is a threshold, no power"),
        ("eps_alpha_four", "eps_alpha_four is no run"),
        ("mean_of_eps_alpha_4_and_hsc", "mean_of_eps_alpha_4_and_hsc: eps_alpha_4 is no run"),
    ],
)
def test_a_mean_is_of_several_runs_that_are_known(name, expected):
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(expected)):
        run_named(name)


def arguments(monkeypatch, *runs):
    words = ["systems", "--voc12_root", "VOC2012", "--weights", "weights.pth", "--runs", *runs]
    monkeypatch.setattr(sys, "argv", words)
    return systems.parse_arguments()


def test_saliency_maps_are_asked_for_where_a_run_reads_them(monkeypatch, tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "SegmentationClass").mkdir()
    for run, missing in {"cls": "--weights", "mean_of_cls_and_eps": "--voc12_root .*saliency"}.items():
        with pytest.raises(UserError, match=missing):
            systems.check_arguments(arguments(monkeypatch, run, "--voc12_root", str(tmp_path)))


def test_both_branches_of_crt_are_seeds_of_one_training(monkeypatch):
    assert in_order(["crt_cnn", "crt"]) == ["crt", "crt_cnn"]
    args, made = arguments(monkeypatch, "crt", "crt_cnn"), {}
    monkeypatch.setattr(system_runs, "run_stages", lambda stages, folder: made.update({folder.name: stages}))
    for name in args.runs:
        run_one(args, name, seed=3)
    assert [stage.name for stage in made["crt"]] == ["train", "infer", "eval"]
    assert [stage.name for stage in made["crt_cnn"]] == ["infer", "eval"]
    seeds = {name: stages[-2].flags for name, stages in made.items()}
    assert {flags["weights"] for flags in seeds.values()} == {made["crt"][0].makes}
    assert {flags["work_dir"].name: flags["cam_branch"] for flags in seeds.values()} == system_runs.CRT
    assert trainings_of("mean_of_eps_and_crt_cnn") == ["eps", "crt"]
    assert made["crt"][0].flags["val_list"] == args.lists / "train.txt"


def test_superpixels_or_spreading_or_not_are_seeds_of_one_training(monkeypatch):
    names = ["eps_after_eps", "eps_after_eps_along_superpixels", "msa_image", "msa_image_resized"]
    names += ["msa_image_ap", "msa_image_dcr"]
    args, made = arguments(monkeypatch, *reversed(names), "--scn", "scn.pth"), {}
    assert set(args.runs[:3]) == set(names[::2])
    monkeypatch.setattr(system_runs, "run_stages", lambda stages, folder: made.update({folder.name: stages}))
    for name in args.runs:
        run_one(args, name, seed=3)
    assert [[stage.name for stage in made[name]] for name in names] == 3 * [
        ["train", "infer", "eval"],
        ["infer", "eval"],
    ]
    resized, along, of_msa, msa_resized, spread, rebuilt = (made[name][-2].flags for name in names)
    assert resized["weights"] == along["weights"] == made["eps_after_eps"][0].makes
    assert (resized.get("scn"), along["scn"]) == (None, args.scn)
    assert of_msa["weights"] == msa_resized["weights"] == made["msa_image"][0].makes
    assert (of_msa.get("up"), msa_resized["up"]) == (None, False)
    assert spread["weights"] == rebuilt["weights"] == made["msa_image_ap"][0].makes
    assert (spread.get("beta"), rebuilt["beta"]) == (None, 0)
    assert [reference_of(name) for name in names[:2]] == ["eps_after_eps", "eps_after_eps"]


def test_another_exponent_is_crf_seeds_of_the_same_cams(monkeypatch):
    names = ["eps", "hsc", "mean_of_eps_and_hsc_alpha_1.5", "hsc_alpha_4"]
    args, made = arguments(monkeypatch, *names), {}
    monkeypatch.setattr(system_runs, "run_stages", lambda stages, folder: made.update({folder.name: stages}))
    for name in args.runs:
        run_one(args, name, seed=3)
    assert [stage.name for stage in made["hsc_alpha_4"]] == ["infer_hsc", "infer", "eval"]
    merged = made["hsc_alpha_4"][1].flags
    assert merged["cam_dir"] == [made["hsc"][0].makes.parent / "cam_npy"] and merged["crf_alpha"] == "4"
    both = made["mean_of_eps_and_hsc_alpha_1.5"][-2].flags
    assert len(both["cam_dir"]) == 2 and both["crf_alpha"] == "1.5"
    assert "crf_alpha" not in made["hsc"][1].flags
    refined = trained(args, "eps_alpha_4", 0, refinement_flags(args, args.lists / "train.txt"))
    whole = {stage.name: stage.flags for stage in REFINEMENTS["affinity"].stages(refined)}
    assert whole["infer_refine"]["crf_alpha"] == [4, 24], "AffinityNet's posteriors"
    assert [reference_of(name) for name in names[2:]] == ["eps", "eps"]
    assert reference_of("eps_alpha_4") == "eps" and trainings_of("hsc_alpha_4") == ["hsc"]


@pytest.mark.parametrize(("run", "net"), [("eps", "eps"), ("eps_alpha_4", "eps"), ("crt_cnn", "crt")])
def test_a_segmentation_starts_from_the_net_that_made_the_seeds(run, net, monkeypatch):
    args, asked = arguments(monkeypatch, run), segmented(f"{run}+crf+deeplabv2_from_classifier")
    classifier = classifier_of(args, asked, trained(args, run, 3, {}), 3)
    assert classifier.makes == trained(args, net, 3, {}).train.makes == args.out / "seed_3" / net / f"{net}.pth"
    assert classifier.flags["backbone"] == args.backbone


@pytest.mark.parametrize(
    ("name", "made"), [("hsc", "infer_refine"), ("ppc", "aff_prepare"), ("crt_cnn", "aff_prepare")]
)
def test_affinitynet_learns_from_posteriors_of_both_alphas_whatever_crf_the_method_has(name, made, monkeypatch):
    args = arguments(monkeypatch, name)
    run = trained(args, name, 0, refinement_flags(args, args.lists / "train.txt"))
    stages = {stage.name: stage for stage in REFINEMENTS["affinity"].stages(run)}
    alphas = {"aff_prepare": ("4.00", "24.00"), "infer_refine": ("crf_10_4", "crf_10_24")}[made]
    flags = stages["aff_train"].flags
    assert (flags["la_crf_dir"].name, flags["ha_crf_dir"].name) == alphas
    assert stages[made].flags["infer_list"] == args.refine_list
    infer = next(stage for stage in stages.values() if stage.script == "inference.py")
    assert ("crf_alpha" in infer.flags) == (made == "infer_refine")


def test_a_mean_is_measured_against_eps_of_as_many_steps_as_its_longest_part():
    assert reference_of("mean_of_eps_after_eps_and_msa_sal") == "eps_after_eps"
    assert reference_of("mean_of_eps_and_cls") == "eps"


def test_a_longer_run_is_measured_against_one_of_as_many_steps():
    names = (
        "hsc",
        "ppc_after_eps",
        "ppc_eps_twice",
        "seam_twice_after_eps",
        "hsc_twice_after_eps",
        "msa_image_cam_four_times",
    )
    references = ["eps", "eps_after_eps", "eps_twice", "eps_twice_after_eps", "eps_twice_after_eps", "eps_four_times"]
    assert list(map(reference_of, names)) == references
    assert reference_of("mean_of_eps_four_times_after_eps_and_ppc_eps_twice_after_eps") == "eps_four_times_after_eps"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("hsc_sane_all_after_eps", "crf_8_7"),
        ("ppc_eps_after_eps", "crf_5_8"),
        ("ppc_after_eps", "crf_10_thr0.26"),
        ("msa_image_dcr", "crf_10_thr0.25"),
        ("crt_cnn", "crf_10_thr0.15"),
        ("mean_of_ppc_eps_after_eps_and_hsc_after_eps", "crf_5_8"),
        ("eps_after_eps_alpha_4", "crf_8_4"),
        ("mean_of_ppc_eps_and_hsc_alpha_0.5", "crf_5_0.5"),
    ],
)
def test_a_runs_crf_seeds_lie_where_its_method_puts_them(name, folder, tmp_path):
    assert crf_folder(tmp_path / name) == tmp_path / name / "crf" / folder
