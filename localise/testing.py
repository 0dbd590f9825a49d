"""A test of trained weights, by one process or by several."""

import argparse

from data.cub import Cub
from localise.evaluation import Recipe, Result, evaluate, test_loader
from network.localiser import LocaliserTransformer, load_trained
from tool.device import place, resolve_device
from tool.distributed import join_processes, leave_processes
from tool.folder import Claim, claim_folders
from tool.limits import reported_limits
from tool.loop import reported_end_of_others
from tool.reading import none_left_behind
from tool.torchrun import is_first

LIMITS = "take a smaller batch or fewer loader processes (--batch_size, --num_workers)"


def test_run(args: argparse.Namespace, cub: Cub, claim: Claim) -> Result | None:
    """What the net of `args`, test.py's, finds in the test images; None in processes beside the first, which makes
    the folder of `claim` before the work.

    Raises `UserError` for a device that is not there, weights that do not fit, a folder that cannot be made or holds
    another test's files, and an image that cannot be read.
    """
    device = join_processes(resolve_device(args.device))
    branch = LocaliserTransformer(args.transformer, num_classes=cub.data_set.num_classes)
    report = load_trained(branch, args.weights)
    if is_first():
        print(report)
        claim_folders([claim])
    branch = place(branch.eval(), device, args.amp).requires_grad_(False)
    recipe = Recipe(args.cam_thr, "half" in args.sane, args.batch_size, args.num_workers, args.amp)
    loader = test_loader(cub.test, recipe, branch.normalisation, pin_memory=device.type == "cuda")
    with reported_limits(LIMITS), none_left_behind(), reported_end_of_others(then=""):
        result = evaluate(branch, loader, cub.test, recipe, show=is_first(), then="")
    leave_processes()
    return result if is_first() else None
