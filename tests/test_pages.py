"""What the pages say is so: links lead somewhere, imports work, equations are beside functions that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
INDEX = ROOT / "docs" / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINKING = [
    *(README, *PAGES, ROOT / "CONTRIBUTING.md"),
    *sorted((ROOT / "paper").glob("*.md")),
    *ROOT.glob("method/*/README.md"),
]
CODE = ("method", "refine", "superpixel", "segmentation", "rebalance", "localise", "network", "data", "tool")


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub names them."""
    lines = [line for line in page.read_text().splitlines() if re.match("#+ ", line)]
    return {re.sub(r"[^\w -]", "", line.strip("# ").lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_the_readme_or_the_index_leads_to_every_page():
    linked = {page.name for page in PAGES if page != INDEX and f"]({page.name})" in INDEX.read_text()}
    linked |= {Path(link).name for link in re.findall(r"\(docs/(\w+\.md)", README.read_text())}
    assert {page.name for page in PAGES} <= linked


def test_pages_that_the_code_names_are_there():
    """`paper/method.md, DHR` in a docstring: the file, and a heading that begins with the words."""
    sources = [*ROOT.glob("*.py"), *(path for folder in CODE for path in ROOT.glob(f"{folder}/**/*.py"))]
    found = 0
    for path in sources:
        for page, section in re.findall(r"\b((?:docs|paper|spec)/\w+\.md)(?:,\s([A-Z]\w+))?", path.read_text()):
            found += 1
            assert (ROOT / page).exists(), f"{path}: {page}"
            there = re.search(rf"(?m)^#+ .*\b{section}", (ROOT / page).read_text())
            assert there, f"{path}: {page} has no section {section}"
    assert found > 50


def test_what_the_readme_says_can_be_imported_can():
    lines = re.findall(r"`(from tool[^`]+)`", README.read_text())
    assert lines
    for line in lines:
        exec(line, {})


def test_each_equation_of_the_paper_is_beside_a_function_that_is_there():
    """A row names files, by the end of their paths, and after each what is defined in it."""
    sources = [path for folder in CODE for path in ROOT.glob(f"{folder}/**/*.py")]
    rows = [line for line in (ROOT / "paper" / "method.md").read_text().splitlines() if line.startswith("| ")]
    found = 0
    for row in rows:
        files = []
        for span in re.findall(r"`([^`]+)`", row.rsplit(" | ", 1)[-1]):
            if re.fullmatch(r"[\w/]+(\.py)?", span) and ("/" in span or span.endswith(".py")):
                files = [
                    path
                    for path in [*sources, ROOT / "train_voc.py"]
                    if f"/{path}".endswith((f"/{span}", f"/{span}/__init__.py"))
                ]
                assert files, f"{row}: no {span}"
            else:
                name = span.split(".")[-1]
                assert any(re.search(rf"^ *(def|class) {name}\b", path.read_text(), re.M) for path in files), (
                    f"{row}: no {span}"
                )
                found += 1
    assert found > 20
