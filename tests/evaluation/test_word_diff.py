"""The words in which two captions differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.evaluation.word_diff import mark_differences
from cutline.report import Line, Mark

WORDS = ("a", "red", "Red", "dog", "dog.", "runs", "chó", "cho\u0301", "two-tone", "-", "狗跑", "ก่")
CAPTIONS = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)


def show(text: str, marks: list[Mark]) -> str:
    """Return the text with its marks in brackets."""
    _, runs = Line(text, marks=marks).to_json()
    return "".join(f"[{run}]" if kind else run for run, kind in runs)


def drop(text: str, marks: list[Mark]) -> str:
    """Return the text without what is marked, case, punctuation and spaces."""
    runs = Line(text, marks=marks).to_json()[1]
    rest = "".join(run for run, kind in runs if not kind).lower()
    return rest.replace("o\u0301", "ó").translate(dict.fromkeys(map(ord, " .-")))


@pytest.mark.parametrize(
    ("first", "second", "removed", "added"),
    [
        ("a red dog runs", "a dog runs fast", "a [red] dog runs", "a dog runs [fast]"),
        ("two cats", "a big dog", "[two cats]", "[a big dog]"),
        ("A dog, running.", "a dog running", "A dog, running.", "a dog running"),
        ("the dog's bone", "the cat's bone", "the [dog's] bone", "the [cat's] bone"),
        ("一只红狗", "一只蓝狗跑", "一只[红]狗", "一只[蓝]狗[跑]"),
        ("", "a dog", "", "[a dog]"),
    ],
)
def test_words_that_differ_are_marked(first: str, second: str, removed: str, added: str) -> None:
    marks = mark_differences(first, second)
    assert (show(first, marks[0]), show(second, marks[1])) == (removed, added)
    assert {mark[2] for mark in marks[0]} <= {"removed"}
    assert {mark[2] for mark in marks[1]} <= {"added"}


@given(CAPTIONS, CAPTIONS)
def test_what_is_not_marked_is_equal(first: str, second: str) -> None:
    removed, added = mark_differences(first, second)
    assert drop(first, removed) == drop(second, added)
    for text, marks in ((first, removed), (second, added)):
        positions = [position for start, end, _ in marks for position in (start, end)]
        assert positions == sorted(positions)
        assert all(text[start:end].strip() for start, end, _ in marks)


@given(st.text(max_size=30))
def test_a_caption_does_not_differ_from_itself(text: str) -> None:
    assert mark_differences(text, text) == ([], [])
