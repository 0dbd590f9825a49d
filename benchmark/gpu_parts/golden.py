"""The golden tests on the device, with their own tolerances: nets, losses, gradients, steps, CRF, inference."""

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from benchmark.gpu_parts.record import Bench
from tool.places import ROOT

QUICK_FILES = ("tests/method/hsc/test_golden_losses.py", "tests/tool/test_optim.py", "tests/tool/test_crf.py")
PROCESSES = 4  # where pytest-xdist is there


def golden_files() -> list[str]:
    """Those that have golden tests: no other is imported, which may need what a bare machine lacks."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if b"pytest.mark.golden" in path.read_bytes()]


def run(bench: Bench) -> None:
    results = bench.folder / "golden.xml"
    files = QUICK_FILES if bench.quick else golden_files()
    side_by_side = ["-n", str(PROCESSES)] if not bench.quick and importlib.util.find_spec("xdist") else []
    options = ["-m", "golden", "-p", "no:cacheprovider", *side_by_side, f"--junitxml={results}"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
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
