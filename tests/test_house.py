"""The structure of the code: imports run one way, methods stay apart, files fit in the head."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Each package may import itself and what comes after it.
ORDER = ["superpixel", "method", "refine", "segmentation", "rebalance", "localise", "network", "data", "tool"]
# A folder a data set: what it is (classes.py) stands above the tools, `data` collects it; the rest counts as scripts.
DATA_SETS = ["voc12", "cub", "coco14", "context", "ade", "stuff", "own"]
SIDE_BY_SIDE = {"superpixel", "method", "refine", "segmentation", "rebalance", "localise"}
SCRIPTS = ["train_voc", "inference", "merge", "eval", "demo", "run"]
SOURCES = sorted(
    [*ROOT.glob("*.py"), *(file for package in [*ORDER, *DATA_SETS] for file in (ROOT / package).rglob("*.py"))]
)
AROUND = sorted(
    file for folder in ("benchmark", "paper", "released", "tests") for file in (ROOT / folder).rglob("*.py")
)


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what a module depends on"
            names.add(node.module)
    return names


@pytest.mark.parametrize(
    "path",
    [
        *("inference.py", "merge.py", "superpixel/infer.py", "rebalance/features.py", "rebalance/masks.py"),
        *("refine/affinity/prepare.py", "refine/affinity/infer.py", "refine/irn/labels.py", "refine/irn/infer.py"),
    ],
)
def test_a_command_that_makes_files_of_images_divides_its_list_among_processes(path):
    """That these then make the files of one is shown where a command of each kind is run by two."""
    assert imported_names(ROOT / path) & {"own_share", "own_checked", "own_images"}


def imported_names(path):
    """The names that a file imports from others, wherever in it."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    modules = imported_modules(path)
    forbidden = {*SCRIPTS, "tests", "benchmark", "paper"}
    if package in DATA_SETS and path.stem == "classes":
        modules -= {f"{name}.classes" for name in DATA_SETS}  # as one data set has another's classes and more
        forbidden |= {*ORDER, *DATA_SETS} - {"tool"}
    elif package in ORDER and path.stem != "__main__":  # which is a script
        forbidden |= set(ORDER[: ORDER.index(package)])
        if package in SIDE_BY_SIDE:
            forbidden |= SIDE_BY_SIDE - {package}
    roots = {name.split(".")[0] for name in modules}
    assert not roots & (forbidden - {path.stem if path.parent == ROOT else None})


def test_recipes_name_scripts_and_import_none():
    facts = {"method", "segmentation", "segmentation.experiment.config"}  # METHODS, names and keys: no torch
    for path in {*(ROOT / "recipes").glob("*.py")} - {ROOT / "recipes" / "checks.py"}:  # which asks the scripts
        roots = {name.split(".")[0] for name in imported_modules(path) - facts}
        assert not roots & ({*ORDER, *DATA_SETS, *SCRIPTS} - {"tool"}), path


def test_released_commands_are_tables_onto_scripts_and_import_none():
    for path in (ROOT / "released").rglob("*.py"):
        how = {"tool.cli", "tool.artifact"}  # a mistake is said, and a file written
        roots = {name.split(".")[0] for name in imported_modules(path) - how}
        assert not roots & {*ORDER, *DATA_SETS, *SCRIPTS, "recipes"}, path


def test_benchmarks_import_no_tests():
    for path in (ROOT / "benchmark").rglob("*.py"):
        assert "tests" not in {name.split(".")[0] for name in imported_modules(path)}, path


def test_methods_never_import_each_other():
    """Nor does what they share, the terms and the files beside their folders, import one of them; METHODS names all."""
    methods = {file.parent.name for file in (ROOT / "method").glob("*/__init__.py")} - {"terms"}
    for path in {*(ROOT / "method").rglob("*.py")} - {ROOT / "method" / "__init__.py"}:
        imported = {name.split(".")[1] for name in imported_modules(path) if name.startswith("method.")}
        assert not (imported & methods) - {path.parent.name}, path


def test_no_file_is_longer_than_400_lines():
    long = {path.name: n for path in [*SOURCES, *AROUND] if (n := len(path.read_text().splitlines())) > 400}
    assert not long


def test_no_file_is_hashed_in_one_piece():
    """Weights have gigabytes: `tool.file_hash`."""
    ours = [*SOURCES, *(ROOT / "benchmark").rglob("*.py")]
    assert not [path for path in ours if "read_bytes()).hexdigest" in path.read_text()]


def test_nothing_is_moved_to_a_gpu_by_force():
    assert not [path for path in SOURCES if ".cuda()" in path.read_text()]
