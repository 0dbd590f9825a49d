"""Checks of many files: each once, and by threads where the disk is slow."""

import time
from threading import get_ident

import pytest

from tool.checks import CHECKS_BETWEEN_LOOKS, run_checks


@pytest.mark.parametrize("wait", [0, 0.002])
def test_each_id_is_checked_once_and_found_in_its_place_by_threads_where_the_disk_makes_one_wait(wait):
    ids, seen = [str(number) for number in range(2 * CHECKS_BETWEEN_LOOKS + 9)], []

    def check(identifier):
        time.sleep(wait)
        seen.append((identifier, get_ident()))
        return [identifier] * (int(identifier) % 3)

    assert run_checks(check, ids, "nothing") == [one for one in ids for _ in range(int(one) % 3)]
    assert sorted(identifier for identifier, _ in seen) == sorted(ids)
    if wait:
        assert len({thread for _, thread in seen}) > 2
