"""run.py on stages that write seeds into one folder: flags that differ are refused before hours of training."""

import pytest

from tests.scripts.conftest import ROOT, forker


def listed(recipe, *changes, stages=()):
    flags = ["--set", *changes, *(["--stages", *stages] if stages else [])]
    return forker().run(["run.py", recipe, "--mini", "--list", *flags], ROOT)


@pytest.mark.parametrize(
    ("recipe", "first", "second", "flag", "folder", "found"),
    [
        ("hsc", "infer", "infer_aug", "scales=1", "hsc/cam_npy", "--scales [1.0] and [0.5, 1.0, 1.5, 2.0]"),
        ("hsc", "infer", "infer_aug", "thr=0.3", "hsc/cam_png", "--thr 0.3 and 0.22"),
        ("eps+irn+dhr", "infer", "infer_aug", "amp=bf16", "eps/cam_npy", "--amp bf16 and off"),
        ("house_labels", "infer", "infer_aug", "thr=0.3", "house_labels/cam_png", "--thr 0.3 and 0.22"),
        ("house_labels", "infer_cams", "infer_aug_cams", "up=False", "cams/cam_npy", "--up False and True"),
        ("crt", "infer_aug", "infer", "sane=mirror", "crt/cam_npy", "--sane ['mirror'] and []"),
        ("msa_image", "infer", "infer_aug", "up=False", "msa_image/cam_npy", "--up False and True"),
        ("msa_sal", "infer", "infer_aug", "refine_list=9", "msa_sal/cam_npy", "--refine_list 9 and 0"),
    ],
)
def test_a_flag_of_one_of_two_stages_that_share_a_folder_is_refused(recipe, first, second, flag, folder, found):
    done = listed(recipe, f"{first}.{flag}")
    expected = f"stages {first} and {second} write into one folder, exps/{recipe}_mini/{folder}: expected the same"
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"error: {expected} flags, found {found}; --set both\n" in done.stderr
    done = listed(recipe, f"{first}.{flag}", f"{second}.{flag}")
    assert done.returncode == 0, done.stderr


def test_stages_that_do_not_run_and_values_that_are_the_defaults_are_no_hindrance():
    done = listed("hsc", "infer.scales=0.5 1", stages=["infer", "eval"])
    assert done.returncode == 0, done.stderr
    done = listed("msa_image", "infer.up=True", "infer_aug.thr=0.25")  # whose label maps have a folder of their own
    assert done.returncode == 0, done.stderr
