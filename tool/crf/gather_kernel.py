"""`tool.crf.gather.Gather` on a GPU, as a kernel of Triton, which not every PyTorch has."""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Of a block: its rows times its columns.
BLOCK_ENTRIES = 512
MOST_COLUMNS = 64  # of a block; more are taken by several


@triton.jit(do_not_specialize=["num_entries", "num_rows", "num_columns"])
def _gather(
    sources,
    starts,
    weights,
    values,
    out,
    num_entries,
    num_rows,
    num_columns,
    IS_WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start = tl.load(starts + row, mask=row < num_rows, other=0)
    end = tl.load(starts + row + 1, mask=row + 1 < num_rows, other=num_entries)
    length = tl.where(row < num_rows, end - start, 0)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for place in range(tl.max(length, axis=0)):
        there = place < length
        source = tl.load(sources + start + place, mask=there, other=0).to(tl.int64)
        at = values + source[:, None] * num_columns + column[None, :]
        found = tl.load(at, mask=there[:, None] & (column < num_columns)[None, :], other=0.0)
        if IS_WEIGHTED:
            found *= tl.load(weights + start + place, mask=there, other=0.0)[:, None]
        total += found
    at = out + row.to(tl.int64)[:, None] * num_columns + column[None, :]
    tl.store(at, total, mask=(row < num_rows)[:, None] & (column < num_columns)[None, :])


def gathered(sources: Tensor, starts: Tensor, weights: Tensor | None, values: Tensor) -> Tensor:
    """out[i] = the sum of weights[k] x values[sources[k]] over k from starts[i] to the next start.

    sources, starts: int32 or int64. weights: float32, as many as sources, or None. values: float32 (Q, C), contiguous.
    """
    out = values.new_empty(len(starts), values.shape[1])
    columns = min(triton.next_power_of_2(values.shape[1]), MOST_COLUMNS)
    rows = BLOCK_ENTRIES // columns
    grid = (triton.cdiv(len(starts), rows), triton.cdiv(values.shape[1], columns))
    with torch.cuda.device_of(values):  # Triton starts its kernels on the thread's own GPU
        _gather[grid](
            sources,
            starts,
            values if weights is None else weights,
            values,
            out,
            len(sources),
            *out.shape,
            IS_WEIGHTED=weights is not None,
            ROWS=rows,
            COLUMNS=columns,
        )
    return out
