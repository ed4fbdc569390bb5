"""Duplicates and leaks."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checked import copies, encoded, kinds, photo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cutline.check import alike, check, summarize
from cutline.check.near_duplicates import difference_hash, group_near_duplicates
from cutline.cli.main import run_command
from cutline.data import Sample, open_data


def test_equal_pictures_are_duplicates_whatever_their_files(clean: list[Sample]) -> None:
    again = [
        Sample(encoded(photo(5), "BMP"), ("a thing",), "a"),
        Sample(encoded(photo(5), "PNG"), ("a thing",), "b"),
    ]
    found = check([*clean, *again])
    assert [row.kind for row in found.rows] == ["duplicate", "duplicate"]
    assert sum(map(len, found.duplicates)) == 3
    assert found.near_duplicates == []


@pytest.mark.parametrize("way", ["quality 60", "half", "webp"])
def test_copies_look_alike(clean: list[Sample], way: str) -> None:
    found = check([*clean, Sample(copies(photo(6))[way], ("a thing",), "z")])
    assert [row.kind for row in found.rows] == ["near_duplicate"]
    assert {sample.id for sample in found.near_duplicates[0]} == {"6", "z"}


def test_a_picture_in_both_sets_is_a_leak(clean: list[Sample]) -> None:
    val = [
        replace(clean[1], id="same file"),
        Sample(encoded(photo(2), "BMP"), (), "same pixels"),
        Sample(copies(photo(3))["quality 60"], (), "a copy"),
        Sample(encoded(photo(77)), (), "another"),
        Sample("/gone.png", (), "gone"),
    ]
    found = check(clean, against=val)
    assert kinds(found) == [("leak", "1.png"), ("leak", "2.png"), ("near_leak", "3.png")]
    assert found.harmful
    assert (found.num_against, found.num_others) == (4, 5)
    assert "against     4 of 5 readable\n" in summarize(found)
    assert not check(clean[3:], against=val[2:]).harmful


def test_other_data_without_a_readable_picture_are_told(
    clean: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [Sample(f"/gone/{n}.png", (), str(n)) for n in range(3)]
    found = check(clean, against=gone)
    assert [row.kind for row in found.rows] == ["blind"]
    assert found.harmful
    assert "against     0 of 3 readable\n" in summarize(found)
    assert "/gone/0.png" in found.rows[0].detail
    assert not check(clean, against=[*gone, Sample(encoded(photo(77)), (), "x")]).harmful
    for sample in clean:
        Path(str(sample.image)).with_suffix(".txt").write_text("a thing\n")
    (tmp_path / "val.jsonl").write_text('{"file_name": "gone.png"}')
    assert run_command(["check", str(tmp_path), "--against", str(tmp_path / "val.jsonl")]) == 3
    assert "1 other data set has no image that can be read" in capsys.readouterr().out


@pytest.mark.parametrize("head", ["photo,words", "image,words", "photo,title", "file_name,caption"])
def test_columns_of_the_other_data_may_be_as_usual(
    clean: list[Sample], tmp_path: Path, head: str
) -> None:
    (tmp_path / "data.csv").write_text("photo,title\n0.png,a thing\n1.png,a thing\n")
    (tmp_path / "val.csv").write_text(f"{head}\n7.png,a thing\n")
    words = [
        "check",
        str(tmp_path / "data.csv"),
        "--columns.image",
        "photo",
        "--columns.caption",
        "title",
    ]
    assert run_command([*words, "--against", str(tmp_path / "val.csv")]) == 0


def test_the_same_picture_under_several_prompts_is_one_picture(clean: list[Sample]) -> None:
    found = check([*clean, replace(clean[0], prompt="the left ", captions=("half",))])
    assert found.rows == []
    assert len(found.samples) == 8


def test_order_changes_nothing(clean: list[Sample]) -> None:
    data = [
        *clean,
        Sample(encoded(photo(5), "PNG"), (), "e"),
        Sample(copies(photo(5))["half"], ("x" * 9,), "n"),
    ]
    data += [
        Sample("/gone.png", ("a thing",), "g"),
        Sample(copies(photo(1))["quality 60"], ("...",), "m"),
    ]
    first = check(data, against=clean[6:])
    random.Random(1).shuffle(data)
    second = check(data, against=clean[7:5:-1])
    assert len({row.kind for row in first.rows}) == 6
    assert set(first.rows) == set(second.rows)
    assert {frozenset(one.id for one in group) for group in first.near_duplicates} == {
        frozenset(one.id for one in group) for group in second.near_duplicates
    }


def test_photographs_are_told_apart_and_their_copies_found(shared: Path) -> None:
    """300 photographs: no false alarm, and of the copies of thirty hardly one is missed."""
    data = open_data(shared / "data" / "coco-mini" / "train.jsonl")
    names = {str(sample.image) for sample in data}
    made = [
        Sample(copy, ("a thing",), f"{sample.id} {way}")
        for sample in data[:30]
        for way, copy in copies(Image.open(str(sample.image)).convert("RGB")).items()
    ]
    found = check([*data, *made])
    near = [row for row in found.rows if row.kind == "near_duplicate"]
    assert found.duplicates == []
    assert len(names) == 300
    assert len(near) >= 88
    assert all(
        len({str(one.id).split()[0] for one in group}) == 1 for group in found.near_duplicates
    )


thumbs = st.binary(min_size=216, max_size=216)


@given(st.lists(thumbs, max_size=12), st.randoms())
def test_groups_do_not_depend_on_order(some: list[bytes], rng: random.Random) -> None:
    some = some + [bytes(min(255, level + 3) for level in thumb) for thumb in some[::2]]
    shuffled = list(range(len(some)))
    rng.shuffle(shuffled)
    groups = {frozenset(group) for group in group_near_duplicates(some)}
    assert groups == {
        frozenset(shuffled[index] for index in group)
        for group in group_near_duplicates([some[index] for index in shuffled])
    }
    assert not some or groups


def test_groups_are_those_of_comparing_each_with_each() -> None:
    """Bands only save time: on thumbs with room between them the groups are those of all pairs."""
    rng = np.random.default_rng(3)
    bases = rng.integers(20, 236, (40, 216))
    some = (bases[rng.integers(0, 40, 200)] + rng.integers(-1, 2, (200, 216))).astype(np.uint8)
    close = (np.abs(some[:, None].astype(int) - some[None].astype(int)).max(axis=2) <= 16).astype(
        int
    )
    expected = {frozenset(np.flatnonzero(row).tolist()) for row in close if row.sum() > 1}
    assert {
        frozenset(group) for group in group_near_duplicates([thumb.tobytes() for thumb in some])
    } == expected


def test_pictures_on_a_white_ground_are_not_compared_each_with_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their hashes agree in the bands of the ground, so all are in one bucket; yet none of their copies is missed."""
    rng = np.random.default_rng(1)
    count = 3000
    some = np.full((count, 8, 27), 250, np.uint8)
    some[:, 2:6] = rng.integers(20, 230, (count, 4, 27))
    copied = np.clip(some[:200].astype(int) + rng.integers(-1, 2, (200, 8, 27)), 0, 255).astype(
        np.uint8
    )
    compared = []
    plain = alike._is_like
    monkeypatch.setattr(
        alike,
        "_is_like",
        lambda one, others, *rest: (compared.append(len(others)), plain(one, others, *rest))[1],
    )
    groups = group_near_duplicates([thumb.tobytes() for thumb in [*some, *copied]])
    assert {frozenset(group) for group in groups} == {
        frozenset((place, count + place)) for place in range(200)
    }
    assert sum(compared) < 0.1 * count**2 / 2


def test_many_pictures_that_are_alike_are_one_group() -> None:
    rng = np.random.default_rng(1)
    some = 100 + rng.integers(-1, 2, (1000, 216)).astype(np.uint8)
    assert [len(group) for group in group_near_duplicates([thumb.tobytes() for thumb in some])] == [
        1000
    ]


def test_the_difference_hash_has_a_bit_per_pair_of_neighbours() -> None:
    falling = np.repeat(
        np.arange(250, 0, -30, dtype=np.uint8)[:9], 3
    )  # each cell darker than its left neighbour
    row = np.tile(falling, 8)[None]
    assert difference_hash(row)[0] == np.uint64(2**64 - 1)
    assert difference_hash(255 - row)[0] == 0
    assert difference_hash(np.full((1, 216), 9, np.uint8))[0] == 0
