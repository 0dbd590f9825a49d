"""Object localisation: test a trained transformer on CUB-200-2011's test images.

    python localise/test.py --cub_root CUB_200_2011 --weights exps/crt_cub/model_best_top1_loc.pth

It prints the scores as a table and writes to --out: scores.json, boxes.csv with what was found in each image, and
pictures.png with some images, their true and their found boxes. What is there is not tested again.
"""

import argparse
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that `python test.py` finds the packages from any folder
from data.cub import Cub, check_boxed_images, read_cub
from localise.arguments import (
    DATA_HASH,
    SIDE,
    add_net_flags,
    add_test_flags,
    check_test_flags,
    hash_of_data,
)
from tool.cli import check_bounds, pace, path_text, path_value, run_script, script_parser
from tool.file_hash import sha256_of
from tool.folder import Claim, check_claims
from tool.limits import check_loaders
from tool.torchrun import is_first, loader_processes
from tool.weights_file import require_weights

EXAMPLES = """\
  # the epoch that was best on the test set, and the last one
  python localise/test.py --cub_root CUB_200_2011 --weights exps/crt_cub/model_best_top1_loc.pth
  python localise/test.py --cub_root CUB_200_2011 --weights exps/crt_cub/model_epoch60.pth \\
      --out exps/crt_cub/test_last
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Test a trained transformer's boxes and classes.", examples=EXAMPLES)
    add_test_flags(parser, batch_flag="--batch_size")
    nets = add_net_flags(parser)
    nets.add_argument(
        "--weights", type=path_text, required=True, help="a file that train.py wrote, or a released model_*.pth"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=path_value, help="folder of what is written (test/ beside --weights)")
    output.add_argument("--pictures", type=int, default=24, help="images to show in pictures.png (%(default)s)")
    return parser.parse_args()


def claim_of(args: argparse.Namespace, out: Path, cub: Cub) -> Claim:
    settings = {name: getattr(args, name) for name in ("transformer", "cam_thr", "sane", "amp", "pictures")}
    settings |= {"weights_sha256": sha256_of(args.weights), DATA_HASH: hash_of_data(cub)}
    return Claim(out, "--out", settings)


def earlier_scores(claim: Claim) -> dict | None:
    """The scores of a test that came to its end in the folder of `claim`; None where there was none. Raises `UserError`
    where it was another."""
    scores = claim.folder / "scores.json"
    if not (scores.is_file() and (claim.folder / "boxes.csv").is_file() and claim.record.is_file()):
        return None
    check_claims([claim])
    with suppress(OSError, ValueError):  # damaged
        return json.loads(scores.read_text())
    return None


def main() -> None:
    args = parse_arguments()
    check_test_flags(args)
    check_bounds(args, {"pictures": (0, 10**4)})
    out = args.out or Path(args.weights).parent / "test"
    require_weights(args.weights, "--weights")
    cub = read_cub(args.cub_root)
    check_boxed_images(cub.test, args.cub_root)
    check_loaders(
        workers=loader_processes(args.num_workers),
        batch_bytes=4 * 3 * SIDE**2 * args.batch_size,
        num_batches=-(-len(cub.test) // args.batch_size),
        flag="--num_workers",
    )
    claim = claim_of(args, out, cub)
    earlier = earlier_scores(claim)
    # Not at the top: it imports torch, which takes seconds; a mistake in a flag or a file has been named by now.
    from localise.outputs import figures_of, table, write_results
    from localise.testing import test_run

    if earlier is not None:
        if is_first():
            print(f"tested before\n{table(earlier)}\n  {out}")
        return
    started = time.perf_counter()
    result = test_run(args, cub, claim)
    if result is not None:
        print(f"tested {len(cub.test)} images {pace(started, len(cub.test))}")
        write_results(out, result, cub, pictures=args.pictures)
        print(f"{table(figures_of(result))}\n  {out}")


if __name__ == "__main__":
    run_script(main)
