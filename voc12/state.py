"""What of VOC 2012's data is there, what is missing and where users get it: a table, and the next step."""

import os
import shlex
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from data.labels import load_labels
from tool.cli import FILE, NOTHING, UserError, printable, what_is_at
from tool.lists import read_ids
from tool.places import elsewhere, is_folder, misplaced, moving_folder, names_in
from voc12.classes import VOC12

# Images of VOC 2012: in its archive of training and validation images, and in its lists for segmentation.
TRAINVAL, TRAIN, VAL, TEST = 17_125, 1_464, 1_449, 1_456
TRAIN_AUG = 10_582  # images with masks of VOC or of the Semantic Boundaries Dataset, less val
# Where train_voc.py finds lists and weights unless it is told.
OUT = Path("voc12")
WEIGHTS = Path("network/ilsvrc-cls_rna-a1_cls1000_ep-0001.params")
WIDTH = 100  # columns
AUG_FOLDER = "SegmentationClassAug"


class Part(NamedTuple):
    """How many files, or entries of a file, are there, and how many there should be."""

    there: int
    expected: int

    @property
    def missing(self) -> int:
        return max(self.expected - self.there, 0)


class Section(NamedTuple):
    """Parts of one origin, which the title says, by name; what brings them, and whether training needs them."""

    title: str
    parts: Mapping[str, Part]
    step: str
    needed: bool = True

    @property
    def complete(self) -> bool:
        return not any(part.missing for part in self.parts.values())


class Finder:
    """Looks at names of files, at lists and at labels; what cannot be read counts as missing, and is a fault."""

    def __init__(self) -> None:
        self.faults: dict[str, None] = {}  # each once, in order

    def _found(self, read: Callable[[Path], Iterable[str]], path: Path) -> set[str]:
        if what_is_at(path) == NOTHING:
            return set()
        try:
            return set(read(path))
        except UserError as error:
            self.faults[" ".join(line.strip() for line in str(error).split("\n")[:2])] = None
        except OSError as error:
            self.faults[f"{path}: cannot be read as a folder ({error.strerror})"] = None
        return set()

    def files(self, folder: Path, suffix: str) -> set[str]:
        """The ids of the files `<id><suffix>` in `folder`, hidden ones left out."""
        names = self._found(os.listdir, folder)
        ids = {name.removesuffix(suffix) for name in names if name.endswith(suffix) and not name.startswith(".")}
        if not ids and (problem := misplaced(folder, suffix)):
            self.faults[problem] = None
        return ids

    def ids(self, path: Path) -> set[str]:
        """The ids of the list at `path`."""
        return self._found(lambda path: read_ids(path, "the list"), path)

    def labelled(self, path: Path) -> set[str]:
        """The ids that the labels at `path` have."""
        return self._found(lambda path: load_labels(path, VOC12, flag="the labels"), path)


def count(found: set[str], *, among: set[str]) -> int:
    """How many of `found` are among those that are wanted; all of them where it is not known which are."""
    return len(found & among) if among else len(found)


def split_path(root: Path, name: str) -> Path:
    return root / "ImageSets" / "Segmentation" / f"{name}.txt"


def kit_elsewhere(root: Path) -> str | None:
    """Why the folder `root` is not VOC2012, where that is near: deeper, as it is unpacked, or a level higher."""
    if not is_folder(root) or is_folder(root / "JPEGImages"):
        return None
    images = elsewhere(root / "JPEGImages", is_folder)
    if images is None:
        return None
    return f"{root}: expected VOC2012 of VOC's development kit, which seems to be {images.parent}; name that"


def masks_elsewhere(root: Path) -> str | None:
    """Why there are no masks in SegmentationClassAug, where they are near; None where the whole kit is elsewhere."""
    folder = root / AUG_FOLDER
    if kit_elsewhere(root):
        return None
    if is_folder(folder):
        return misplaced(folder, ".png")
    spellings = ("segmentationclassaug", "segmentationaug")
    alike = [name for name in names_in(root) if name.lower().replace("_", "").replace("-", "") in spellings]
    other = root / alike[0] if alike else elsewhere(folder, is_folder)
    return None if other is None else f"{folder}: nothing there; is it {other}? Then: {moving_folder(other, folder)}"


def kit(root: Path, finder: Finder) -> Section:
    annotations = finder.files(root / "Annotations", ".xml")
    # Images of the test archive may lie in the same folder; they have no annotations.
    images = finder.files(root / "JPEGImages", ".jpg") - finder.ids(split_path(root, "test"))
    parts = {
        "JPEGImages": Part(count(images, among=annotations if len(annotations) == TRAINVAL else set()), TRAINVAL),
        "Annotations": Part(len(annotations), TRAINVAL),
        "ImageSets/Segmentation/train.txt": Part(len(finder.ids(split_path(root, "train"))), TRAIN),
        "ImageSets/Segmentation/val.txt": Part(len(finder.ids(split_path(root, "val"))), VAL),
        "SegmentationClass": Part(len(finder.files(root / "SegmentationClass", ".png")), TRAIN + VAL),
    }
    step = f"get VOCtrainval_11-May-2012 from the PASCAL VOC server and unpack its folder VOC2012 to {root}"
    return Section(f"{root}: VOCtrainval_11-May-2012, from the PASCAL VOC server", parts, step)


