"""Files of every kind that the scripts read, sound ones, and what can be wrong with them."""

import functools
import io
import json
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from coco14 import mini as coco_mini
from coco14.annotations import read_instances as read_coco
from coco14.masks import label_map as coco_label_map
from context.prepare import mat_numbers
from data.images import image_size, load_rgb
from data.labels import load_labels, save_labels
from network.mxnet_params import read_params
from network.weights import read_state_dict
from rebalance.feature_files import load_features, save_features
from superpixel.maps import load_superpixels, save_superpixels
from tests.network.mxnet_writer import params_of
from tool.artifact import load_cam, load_crf, load_label_map, load_label_scores, save_cam, save_crf, save_label_map
from tool.cli import raise_problems
from tool.instances import Instances, load_instances, save_instances
from tool.irn_cam import load_irn_cam, save_irn_cam
from tool.lists import read_ids
from tool.msa_cam import load_msa_cam, save_msa_cam
from tool.resume import find_checkpoint
from voc12.classes import VOC12

SHAPE = (9, 14)


def read_image(path: Path) -> np.ndarray:
    """An image as the scripts read it: the header first."""
    width, height = image_size(path)
    pixels = np.asarray(load_rgb(path))
    assert pixels.shape == (height, width, 3) and pixels.dtype == np.uint8
    return pixels


def read_state(path: Path) -> dict:
    """A run's last.ckpt, in a folder of its own."""
    found = find_checkpoint(path.parent, resume=True, settings={"--lr": 0.01}, name_flag="--session")
    return found.get("model", found)


def annotations() -> dict:
    """An image of COCO's with polygons and a crowd, as its JSON has it."""
    mask = np.zeros(SHAPE, bool)
    mask[2:7, 3:9] = True
    image = {"id": 7, "file_name": "a.jpg", "height": SHAPE[0], "width": SHAPE[1]}
    common = {"image_id": 7, "category_id": 3}
    outlined = {**common, "id": 1, "iscrowd": 0, "segmentation": coco_mini.polygons(mask)}
    crowd = {**common, "id": 2, "iscrowd": 1, "segmentation": coco_mini.run_lengths(mask)}
    return {"images": [image], "annotations": [outlined, crowd], "categories": [{"id": 3, "name": "car"}]}


def read_annotations(path: Path) -> dict[str, np.ndarray]:
    """The masks of COCO's annotations, of images of the size that the image file has."""
    images, problems = read_coco(path)
    raise_problems(f"{path}: annotations that cannot be used", problems)
    return {name: coco_label_map(image) for name, image in images.items() if image.shape == SHAPE}


class Kind(NamedTuple):
    """A kind of file: its name, how a sound one is written, how it is read, and whether it has check sums."""

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    summed: bool = False


def pixels() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize(SHAPE[::-1], Image.Resampling.BICUBIC))


def image_writer(image_format: str, **options: object) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(pixels()).save(path, format=image_format, **options)


def label_map() -> np.ndarray:
    return np.random.default_rng(1).choice([0, 3, 20, 255], SHAPE).astype(np.uint8)


def maps(*keys: int) -> dict[int, np.ndarray]:
    """Maps that sum to 1 at every pixel."""
    scores = np.random.default_rng(2).dirichlet(np.ones(len(keys)), SHAPE).astype(np.float32)
    return {key: np.ascontiguousarray(scores[..., number]) for number, key in enumerate(keys)}


def scores() -> np.ndarray:
    """Those of all labels, which most images have few of."""
    found = maps(0, 3, 15)
    return np.stack([found.get(label, np.zeros(SHAPE, np.float32)) for label in range(21)])


def labels() -> dict[str, np.ndarray]:
    return {f"2007_{number:06d}": np.eye(20, dtype=np.float32)[number % 20] for number in range(6)}


def plain_labels() -> dict[str, list[float]]:
    return {name: vector.tolist() for name, vector in labels().items()}


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(4, 3, generator=generator) for name in ("conv1a.weight", "fc8.weight", "bias")}


def save_state(path: Path, **options: object) -> None:
    torch.save(state(), path, **options)


def of_voc(load: Callable) -> Callable:
    """`load` of a file of VOC's."""
    return functools.partial(load, data_set=VOC12)


def instances() -> Instances:
    found = Instances.none(SHAPE)
    for score, label in ((0.75, 3), (0.5, 14)):
        found.add(score, label_map() == label, label)
    return found


def read_instances(path: Path) -> dict:
    return vars(load_instances(path, VOC12, shape=SHAPE))


def save_irns(path: Path) -> None:
    whole = {key: scores / 2 for key, scores in maps(2, 14).items()}
    save_irn_cam(path, {key: scores[::4, ::4] for key, scores in whole.items()}, whole, VOC12)


def save_msas(path: Path) -> None:
    save_msa_cam(path, {key: scores / 2 for key, scores in maps(2, 14).items()}, VOC12, shape=SHAPE)


def read_irns(path: Path) -> dict[str, np.ndarray]:
    return dict(zip(("keys", "cam", "high_res"), load_irn_cam(path, VOC12), strict=True))


