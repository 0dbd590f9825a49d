"""The golden tests on the device, with their own tolerances: nets, losses, gradients, steps, CRF, inference."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from benchmark.gpu_parts.record import Bench
from tool.command import ROOT

QUICK_FILES = ("tests/method/hsc/test_golden_losses.py", "tests/tool/test_optim.py", "tests/tool/test_crf.py")
FOLDERS = (
    *("tests/method", "tests/network", "tests/segmentation", "tests/refine", "tests/rebalance", "tests/superpixel"),
    *("tests/localise", "tests/tool", "tests/scripts/test_inference.py"),
)


def run(bench: Bench) -> None:
    results = bench.folder / "golden.xml"
    files = QUICK_FILES if bench.quick else FOLDERS
    subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "golden", "-p", "no:cacheprovider", *files, f"--junitxml={results}"],
        cwd=ROOT,
        env={**os.environ, "GOLDEN_DEVICE": str(bench.device)},
    )
    passed = skipped = 0
    for case in ElementTree.parse(results).iter("testcase"):
        outcome = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if outcome is None:
            passed += 1
        elif outcome.tag == "skipped":
            skipped += 1
        else:
            bench.check(case.get("name"), False, {"said": outcome.get("message", "").split("\n")[0][:200]})
    bench.check("golden tests", passed > 0, {"passed": passed, "skipped": skipped})