def augmented_masks(root: Path, finder: Finder) -> Section:
    folder, origin = root / AUG_FOLDER, "VOC's masks with those of the Semantic Boundaries Dataset"
    if problem := masks_elsewhere(root):
        finder.faults[problem] = None
    parts = {folder.name: Part(len(finder.files(folder, ".png")), TRAIN_AUG + VAL)}
    return Section(f"{root}: {origin}", parts, f"get SegmentationClassAug, {origin}, and put it beside JPEGImages")


def saliency_maps(root: Path, saliency: Path, finder: Finder) -> Section:
    wanted = finder.files(root / "SegmentationClassAug", ".png") - finder.ids(split_path(root, "val"))
    parts = {"<id>.png": Part(count(finder.files(saliency, ".png"), among=wanted), TRAIN_AUG)}
    step = f"get saliency maps as EPS uses them, one <id>.png an image, and put them into {saliency}"
    return Section(f"{saliency}: saliency maps as EPS uses them", parts, step)


def labels_and_lists(root: Path, saliency: Path, out: Path, finder: Finder) -> Section:
    wanted = finder.files(root / "SegmentationClassAug", ".png")
    images = finder.files(root / "JPEGImages", ".jpg")
    parts = {"cls_labels.npy": Part(count(finder.labelled(out / "cls_labels.npy"), among=wanted), TRAIN_AUG + VAL)}
    for name, expected in (("train", TRAIN), ("val", VAL), ("train_aug", TRAIN_AUG)):
        parts[f"{name}.txt"] = Part(count(finder.ids(out / f"{name}.txt"), among=images), expected)
    flags = {"--voc12_root": root, "--saliency_root": saliency, **({} if out == OUT else {"--out": out})}
    step = f"make labels and lists:\n{command('python -m voc12.prepare', flags)}"
    return Section(f"{out}: labels and lists, made by python -m voc12.prepare", parts, step)


def imagenet_weights() -> Section:
    parts = {WEIGHTS.name: Part(int(what_is_at(WEIGHTS) == FILE), 1)}
    step = f"get ResNet-38's ImageNet weights, {WEIGHTS.name}, and put them into {WEIGHTS.parent}"
    return Section(f"{WEIGHTS.parent}: ResNet-38's ImageNet weights", parts, step)


def test_set(root: Path, out: Path, finder: Finder) -> Section:
    ids = finder.ids(split_path(root, "test"))
    parts = {
        "ImageSets/Segmentation/test.txt": Part(len(ids), TEST),
        "JPEGImages of that list": Part(len(finder.files(root / "JPEGImages", ".jpg") & ids), TEST),
        f"{out.name}/test.txt": Part(len(finder.ids(out / "test.txt")), TEST),
    }
    return Section("for the VOC server only: VOC's test images and their list", parts, "", needed=False)


def command(start: str, flags: Mapping[str, Path]) -> str:
    """A command with its flags, on as many lines as it needs."""
    words = [start, *(f"{flag} {printable(shlex.quote(str(path)))}" for flag, path in flags.items())]
    line = "  " + " ".join(words)
    return line if len(line) <= WIDTH else "  " + " \\\n      ".join(words)


def training_step(root: Path, saliency: Path, out: Path) -> str:
    flags = {"--data_root": root / "JPEGImages", "--saliency_root": saliency}
    if out != OUT:
        flags |= {"--train_list": out / "train_aug.txt", "--labels": out / "cls_labels.npy"}
    return f"all that training needs is there; train:\n{command('python train_voc.py', flags)}"


def show_state(root: Path, saliency: Path, out: Path) -> bool:
    """Print a table of what is there and of what VOC 2012 has, and the next step; whether training has all it needs.

    Args:
        root: VOC2012. saliency: folder of saliency maps. out: folder of labels and lists. None has to be there.

    Opens lists and labels; of all else it looks at the names alone. Writes nothing.
    """
    finder = Finder()
    if problem := kit_elsewhere(root):
        finder.faults[problem] = None
    sections = [
        kit(root, finder),
        augmented_masks(root, finder),
        saliency_maps(root, saliency, finder),
        labels_and_lists(root, saliency, out, finder),
        imagenet_weights(),
        test_set(root, out, finder),
    ]
    print(f"{'':44} {'there':>9} {'expected':>9} {'missing':>9}")
    for section in sections:
        print(printable(section.title))
        for name, part in section.parts.items():
            missing = f"{part.missing:,}" if part.missing else "-"
            print(f"  {printable(name):42} {part.there:9,} {part.expected:9,} {missing:>9}")
    for fault in finder.faults:
        print(_wrapped(f"problem: {fault}"))
    steps = [f"repair what is named above as a problem: {fault}" for fault in finder.faults]
    steps += [section.step for section in sections if section.needed and not section.complete]
    text, *lines = (steps or [training_step(root, saliency, out)])[0].split("\n")
    print("\n" + "\n".join([_wrapped(f"next: {text}"), *lines]))
    return not steps


def _wrapped(text: str) -> str:
    return textwrap.fill(printable(text), WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
