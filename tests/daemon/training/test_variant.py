"""Is the Mentor cached where that takes less, and fused where there is no room?"""

from dataclasses import replace

import pytest

from mmd.errors import TrainingFailed
from mmd.training.variant import Costs, choose_variant

MIB = 2**20
SLOW_MENTOR = Costs(
    asking_seconds=0.02,
    reading_seconds=0.00002,
    unasked=1000,
    drawn=20_000,
    cache_bytes=10 * MIB,
    room_bytes=256 * MIB,
    fused_bytes=100 * MIB,
    memory_bytes=1024 * MIB,
)


def test_a_mentor_that_is_slower_than_the_disk_is_asked_once() -> None:
    variant, reason = choose_variant(SLOW_MENTOR)
    assert variant == "cached"
    assert "10.0 MiB" in reason
    assert "20.4 s against 400.0 s" in reason


def test_without_room_the_mentor_runs_in_every_step() -> None:
    variant, reason = choose_variant(replace(SLOW_MENTOR, room_bytes=5 * MIB))
    assert variant == "fused"
    assert "training.cache_mib allows 5" in reason


def test_a_mentor_that_is_quicker_than_the_disk_runs_in_every_step() -> None:
    quick = replace(SLOW_MENTOR, asking_seconds=0.00001)
    assert choose_variant(quick)[0] == "fused"
    assert choose_variant(replace(quick, memory_bytes=50 * MIB))[0] == "cached", "there is no memory for that"


def test_a_round_that_sees_no_row_twice_gains_nothing_from_keeping_it() -> None:
    assert choose_variant(replace(SLOW_MENTOR, unasked=20_000))[0] == "fused"
    assert choose_variant(replace(SLOW_MENTOR, unasked=0))[0] == "cached", "an earlier round has asked"


def test_with_neither_room_nor_memory_it_says_what_to_raise() -> None:
    with pytest.raises(TrainingFailed, match=r"training\.cache_mib allows 5.*100 MiB of memory"):
        choose_variant(replace(SLOW_MENTOR, room_bytes=5 * MIB, memory_bytes=50 * MIB))
