"""Matching captions to images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.data import Sample
from cutline.data.coco import UnnamedImage
from cutline.evaluation.caption_file import CaptionRow
from cutline.evaluation.matching import list_unpaired, match_captions, merge_references


def make_samples(*pairs: tuple[str, str]) -> list[Sample]:
    return [Sample(image, ("a dog",), id) for image, id in pairs]


@pytest.mark.parametrize(
    ("row", "index"),
    [
        (CaptionRow("/data/b/2.jpg", "x"), 2),  # the same path
        (CaptionRow("/data/a/../b/2.jpg", "x"), 2),
        (CaptionRow("/elsewhere/1.jpg", "x"), 0),  # the same file name
        (CaptionRow("C:\\photos\\1.jpg", "x"), 0),
        (CaptionRow("/elsewhere/9.jpg", "x", "43"), 2),  # the same id
        (CaptionRow("41", "x"), 0),
        (CaptionRow("/elsewhere/2.jpg", "x", "43"), 2),  # of two with that name, the one of the id
        (CaptionRow("/elsewhere/2.jpg", "x"), None),
        (CaptionRow("/elsewhere/9.jpg", "x"), None),
        (CaptionRow("", "x", "42"), 1),  # COCO results have ids only
        (CaptionRow("", "x", "44"), None),
    ],
)
def test_caption_is_matched_to_its_image(row: CaptionRow, index: int | None) -> None:
    samples = make_samples(
        ("/data/a/1.jpg", "41"), ("/data/a/2.jpg", "42"), ("/data/b/2.jpg", "43")
    )
    captions, left_out = match_captions([row], samples, "a.jsonl")
    assert captions == ({} if index is None else {index: "x"})
    assert len(left_out) == (index is None)


def test_rows_that_match_no_image_or_several_are_listed() -> None:
    samples = make_samples(("/data/a/2.jpg", "1"), ("/data/b/2.jpg", "2"))
    rows = [
        CaptionRow("9.jpg", "x"),
        CaptionRow("2.jpg", "y"),
        CaptionRow("/data/a/2.jpg", "first"),
        CaptionRow("/data/a/2.jpg", "second"),
    ]
    captions, left_out = match_captions(rows, samples, "a.jsonl")
    assert captions == {0: "first"}
    assert left_out == [
        "a.jsonl: 9.jpg has no references",
        "a.jsonl: 2.jpg matches 2 images by file name or id; give its full path",
        "a.jsonl: /data/a/2.jpg has more than one caption; the first is taken",
    ]


@given(st.permutations(range(4)))
def test_image_named_by_path_is_not_matched_by_file_name(order: list[int]) -> None:
    samples = make_samples(("/data/1.jpg", "1"), ("/data/2.jpg", "2"), ("/data/3.jpg", "3"))
    rows = [
        CaptionRow("/other/1.jpg", "wrong"),
        CaptionRow("/data/1.jpg", "right"),
        CaptionRow("/x/2.jpg", "a"),
        CaptionRow("/y/2.jpg", "b"),
    ]
    captions, left_out = match_captions([rows[index] for index in order], samples, "a")
    assert captions == {0: "right"}
    ambiguous = "is one of 2 images that match /data/2.jpg by file name or id; give its full path"
    assert sorted(left_out) == [
        "a: /other/1.jpg has no references; the image with its file name or id, /data/1.jpg, has "
        "its own caption",
        f"a: /x/2.jpg {ambiguous}",
        f"a: /y/2.jpg {ambiguous}",
    ]


def test_second_caption_of_an_image_is_listed() -> None:
    rows = [CaptionRow("1.jpg", "first"), CaptionRow("1.jpg", "second")]
    captions, left_out = match_captions(rows, make_samples(("/data/1.jpg", "1")), "a")
    assert captions == {0: "first"}
    assert left_out == ["a: 1.jpg has more than one caption; the first is taken"]


@given(st.permutations(range(5)))
def test_order_does_not_matter(order: list[int]) -> None:
    samples = make_samples(*((f"/data/{index}.jpg", str(index)) for index in range(5)))
    rows = [CaptionRow(f"/data/{index}.jpg", str(index)) for index in order]
    expected = {index: str(index) for index in range(5)}
    assert match_captions(rows, samples, "a") == (expected, [])


def test_references_of_an_image_with_several_prompts_are_joined() -> None:
    samples = [
        Sample("a.jpg", ("one",), "1", "the left "),
        Sample("a.jpg", ("two",), "1", "the right "),
        Sample(b"x", ("three",), "2"),
    ]
    assert [sample.captions for sample in merge_references(samples)] == [("one", "two"), ("three",)]


def test_image_given_as_bytes_is_matched_by_id() -> None:
    samples = [Sample("a.jpg", ("one",), "1"), Sample(b"x", ("two",), "2")]
    assert match_captions([CaptionRow("2", "x")], samples, "a").captions == {1: "x"}


def test_images_in_one_file_only_are_listed() -> None:
    samples = make_samples(("1.jpg", "1"), ("2.jpg", "2"), ("3.jpg", "3"))
    captions = {0: "a", 1: "b"}, {1: "c", 2: "d"}
    assert list_unpaired(samples, captions, ("a.csv", "b.csv")) == [
        "b.csv: no caption for 1.jpg",
        "a.csv: no caption for 3.jpg",
    ]


@pytest.mark.parametrize(
    "row",
    [
        CaptionRow("", "x", "42"),
        CaptionRow("42", "x"),
        CaptionRow("/elsewhere/COCO_val2014_000000000042.jpg", "x"),
        CaptionRow("000000000042.png", "x", "000000000042.png"),
    ],
)
@pytest.mark.parametrize(
    "sample",
    [
        Sample(UnnamedImage("42"), ("a dog",), "42"),
        Sample("val2014/COCO_val2014_000000000042.jpg", ("a dog",), "42"),
        Sample("val2014/COCO_val2014_000000000042.jpg", ("a dog",), "coco_42"),
        Sample("000000000042.jpg", ("a dog",), "000000000042.jpg"),
        Sample(b"", ("a dog",), "42"),
    ],
)
def test_coco_number_of_an_image_is_its_id(row: CaptionRow, sample: Sample) -> None:
    others = make_samples(("000000000043.jpg", "43"), ("000000000420.jpg", "420"))
    if row.image == "42" and sample.id != "42":
        pytest.skip("42 is not known to be an id")
    assert match_captions([row], [*others, sample], "a") == ({2: "x"}, [])


def test_number_in_the_file_name_of_a_row_precedes_its_id() -> None:
    """Which in some files numbers the rows."""
    samples = [Sample(UnnamedImage(str(n)), ("a dog",), str(n)) for n in range(1, 5)]
    rows = [CaptionRow(f"COCO_val2014_{n:012}.jpg", f"dog {n}", str(n - 1)) for n in range(1, 5)]
    captions, left_out = match_captions(rows, samples, "a.jsonl")
    assert (captions, left_out) == ({n - 1: f"dog {n}" for n in range(1, 5)}, [])


def test_id_precedes_the_number_in_a_file_name() -> None:
    samples = make_samples(("000000000042.jpg", "7"), ("000000000007.jpg", "42"))
    assert match_captions([CaptionRow("", "x", "42")], samples, "a").captions == {1: "x"}


def test_results_that_match_no_image_or_several_are_listed() -> None:
    samples = make_samples(("a.jpg", "1"), ("b.jpg", "2"), ("c.jpg", "2"))
    rows = [CaptionRow("", "x", id) for id in ("1", "9", "1", "2")]
    captions, left_out = match_captions(rows, samples, "a.json")
    assert captions == {0: "x"}
    assert left_out == [
        "a.json: image 9 has no references",
        "a.json: image 1 has more than one caption; the first is taken",
        "a.json: image 2 matches 2 images by file name or id; give its full path",
    ]


def test_image_that_rows_match_by_path_and_by_id_has_the_caption_of_the_path() -> None:
    rows = [CaptionRow("", "by id", "1"), CaptionRow("/data/1.jpg", "by path")]
    captions, left_out = match_captions(rows, make_samples(("/data/1.jpg", "1")), "a")
    assert captions == {0: "by path"}
    assert len(left_out) == 1


def test_references_known_by_id_are_merged_by_id() -> None:
    samples = [Sample(UnnamedImage("1"), ("one",), "1"), Sample(UnnamedImage("2"), ("two",), "2")]
    assert merge_references(samples) == samples
