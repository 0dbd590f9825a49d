"""The GPU's kernel, run by Triton's interpreter, against PyTorch's own sums: `TRITON_INTERPRET=1 python -m` this."""

import torch

from tool.crf.gather import Gather
from tool.crf.gather_kernel import gathered

SIZES = [0, 1, 5, 9, 0, 2, 3, 0]  # of the sums; the first and the last have nothing
CASES = ((1, torch.int64, True), (3, torch.int32, True), (3, torch.int32, False), (100, torch.int64, False))


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    for columns, index, is_weighted in CASES:
        sizes = torch.tensor(SIZES * 18)
        sources = torch.randint(0, 50, (int(sizes.sum()),), generator=generator).to(index)
        starts = (sizes.cumsum(0) - sizes).to(index)
        weights = torch.rand(len(sources), generator=generator) if is_weighted else None
        values = torch.randn(50, columns, generator=generator)
        found = gathered(sources, starts, weights, values)
        torch.testing.assert_close(found, Gather(sources, starts, weights)(values), rtol=1e-5, atol=1e-5)
        print(columns, index, is_weighted)


if __name__ == "__main__":
    main()
