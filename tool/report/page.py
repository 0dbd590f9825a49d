"""The page: one HTML file that opens from disk and asks no network, with its pictures inside or in a folder beside."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from tool.artifact import atomic_file, reported_unwritable
from tool.lock import turn_in

TEMPLATES = Path(__file__).parent / "template"
PAGE = TEMPLATES / "page.html"
MAX_BYTES = 60_000_000  # of pictures in one file; more go into a folder


def write_page(
    path: Path,
    context: Mapping[str, Any],
    pictures: Sequence[Mapping[str, bytes]],
    *,
    max_bytes: int = MAX_BYTES,
    template: Path = PAGE,
) -> int:
    """Write the report at `path`, and where its pictures would take more than `max_bytes` of it, these beside it.

    Processes write one after the other. Before pictures are written beside it a page that is there is removed, so that
    a stop leaves none that shows another's.

    Args:
        context: what the template draws. pictures: each image's WebP files by name, in the order of the page's images.
        template: page.html, or one of the caller's that extends it. A script and a style sheet of its name beside it,
            .js and .css, go into the page behind page.js and page.css.

    Returns:
        The number of bytes of it all. Raises `UserError` where the file system refuses.
    """
    sizes = [len(data) for of_image in pictures for data in of_image.values()]
    is_inside = sum(map(_size_inside, sizes)) <= max_bytes
    folder = path.with_name(f"{path.stem}_pictures")
    with turn_in(TEMPLATES):  # the run's folder is held by a training, which would be waited for
        if is_inside:
            sources = [{name: _inside(data) for name, data in of_image.items()} for of_image in pictures]
        else:
            with reported_unwritable(path):
                path.resolve().unlink(missing_ok=True)
            sources = [_write_beside(folder, number, of_image) for number, of_image in enumerate(pictures)]
        page = render(context, sources, template=template)
        with atomic_file(path) as file:
            file.write(page)
    return len(page) + (0 if is_inside else sum(sizes))


def render(context: Mapping[str, Any], sources: Sequence[Mapping[str, str]], *, template: Path = PAGE) -> bytes:
    """The page in UTF-8. sources: each image's addresses of pictures by name."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # ids and settings are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # keys stay in their order
    scripts, styles = _with_own("page.js", template), _with_own("page.css", template)
    page = environment.from_string(template.read_text("utf-8")).render(
        **context,
        sources=sources,
        styles=list(map(Markup, styles)),
        scripts=list(map(Markup, scripts)),
        script_hashes=[base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts],
    )
    return page.encode(errors="backslashreplace")  # a file name need not be UTF-8


def _with_own(name: str, template: Path) -> list[str]:
    """The text of the page's file `name`, and of that which belongs to a template that is not the page's own."""
    own = template.with_suffix(Path(name).suffix)
    paths = [TEMPLATES / name, *([own] if template != PAGE and own.is_file() else [])]
    return [path.read_text("utf-8") for path in paths]


def _size_inside(size: int) -> int:
    """The characters of base64 for so many bytes."""
    return 4 * -(-size // 3)


def _inside(data: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def _write_beside(folder: Path, number: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
    """Write one image's pictures into a folder of its own, numbered as ids may be anything; their addresses."""
    of_image = folder / str(number)
    with reported_unwritable(of_image):
        of_image.mkdir(parents=True, exist_ok=True)
    sources = {}
    for name, data in pictures.items():
        file_name = name.replace(" ", "_") + ".webp"
        with atomic_file(of_image / file_name) as file:
            file.write(data)
        sources[name] = f"{quote(folder.name)}/{number}/{file_name}"
    return sources
