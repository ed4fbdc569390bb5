"""Which samples each new shard should contain: the same in every run."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.bulk.manifest import Manifest
from cutline.bulk.record import Record
from cutline.bulk.shard_plan import ShardPlan

records = st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=40)


def list_shards(manifest: Manifest, size: int) -> list[list[str]]:
    plan = ShardPlan(manifest, size)
    return [
        [manifest.read_record(position).id for _, position in plan.iter_shard(number)]
        for number in range(len(plan))
    ]


@given(parts=st.lists(records, max_size=4), size=st.integers(1, 4))
def test_samples_stay_in_their_shards(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[int, bool]]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    first: dict[str, None] = {}
    last: dict[str, bool] = {}
    for part in parts:
        with Manifest(folder) as manifest:
            for number in range(9):  # which has no effect
                manifest.claim(str(8 - number), "")
            for number, failed in part:
                id = str(number)
                manifest.add(Record(id, kind="image" if failed else ""))
                first |= {} if failed else {id: None}
                last[id] = failed
            manifest.commit()
            shards = list_shards(manifest, size)
            ids = list(first)
            assert shards == [
                [id for id in ids[start : start + size] if not last[id]]
                for start in range(0, len(ids), size)
            ]
        with Manifest(folder) as manifest:
            assert list_shards(manifest, size) == shards


def test_shards_with_samples_that_the_source_lacks_are_outdated(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        for number in range(10):
            manifest.add(Record(str(number)))
        manifest.commit()
    with Manifest(tmp_path) as manifest:
        for number in (0, 1, 2, 4, 6, 7, 8):
            manifest.claim(str(number), "")
        plan = ShardPlan(manifest, 3)
        assert plan.find_outdated() == [1, 3]
        assert [len([*plan.iter_shard(n, seen_only=True)]) for n in range(4)] == [3, 1, 3, 0]
        assert [plan.is_full(number) for number in range(4)] == [True, True, True, False]
