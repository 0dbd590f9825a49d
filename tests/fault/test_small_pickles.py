"""A small pickle that would take much memory takes none, and ends in a short message."""

import codecs
import pickle
import tracemalloc

import numpy as np
import pytest

from tests.fault.conftest import COUNTS
from tests.fault.test_hostile import Call
from tests.tool.test_pickled import NUMBERS, Tensor, write_pickle
from tool.artifact import load_cam
from tool.cli import UserError
from voc12.classes import VOC12


class Array:
    """Pickled as an array's parts are."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return np.ndarray, ((0,),), (1, *self.parts)


def unfolding(kind, value):
    """A value in containers of itself, of 3,200,000 values for who follows them all."""
    for _ in range(5):
        value = kind([value] * 20)
    return value


F4, SHARED, BUFFER, TEXT = np.dtype("f4"), unfolding(list, "ha"), bytes(100_000), "a" * 100_000
PICKLES = {
    "a dtype": Array((1,), Call(np.dtype, SHARED), False, b""),
    "an encoding": Array((1,), F4, False, Call(codecs.encode, "a", SHARED)),
    "a shape": Array((SHARED,), F4, False, b""),
    "a list in a shape": Array((10**7, [0]), F4, False, b""),
    "strides": Tensor(NUMBERS, 0, (1,), (SHARED,)),
    "an empty tensor": Tensor(NUMBERS, 0, (0, 10**7), (1, 1)),
    "one buffer of many arrays": [Array((25_000,), F4, False, BUFFER) for _ in range(200)],
    "one buffer of many strings": [Call(codecs.encode, TEXT, "latin1") for _ in range(200)],
    "a key": {unfolding(tuple, "ha"): 1},
    "IRN's keys": {"keys": SHARED, "high_res": np.zeros((1, 2, 3), np.float32)},
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_small_pickle_takes_no_memory_of_a_large_one(tmp_path, name):
    value = PICKLES[name]
    payload = np.array(value if isinstance(value, dict) else {1: value}, dtype=object)
    write_pickle(tmp_path / "a.npy", pickle.dumps(payload, protocol=4))
    COUNTS["payloads tried"] += 1
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.npy: ") as refused:
        load_cam(tmp_path / "a.npy", VOC12)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22 and len(str(refused.value)) < 4000
