"""Seeds that depend on named numbers alone, so that neither workers nor a resumption change what is drawn."""

import numpy as np
import torch


def mixed_seed(*numbers: int) -> int:
    """A 32-bit seed from `numbers` (none negative), mixed so that neighbours have nothing in common; zeros at their
    end do not count."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed dropout from these alone, so that a resumed run draws what an undisturbed one draws."""
    torch.manual_seed(mixed_seed(seed, step, rank))
