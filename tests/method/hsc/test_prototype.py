"""The banks before the first step."""

import torch

from method.hsc.prototype import PrototypeBanks


def test_banks_start_standard_normal_each_view_with_its_own_rows():
    torch.manual_seed(0)
    banks = PrototypeBanks(21).state_dict()  # in a checkpoint, then
    assert {name: tuple(rows.shape) for name, rows in banks.items()} == {
        "class_bank": (2, 21, 256),
        "region_bank": (2, 2, 256),
        "pixel_bank": (2, 21, 128),
    }
    for rows in banks.values():
        assert abs(rows.mean()) < 0.1 and 0.9 < rows.std() < 1.1
        assert 0.6 < (rows.abs() < 1).float().mean() < 0.76  # 0.68; of uniform values 0.58
        assert not rows[0].eq(rows[1]).any()
