"""On a system, or in a Python, that the project does not run on, every command says so in one line."""

import subprocess
import sys

import pytest

from tests.scripts.conftest import ROOT, assert_refused, environment
from tests.scripts.test_help import SCRIPTS
from tests.scripts.test_startup import called

MODULES = ["paper.figures", "benchmark.systems", "benchmark.gpu"]


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """Runs Python as on a system without fcntl, as Windows is."""
    folder = tmp_path_factory.mktemp("system")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['fcntl'] = None\n")
    env = environment(PYTHONPATH=f"{folder}:{ROOT}")
    return lambda words: subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("name", [*SCRIPTS, *MODULES])
def test_every_command_says_in_one_line_what_it_needs(without, name):
    done = without([*called(name), "--help"])  # any words do: it ends before it reads them
    assert_refused(done, "has no fcntl: the project needs Linux; on Windows, run it in WSL")
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


@pytest.mark.parametrize("name", ["run.py", "eval.py", "tool.report"])
def test_a_system_with_fcntl_that_is_not_linux_is_refused_too(tmp_path, name):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.platform = 'darwin'\n")
    env = environment(PYTHONPATH=f"{tmp_path}:{ROOT}")
    words = [sys.executable, *called(name), "--help"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert_refused(done, "this system (darwin) has no prctl: the project needs Linux; on Windows, run it in WSL")
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


RELEASED = [f"released/{name}.py" for name in ("ppc/aff_train", "msa/evaluator_cls_image", "dhr/evaluate")]


@pytest.mark.parametrize("name", ["run.py", "demo.py", "train_voc.py", "eval.py", "tool.report", *RELEASED])
def test_what_users_start_first_knows_a_python_that_is_not_the_project_s(name):
    words = [sys.executable, "-S", *called(name), "--help"]  # without its libraries
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert_refused(
        done,
        "has no numpy, PIL, torch, tqdm, timm, pydantic: it is not the project's environment; `make env` builds that",
    )
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


def test_who_imports_the_package_gets_an_import_error(without):
    done = without(
        [
            "-c",
            "import tool.cli, tool.metric\ntry:\n    import tool.lock\nexcept ImportError as error: print(error.name)",
        ]
    )
    assert (done.returncode, done.stdout) == (0, "fcntl\n"), done.stderr
