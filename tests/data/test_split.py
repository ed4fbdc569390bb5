"""Splits: by image, by group, by block."""

import logging
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.config import DataConfig
from cutline.data import Sample, split_samples
from cutline.errors import DataError

ids = st.lists(st.text(max_size=5), unique=True, max_size=40)
fractions = st.floats(0, 0.999)


def split(samples: list[Sample], fraction: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    return split_samples(samples, DataConfig(val_fraction=fraction), seed)


def make_samples(ids: list[str]) -> list[Sample]:
    return [Sample(f"{id}.jpg", (), id) for id in ids]


@given(ids, fractions, st.integers())
def test_splitting_keeps_all_samples_and_their_order(
    ids: list[str], fraction: float, seed: int
) -> None:
    samples = make_samples(ids)
    train, held_out = split(samples, fraction, seed)
    assert sorted(train + held_out, key=samples.index) == samples
    assert train == sorted(train, key=samples.index)
    assert held_out == sorted(held_out, key=samples.index)
    if fraction == 0 or len(samples) < 2:
        assert train == samples
    else:
        assert train
        assert held_out
        assert abs(len(held_out) - fraction * len(samples)) <= 1


@given(ids, fractions, st.integers(), st.randoms())
def test_the_split_does_not_depend_on_the_order_of_samples(
    ids: list[str], fraction: float, seed: int, shuffler: random.Random
) -> None:
    _, held_out = split(make_samples(ids), fraction, seed)
    shuffled = list(ids)
    shuffler.shuffle(shuffled)
    _, again = split(make_samples(shuffled), fraction, seed)
    assert {sample.id for sample in again} == {sample.id for sample in held_out}


def test_the_split_depends_on_the_seed_alone() -> None:
    samples = make_samples([str(n) for n in range(100)])
    held_out = [tuple(s.id for s in split(samples, 0.05, seed)[1]) for seed in range(20)]
    assert len(set(held_out)) == 20
    # Fixed, because a resumed run must hold out the same images as before.
    assert held_out[0] == ("15", "44", "46", "87", "99")


@given(ids, fractions, st.integers())
def test_samples_of_the_same_image_stay_together(
    ids: list[str], fraction: float, seed: int
) -> None:
    samples = make_samples(ids) + [Sample(f"{id}.jpg", (), id, "a photo of ") for id in ids]
    train, held_out = split(samples, fraction, seed)
    assert not {s.id for s in train} & {s.id for s in held_out}


def test_ids_that_are_not_utf8_can_be_split() -> None:
    assert len(split(make_samples(["caf\udce9", "x"]), 0.5, 0)[1]) == 1


# the group of each image; "" is no group
grouped = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=2, max_size=40)


def make_grouped(groups: list[str]) -> list[Sample]:
    return [Sample(f"x/{i}.jpg", (), str(i), group=group) for i, group in enumerate(groups)]


def count_units(groups: list[str]) -> int:
    return len(set(groups) - {""}) + groups.count("")


@given(grouped, st.floats(0.01, 0.99), st.integers(), st.randoms())
def test_no_group_is_on_both_sides(
    groups: list[str], fraction: float, seed: int, shuffler: random.Random
) -> None:
    samples = make_grouped(groups)
    data = DataConfig(val_fraction=fraction, group_column="scene")
    if not any(groups) or count_units(groups) == 1:
        with pytest.raises(DataError):
            split_samples(samples, data, seed)
        return
    train, held_out = split_samples(samples, data, seed)
    assert train
    assert held_out
    assert not ({s.group for s in train} & {s.group for s in held_out}) - {""}
    largest = max(groups.count(group) for group in groups if group)
    assert abs(len(held_out) - fraction * len(samples)) <= largest + 1
    shuffler.shuffle(samples)
    assert {s.id for s in split_samples(samples, data, seed)[1]} == {s.id for s in held_out}


