"""Duplicates, and images shared by two datasets."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from photos import encode, kinds_and_names, make_copies, make_photo
from PIL import Image

from cutline.check import check_data, summarize
from cutline.cli.main import run_command
from cutline.data import Sample, open_data


def test_images_with_equal_pixels_are_duplicates_in_any_file_format(clean: list[Sample]) -> None:
    copies = [
        Sample(encode(make_photo(5), "BMP"), ("a thing",), "a"),
        Sample(encode(make_photo(5), "PNG"), ("a thing",), "b"),
    ]
    result = check_data([*clean, *copies])
    assert [row.kind for row in result.findings] == ["duplicate", "duplicate"]
    assert sum(map(len, result.duplicates)) == 3
    assert result.near_duplicates == []


@pytest.mark.parametrize("name", ["quality 60", "half size", "webp"])
def test_copies_in_lower_quality_are_near_duplicates(clean: list[Sample], name: str) -> None:
    result = check_data([*clean, Sample(make_copies(make_photo(6))[name], ("a thing",), "z")])
    assert [row.kind for row in result.findings] == ["near_duplicate"]
    assert {sample.id for sample in result.near_duplicates[0]} == {"6", "z"}


def test_an_image_in_both_datasets_is_a_leak(clean: list[Sample]) -> None:
    val = [
        replace(clean[1], id="same file"),
        Sample(encode(make_photo(2), "BMP"), (), "same pixels"),
        Sample(make_copies(make_photo(3))["quality 60"], (), "copy"),
        Sample(encode(make_photo(77)), (), "different"),
        Sample("/gone.png", (), "missing"),
    ]
    result = check_data(clean, against=val)
    assert kinds_and_names(result) == [
        ("leak", "1.png"),
        ("leak", "2.png"),
        ("near_leak", "3.png"),
    ]
    assert result.has_errors
    assert (result.num_other_images, result.num_other_readable) == (5, 4)
    assert "against     4 of 5 images readable\n" in summarize(result)
    assert not check_data(clean[3:], against=val[2:]).has_errors


def test_another_dataset_without_a_readable_image_is_an_error(
    clean: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = [Sample(f"/gone/{n}.png", (), str(n)) for n in range(3)]
    result = check_data(clean, against=missing)
    assert [row.kind for row in result.findings] == ["unreadable_other_set"]
    assert result.has_errors
    assert "against     0 of 3 images readable\n" in summarize(result)
    assert "/gone/0.png" in result.findings[0].detail
    readable = Sample(encode(make_photo(77)), (), "x")
    assert not check_data(clean, against=[*missing, readable]).has_errors
    for sample in clean:
        Path(str(sample.image)).with_suffix(".txt").write_text("a thing\n")
    (tmp_path / "val.jsonl").write_text('{"file_name": "gone.png"}')
    assert run_command(["check", str(tmp_path), "--against", str(tmp_path / "val.jsonl")]) == 3
    assert "1 other dataset has no readable image" in capsys.readouterr().out


@pytest.mark.parametrize("head", ["photo,words", "image,words", "photo,title", "file_name,caption"])
def test_the_other_dataset_may_have_the_default_column_names(
    clean: list[Sample], tmp_path: Path, head: str
) -> None:
    (tmp_path / "data.csv").write_text("photo,title\n0.png,a thing\n1.png,a thing\n")
    (tmp_path / "val.csv").write_text(f"{head}\n7.png,a thing\n")
    columns = ["--image-column", "photo", "--caption-column", "title"]
    against = ["--against", str(tmp_path / "val.csv")]
    assert run_command(["check", str(tmp_path / "data.csv"), *columns, *against]) == 0


def test_an_image_with_several_prompts_is_one_image(clean: list[Sample]) -> None:
    result = check_data([*clean, replace(clean[0], prompt="the left ", captions=("half",))])
    assert result.findings == []
    assert len(result.samples) == 8


def test_findings_do_not_depend_on_the_order_of_the_data(clean: list[Sample]) -> None:
    data = [
        *clean,
        Sample(encode(make_photo(5), "PNG"), (), "e"),
        Sample(make_copies(make_photo(5))["half size"], ("x" * 9,), "n"),
        Sample("/gone.png", ("a thing",), "g"),
        Sample(make_copies(make_photo(1))["quality 60"], ("...",), "m"),
    ]
    first = check_data(data, against=clean[6:])
    random.Random(1).shuffle(data)
    second = check_data(data, against=clean[7:5:-1])
    assert len({row.kind for row in first.findings}) == 6
    assert set(first.findings) == set(second.findings)
    assert ids_of(first.near_duplicates) == ids_of(second.near_duplicates)


def ids_of(groups: Sequence[Sequence[Sample]]) -> set[frozenset[str]]:
    return {frozenset(sample.id for sample in group) for group in groups}


def test_only_copies_of_photographs_are_near_duplicates(shared: Path) -> None:
    """Of 300 photographs, no two look alike; of 90 copies, at most 2 are missed."""
    data = open_data(shared / "data" / "coco-mini" / "train.jsonl")
    assert len({sample.name for sample in data}) == 300
    copies = [
        Sample(copy, ("a thing",), f"{sample.id} {name}")
        for sample in data[:30]
        for name, copy in make_copies(Image.open(str(sample.image)).convert("RGB")).items()
    ]
    result = check_data([*data, *copies])
    assert result.duplicates == []
    assert sum(row.kind == "near_duplicate" for row in result.findings) >= 88
    for group in result.near_duplicates:
        assert len({str(sample.id).split()[0] for sample in group}) == 1
