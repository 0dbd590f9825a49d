"""Fixtures shared by all tests: where the golden numbers are."""

import os

# Before torch, and for the commands that tests start: two suites' processes on two cores, and threads that spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# isort: split
import json
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.needs import WITHOUT_PYDENSECRF

ROOT = Path(__file__).resolve().parent.parent
# A suite started in the background is deaf to Ctrl-C, and so would be the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Nothing is timed: other work may share the machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what a Python without pydensecrf leaves untested: the tensor CRF is compared with nothing there."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if WITHOUT_PYDENSECRF in report.longreprtext
    ]
    if skipped:
        terminalreporter.write_line(f"NOT TESTED: {len(skipped)} tests {WITHOUT_PYDENSECRF}", red=True, bold=True)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden numbers: `GOLDEN_DIR` where it is set, else the copy beside the tests."""
    return Path(os.environ.get("GOLDEN_DIR", ROOT / "tests" / "golden")).resolve()  # tests may change the folder


@pytest.fixture(scope="session")
def golden_device() -> torch.device:
    """Where the tests marked `golden` compute: `GOLDEN_DEVICE`, else the CPU. A GPU multiplies in float32 proper."""
    device = torch.device(os.environ.get("GOLDEN_DEVICE", "cpu"))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # of the commands that tests start
    return device


@pytest.fixture(scope="session")
def meta(golden: Path) -> dict:
    """`seed` and `salt` of the golden numbers."""
    return json.loads((golden / "meta.json").read_text())


@pytest.fixture(scope="session")
def ppc_meta(golden: Path) -> dict:
    """`seed` and `salt` of the golden numbers of SEAM, PPC and AffinityNet."""
    return json.loads((golden / "ppc" / "meta.json").read_text())


@pytest.fixture(scope="session")
def crt_meta(golden: Path) -> dict:
    """`seed`, `salt` and `edge_shift` of the golden numbers of CRT."""
    return json.loads((golden / "crt" / "meta.json").read_text())


@pytest.fixture(scope="session")
def msa_meta(golden: Path) -> dict:
    """`seed`, `salt` and sizes of the golden numbers of MSA."""
    return json.loads((golden / "msa" / "meta.json").read_text())


@pytest.fixture(scope="session")
def dhr_meta(golden: Path) -> dict:
    """`seed` and `salt` of the golden numbers of DHR."""
    return json.loads((golden / "dhr" / "meta.json").read_text())


@pytest.fixture(scope="session")
def crt_net(crt_meta: dict, golden_device: torch.device) -> torch.nn.Module:
    """CRT's released branches, filled as the golden nets are; who trains them takes a copy."""
    from network.crt import CRTNet, crt_state_dict, load_crt_state_dict
    from tests.golden_inputs import crt_fill

    net = CRTNet("resnet152", "deit_small_patch16_224", num_classes=20)
    filled = {name: crt_fill(name, tuple(value.shape), crt_meta) for name, value in crt_state_dict(net).items()}
    load_crt_state_dict(net, filled, source="the golden numbers")
    return net.to(golden_device)


@pytest.fixture(scope="session")
def msa_net(msa_meta: dict, golden_device: torch.device) -> torch.nn.Module:
    """MSA's released classifier, filled as the golden nets are; who trains it takes a copy."""
    from tests.network.filled_msa import filled

    return filled("association", msa_meta, golden_device)
