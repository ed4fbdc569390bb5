"""Captions: each fault is found, and nothing else is."""

from dataclasses import replace
from pathlib import Path

import pytest
from checked import encoded, kinds, photo
from hypothesis import given
from hypothesis import strategies as st

from cutline.check import Histogram, check, summarize
from cutline.data import Sample
from cutline.errors import ConfigError, DataError
from cutline.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("captions", "kind"),
    [
        ((), ["uncaptioned"]),
        (("...", "!"), ["uncaptioned", "empty_caption", "empty_caption"]),
        (("a thing", "(*)"), ["empty_caption"]),
        ((" ".join(["word"] * 31),), ["long_caption"]),
        ((" ".join(["word"] * 30),), []),
        (("A thing.", "a thing"), ["repeated_caption"]),
        (("un caf\ufffd noir",), ["broken_text"]),
        (("ein Fest 🎉👩‍🚀", "一只狗坐在草地上", "một con chó", "الكلب", "собака"), []),
    ],
)
def test_each_fault_of_a_caption_is_found_and_nothing_else(
    clean: list[Sample], captions: tuple[str, ...], kind: list[str]
) -> None:
    clean[4] = replace(clean[4], captions=captions)
    found = check(clean)
    assert kinds(found) == [(one, "4.png") for one in kind]
    assert found.harmful == ("uncaptioned" in kind)


def test_a_caption_of_many_pictures_is_found(clean: list[Sample]) -> None:
    many = [
        Sample(encoded(photo(100 + n, (40, 40)), "PNG"), ("An image.",), f"m{n}") for n in range(10)
    ]
    assert kinds(check([*clean, *many[:9]])) == []
    found = check([*clean, *many])
    assert kinds(found) == [("common_caption", "m0")]
    assert "10 images" in found.rows[0].detail


def test_tokens_are_counted_as_training_counts_them(clean: list[Sample]) -> None:
    tokenizer = Tokenizer.train(
        ["a photo of thing 0 1 2 3 4 5 6 7, seen again", "an image of"] * 3, 300
    )
    lengths = [
        len(tokenizer.encode(text, "a picture of ", 1000)[0])
        for sample in clean
        for text in sample.captions
    ]
    found = check(clean, tokenizer=tokenizer)
    assert found.tokens == Histogram.of(lengths)
    assert found.rows == []
    assert "tokens" in summarize(found)
    shorter = check(clean, tokenizer=tokenizer, max_tokens=max(lengths) - 1)
    assert {row.kind for row in shorter.rows} == {"cut_caption"}
    assert len(shorter.rows) == lengths.count(max(lengths))
    bare = check([replace(sample, prompt="") for sample in clean], tokenizer=tokenizer)
    assert bare.tokens == Histogram.of([length - 3 for length in lengths])


def test_unknown_words_and_characters_are_named(clean: list[Sample]) -> None:
    tokenizer = Tokenizer.train(
        ["a photo of thing 0 1 2 3 4 5 6 7, seen again", "an image of"] * 3, 300
    )
    clean[0] = replace(clean[0], captions=("a thing ёж", "again thing🎉 ёж"))
    found = check(clean, tokenizer=tokenizer)
    assert found.unknown_words == {"ёж": 2, "thing🎉": 1}
    assert found.unknown_characters == {"ё": 2, "ж": 2, "🎉": 1}
    assert [row.kind for row in found.rows] == ["unknown_word"] * 2
    assert not found.harmful
    assert "ё ж 🎉" in summarize(found)
    assert found.scripts["Cyrillic"] == 4
    assert found.scripts["symbols and emoji"] == 1


def test_unknown_words_are_words_in_every_script(clean: list[Sample]) -> None:
    tokenizer = Tokenizer.train(
        ["a photo of thing 0 1 2 3 4 5 6 7, seen again", "an image of"] * 3, 300
    )
    clean[0] = replace(clean[0], captions=("一只狗，坐着。", "狗狗", "ёж, thing, «ёж»", "สุนัข"))
    found = check(clean, tokenizer=tokenizer, clean="none")
    assert found.unknown_words == {
        **dict.fromkeys("一只坐着，。«»", 1), "狗": 3, "ёж": 2, "สุ": 1, "นั": 1, "ข": 1,
    }  # fmt: skip
    known = Tokenizer.train(["か わ い"] * 9, 100)
    clean = [replace(sample, captions=()) for sample in clean]
    clean[0] = replace(clean[0], captions=("かわい",))
    unknown = check(clean, tokenizer=known, clean="none").unknown_words
    assert set(unknown) <= set("かわい")


@given(
    st.lists(
        st.lists(st.text(st.characters(), min_size=1).filter(str.strip), max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_any_text_can_be_checked_and_said(texts: list[list[str]]) -> None:
    picture = encoded(photo(1), "BMP")
    samples = [
        Sample(picture + bytes(number), tuple(captions), str(number))
        for number, captions in enumerate(texts)
    ]
    found = check(samples, tokenizer=Tokenizer.train(["a thing"], 50))
    assert found.captions.sum == sum(map(len, texts))
    assert summarize(found).encode()


def test_spreads() -> None:
    spread = Histogram.of([3, 1, 3])
    assert (spread.low, spread.high, spread.sum, spread.total, list(spread.counts)) == (
        1,
        3,
        7,
        3,
        [1, 3],
    )
    assert spread.mean == pytest.approx(7 / 3)
    assert (Histogram.of([]).low, Histogram.of([]).mean) == (0, 0)


def test_what_cannot_be_checked_is_refused(clean: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path / "no.jsonl")
    with pytest.raises(ConfigError, match="max_words 0"):
        check(clean, max_words=0)
