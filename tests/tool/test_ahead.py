"""What is read ahead comes in order, a few items ahead and no more, and errors in their turn."""

import threading

import pytest

from tool.ahead import AHEAD, read_ahead


def test_values_come_in_the_order_of_their_items():
    assert list(read_ahead(range(40), lambda item: item * item)) == [(item, item * item) for item in range(40)]
    assert list(read_ahead([], str)) == []


def test_reading_goes_on_in_other_threads_while_a_value_is_in_use_but_not_far():
    lock, begun, others = threading.Lock(), [], set()

    def read(item):
        with lock:
            begun.append(item)
            others.add(threading.get_ident())
        return item

    values = read_ahead(range(100), read)
    next(values)
    for _ in range(1000):  # in which those ahead are read
        if len(begun) == AHEAD + 1:
            break
        threading.Event().wait(0.01)
    assert sorted(begun) == list(range(AHEAD + 1)) and threading.get_ident() not in others
    values.close()


def test_an_error_comes_in_its_items_turn():
    def read(item):
        if item == 3:
            raise ValueError("damaged")
        return item

    seen = []
    with pytest.raises(ValueError, match="damaged"):
        for item, _ in read_ahead(range(30), read):
            seen.append(item)
    assert seen == [0, 1, 2]
