"""`SlotIndex` behaves as a dictionary, and stays small."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cutline.bulk.index as index_module
from cutline.bulk.index import NO_POSITION, SlotIndex, hash_stamp


@given(st.lists(st.text(st.characters(), max_size=3), max_size=60), st.integers(1, 5))
def test_numbers_ids_in_the_order_of_their_first_occurrence(ids: list[str], limit: int) -> None:
    index, slots = SlotIndex(), dict[str, int]()
    old = index_module.MIN_NEW, index_module.NEW_SHARE
    index_module.MIN_NEW, index_module.NEW_SHARE = limit, 10**9  # so that keys are sorted often
    try:
        for id in ids:
            assert index.find(id) == slots.get(id)
            assert index.add(id) == slots.setdefault(id, len(slots))
        assert all(index.find(id) == slot for id, slot in slots.items())
        assert len(index) == len(slots)
    finally:
        index_module.MIN_NEW, index_module.NEW_SHARE = old


def test_orders_slots_by_their_positions_and_those_of_earlier_runs_after_them() -> None:
    index = SlotIndex()
    for id in "abcde":
        index.set_record(index.add(id), "", 1, 0, failed=False)
    index.add("never recorded")
    for id, position in (("d", 0), ("b", 1)):
        index.positions[index.add(id)] = position
    assert index.order(seen_only=True).tolist() == [3, 1]
    assert index.order(seen_only=False).tolist() == [3, 1, 0, 2, 4]


def test_keeps_the_last_record_of_an_id() -> None:
    index = SlotIndex()
    slot = index.add("a")
    assert index.positions[slot] == NO_POSITION
    index.set_record(slot, "1-2", 1, 0, failed=True)
    index.set_record(slot, "1-3", 2, 77, failed=False)
    assert (index.parts[slot], index.offsets[slot], index.failed[slot]) == (2, 77, 0)
    assert index.stamps[slot] == hash_stamp("1-3") != hash_stamp("1-2")


@pytest.mark.slow
def test_a_million_ids_need_less_than_100_mb() -> None:
    index = SlotIndex()
    tracemalloc.start()
    for number in range(200_000):
        index.add(f"folder/{number}.jpg")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak * 5 < 150e6
    assert index.find("folder/123456.jpg") == 123456
    assert index.find("folder/200000.jpg") is None
