"""DHR's labels of a batch, all images together, against one image after the other, plainly; and with CRF processes.

    python -m benchmark.rebalance
    python -m benchmark.rebalance --device cuda --batch_size 16

Images are generated, features and the net's maps random, crops as training has them. Labels are equal, or the command
fails. All but the CRFs is timed by itself, too: on a CPU these take nearly all of the time, either way.
"""

import argparse

from tool.cli import positive, run_script
from tool.flags import CRF_BACKENDS
from tool.torchrun import own_cores


def main() -> None:
    parser = argparse.ArgumentParser(description="Time DHR's labels of a batch against the plain way.")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    parser.add_argument("--batch_size", type=positive, default=4, help="images (default %(default)s)")
    parser.add_argument("--crop_size", type=positive, default=512, help="pixels (default %(default)s)")
    parser.add_argument("--crf_backend", choices=CRF_BACKENDS, default="auto", help="of ours (default %(default)s)")
    parser.add_argument("--processes", type=positive, default=own_cores(), help="of CRFs (its cores: %(default)s)")
    args = parser.parse_args()
    # Not at the top: they import torch, which takes seconds.
    import torch

    from benchmark.rebalance_times import label_times
    from tool.crf import resolve_backend
    from tool.device import resolve_device

    torch.set_num_threads(1)
    device = resolve_device(args.device)
    backend = resolve_backend(args.crf_backend, device)
    label_times(args.batch_size, args.crop_size, device, backend=backend, processes=args.processes)


if __name__ == "__main__":
    run_script(main)