KINDS = [
    Kind("image.jpg", image_writer("JPEG"), read_image),
    Kind("progressive.jpg", image_writer("JPEG", progressive=True), read_image),
    Kind("png.jpg", image_writer("PNG"), read_image),
    Kind("gif.jpg", image_writer("GIF"), read_image),
    Kind("bmp.jpg", image_writer("BMP"), read_image),
    Kind("webp.jpg", image_writer("WEBP", lossless=True), read_image),
    Kind("saliency.png", lambda path: Image.fromarray(pixels()[..., 0]).save(path), read_image),
    Kind("labels.png", lambda path: save_label_map(path, label_map(), VOC12), of_voc(load_label_map), summed=True),
    Kind("cam.npy", lambda path: save_cam(path, {k: m / 2 for k, m in maps(2, 14).items()}, VOC12), of_voc(load_cam)),
    Kind("irn_cam.npy", save_irns, read_irns),
    Kind("msa_cam.npy", save_msas, of_voc(load_msa_cam)),
    Kind("crf.npy", lambda path: save_crf(path, maps(0, 3, 15), VOC12), of_voc(load_crf)),
    Kind("scores.npy", lambda path: np.save(path, scores()), of_voc(load_label_scores)),
    Kind("instances.npy", lambda path: save_instances(path, instances()), read_instances),
    Kind(
        "superpixels.npy",
        lambda path: save_superpixels(path, np.arange(9 * 14).reshape(SHAPE)),
        lambda path: load_superpixels(path, SHAPE),
    ),
    Kind("features.pt", lambda path: save_features(path, torch.from_numpy(scores())), load_features),
    Kind("cls_labels.npy", lambda path: save_labels(path, labels()), of_voc(load_labels)),
    Kind("labels.npz", lambda path: np.savez(path, **labels()), of_voc(load_labels), summed=True),
    Kind("labels.pkl", lambda path: path.write_bytes(pickle.dumps(labels())), of_voc(load_labels)),
    Kind("labels.json", lambda path: path.write_text(json.dumps(plain_labels())), of_voc(load_labels)),
    Kind("coco.json", lambda path: path.write_text(json.dumps(annotations())), read_annotations),
    Kind("context.mat", lambda path: savemat(path, {"LabelMap": label_map().astype(np.uint16)}), mat_numbers),
    Kind(
        "packed.mat",
        lambda path: savemat(path, {"LabelMap": label_map() / 1}, do_compression=True),
        mat_numbers,
        summed=True,
    ),
    Kind("list.txt", lambda path: path.write_text("".join(f"{name}\n" for name in labels())), read_ids),
    Kind("weights.pth", save_state, lambda path: read_state_dict(path, "--weights")),
    Kind(
        "old.pth",
        lambda path: save_state(path, _use_new_zipfile_serialization=False),
        lambda path: read_state_dict(path, "--weights"),
    ),
    Kind(
        "last.ckpt",
        lambda path: torch.save({"model": state(), "step": 3, "settings": {"--lr": 0.01}}, path),
        read_state,
    ),
    Kind(
        "imagenet.params",
        lambda path: path.write_bytes(params_of({"arg:" + k: v.numpy() for k, v in state().items()})),
        read_params,
    ),
]


def same(one: Any, other: Any) -> bool:
    """Whether two things that were read are equal in every bit."""
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return np.array_equal(one, other)


def cuts(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The content cut off at every class of offsets: nothing, amid and after the header, amid the data, at the end."""
    size = len(content)
    heads = (
        0,
        1,
        2,
        3,
        4,
        7,
        8,
        9,
        15,
        16,
        23,
        24,
        32,
        33,
        40,
        57,
        64,
        80,
        127,
        128,
        129,
        160,
        200,
        256,
        511,
        512,
        620,
    )
    parts = (size // 4, size // 3, size // 2, size * 2 // 3, size * 3 // 4, size * 9 // 10)
    tails = (size - rest for rest in (1, 2, 3, 4, 5, 8, 11, 12, 13, 16, 21, 22, 23, 40, 64, 100))
    for offset in sorted({offset for offset in (*heads, *parts, *tails) if 0 <= offset < size}):
        yield f"cut at {offset}", content[:offset]


def strange(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What is in the file's place: nothing, zeros, another kind of file, too much."""
    png, zipped = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (3, 3)).save(png, "PNG")
    np.savez(zipped, a=np.zeros(3))
    yield "zeros", bytes(len(content))
    yield "zeros at the end", content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
    yield "zeros at the beginning", bytes(16) + content[16:]
    yield "a page", b"<html><body>404 Not Found</body></html>"
    yield "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n"
    yield "a zip archive", zipped.getvalue()
    yield "an image", png.getvalue()
    yield "the magic of another", b"\x93NUMPY\x01\x00\x89PNG\r\n\x1a\n" + content[16:]
    yield "turned round", content[::-1]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, dropped, repeated or put in."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        length = chance.choice([1, 1, 1, 2, 4, 8, 100])
        piece = chance.choice(
            [chance.randbytes(length), b"\xff" * length, bytes(length), bytes(changed[place:][:length])]
        )
        dropped = chance.choice([0, length, length, length])
        changed[place : place + dropped] = piece
    return bytes(changed)
