"""The GPU's label maps against the CPU's: the tensor CRF, and the seeds of a trained net through inference.py."""

import os

import torch

from benchmark.generated import Generated, generate, train_eps
from benchmark.generated import run as run_command
from benchmark.gpu_parts.record import Bench
from benchmark.infer import equal_share
from benchmark.photographs import photographs, scores
from method.hsc import pseudo
from rebalance.crf import posteriors
from tool.cli import cores
from tool.crf import crf_from_labels, crf_from_probability
from tool.lists import read_ids
from tool.seed_recipe import LABEL_KERNELS, MASK_KERNELS, SEED_KERNELS, CRFKernels
from voc12.classes import VOC12

ITERATIONS = 10


def run(bench: Bench) -> None:
    for labels, kernels in ((3, SEED_KERNELS), (VOC12.num_labels, MASK_KERNELS)):
        equal = crf_agreement(bench, labels, kernels)
        bench.check(f"CRF, {labels} labels", equal >= 0.999, {"labels equal, %": percent(equal)}, goal="99.9 %")
    equal = unequal_crf_agreement(bench)
    bench.check("CRF of images of many sizes", equal >= 0.999, {"labels equal, %": percent(equal)}, goal="99.9 %")
    equal = training_crf_agreement(bench)
    bench.check("CRF of pseudo labels", equal >= 0.999, {"labels equal, %": percent(equal)}, goal="99.9 %")
    seeds_agreement(bench)


def percent(share: float) -> float:
    return round(100 * share, 3)


def crf_agreement(bench: Bench, labels: int, kernels: CRFKernels) -> float:
    size = (48, 64) if bench.quick else (375, 500)
    image, probability = photographs(1, size)[0], scores(1, labels, size)[0]

    def refined(device: torch.device) -> torch.Tensor:
        pair = torch.from_numpy(image).to(device), torch.from_numpy(probability).to(device)
        return crf_from_probability(*pair, kernels=kernels, iterations=ITERATIONS, backend="torch").argmax(dim=0).cpu()

    return float((refined(bench.device) == refined(torch.device("cpu"))).float().mean())


def unequal_crf_agreement(bench: Bench) -> float:
    """DHR's CRF of a batch: images of all sizes, with 2 to 5 labels, at once."""
    sizes = [(24 + number, 40) if bench.quick else (300 + 14 * number, 512 - 9 * number) for number in range(8)]
    images = [torch.from_numpy(photographs(1, size)[0]) for size in sizes]
    maps = [torch.from_numpy(scores(1, 2 + number % 4, size)[0]) for number, size in enumerate(sizes)]

    def refined(device: torch.device) -> torch.Tensor:
        pictures, given = ([each.to(device) for each in some] for some in (images, maps))
        found = posteriors(pictures, given, backend="torch")
        return torch.cat([each.argmax(dim=0).flatten().cpu() for each in found])

    return float((refined(bench.device) == refined(torch.device("cpu"))).float().mean())


def training_crf_agreement(bench: Bench) -> float:
    """The CRF of two steps' 24 views, on a grid of 16 x 16: a GPU records the first and replays it for the second."""
    images = torch.from_numpy(photographs(48, (16, 16))).split(24)
    labels = torch.from_numpy(scores(48, 4, (16, 16))).argmax(dim=1).split(24)
    options = {"num_labels": VOC12.num_labels, "gt_prob": pseudo.LABEL_CONFIDENCE, "kernels": LABEL_KERNELS}
    options |= {"iterations": pseudo.ITERATIONS, "backend": "torch", "recorded": True}

    def refined(device: torch.device) -> torch.Tensor:
        steps = [
            crf_from_labels(image.to(device), label.to(device), **options)
            for image, label in zip(images, labels, strict=True)
        ]
        return torch.cat(steps).cpu()

    return float((refined(bench.device) == refined(torch.device("cpu"))).float().mean())


def train_narrow(bench: Bench, data: Generated, steps: int) -> list[object]:
    """Train eps at an eighth of the width on the device, by the command; the flags that inference takes its net by."""
    length = ["--batch_size", 8, "--max_iters", steps, "--iter_size", 1, "--max_epoches", steps]
    return train_eps(data, bench.folder, "--train_list", data.train_aug, *length, "--device", bench.device)


def seeds_agreement(bench: Bench) -> None:
    images, side, steps = (2, 64, 1) if bench.quick else (8, 384, 200)
    data = generate(bench.folder / "data", size=side, train=images, train_aug=8 if bench.quick else 48)
    net, ids = train_narrow(bench, data, steps), read_ids(data.train, "--train_list")
    ways = {"the CPU": ("cpu", "off", "0"), "float32": (bench.device, "off", "0")}
    if not bench.quick:
        ways |= {name: (bench.device, amp, "1") for name, amp in (("TF32", "off"), ("bf16", "bf16"))}
    for way, (device, amp, tf32) in ways.items():
        run_command(
            *["inference.py", *net, "--img_root", data.images, "--labels", data.labels, "--infer_list", data.train],
            *["--work_dir", bench.folder / way, "--device", device, "--amp", amp],
            *["--crf_workers", 1 if bench.quick else cores()],
            env={**os.environ, "NVIDIA_TF32_OVERRIDE": "0"} if tf32 == "0" else None,
        )
        if way == "the CPU":
            continue
        figures = {}
        for name, folder in (("seeds", "cam_png"), ("CRF seeds", "crf/crf_8_7")):
            equal = equal_share(ids, bench.folder / "the CPU" / folder, bench.folder / way / folder)
            figures[f"{name} equal, %"] = percent(equal)
        what = f"labels of {images} images, {way}"
        if way == "float32":
            bench.check(what, min(figures.values()) >= 99.5, figures, goal="99.5 %")
        else:
            bench.note(what, figures)