@given(grouped, st.floats(0.01, 0.99), st.randoms())
def test_blocks_are_the_last_images_of_each_group(
    groups: list[str], fraction: float, shuffler: random.Random
) -> None:
    samples = make_grouped(groups)
    data = DataConfig(val_fraction=fraction, val_selection="blocks")
    train, held_out = split_samples(samples, data, 0)
    assert train
    assert held_out
    assert abs(len(held_out) - fraction * len(samples)) <= 1
    for group in set(groups):
        numbers = [[int(s.id) for s in side if s.group == group] for side in (train, held_out)]
        assert max(numbers[0], default=-1) < min(numbers[1], default=len(groups))
        assert abs(len(numbers[1]) - fraction * groups.count(group)) < 2
    shuffler.shuffle(samples)
    assert {s.id for s in split_samples(samples, data, 0)[1]} == {s.id for s in held_out}


NAMES = [f"/data/ucm/{folder}/img_{n}.jpg" for folder in ("03", "12") for n in range(8, 12)]


def hold_out(names: list[str], **settings: object) -> list[str]:
    samples = [Sample(name, (), str(number)) for number, name in enumerate(names)]
    data = DataConfig("train.jsonl", **{"val_fraction": 0.25, **settings})  # type: ignore[arg-type]
    return [str(sample.image) for sample in split_samples(samples, data, 0)[1]]


def test_without_groups_the_last_images_of_all_are_one_block() -> None:
    assert hold_out(NAMES, val_selection="blocks") == NAMES[-2:]


def test_blocks_of_each_group_of_a_pattern() -> None:
    held_out = hold_out(NAMES, val_selection="blocks", group_pattern=r"^(\d+)/")
    assert held_out == [NAMES[3], NAMES[7]]


@pytest.mark.parametrize(
    ("pattern", "smallest_group"),
    [(r"img_(\d)", 2), (r"img_\d+", 2), (r"^(\d+)/", 4), (r"(\d+)/img_(\d)", 1)],
)
def test_a_group_is_the_capture_groups_or_the_match(pattern: str, smallest_group: int) -> None:
    assert len(hold_out(NAMES, group_pattern=pattern, val_fraction=0.01)) == smallest_group


def test_the_group_does_not_depend_on_the_folder_that_holds_the_data() -> None:
    moved = [name.replace("/data/ucm/", "/3/4/5/") for name in NAMES]
    names = hold_out(NAMES, group_pattern=r"\d+")
    assert [name.replace("/data/ucm/", "/3/4/5/") for name in names] == hold_out(
        moved, group_pattern=r"\d+"
    )


def test_images_that_match_no_group_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        hold_out([*NAMES, "/data/ucm/x.jpg"], group_pattern=r"^(\d+)/")
    assert "1 of 9 images are in no group" in caplog.text


def test_images_without_a_path_are_matched_by_their_id() -> None:
    samples = [Sample(b"", (), f"{shard}.tar/{key}") for shard in "ab" for key in range(4)]
    data = DataConfig(val_fraction=0.5, group_pattern=r"(\w)\.tar")
    assert len({sample.id[0] for sample in split_samples(samples, data, 0)[1]}) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_pattern": "scene"}, "matches no image, for example not 03/img_10.jpg"),
        ({"group_pattern": "img"}, "all images are in the group `img`"),
        ({"group_column": "scene"}, "the column `scene` is empty"),
    ],
)
def test_data_without_several_groups_is_an_error(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=f"^train.jsonl: .*{message}"):
        hold_out(NAMES, **settings)


def test_an_image_in_two_groups_is_an_error() -> None:
    samples = [Sample("a.jpg", (), "a", group=group) for group in ("x", "y")]
    samples.append(Sample("b.jpg", (), "b", group="z"))
    with pytest.raises(DataError, match="the image a is in two groups, `x` and `y`"):
        split_samples(samples, DataConfig(group_column="scene"), 0)
