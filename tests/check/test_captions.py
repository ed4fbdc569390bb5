"""Captions: each problem is reported, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photos import encode, kinds_and_names, make_photo

from cutline.check import check_data, summarize
from cutline.config import CaptionConfig, CaptionText, DataConfig
from cutline.data import Sample
from cutline.errors import DataError
from cutline.metrics import Histogram
from cutline.tokenizer import Tokenizer
from cutline.training.data.dataset import encode_captions


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    captions = ["a photo of thing 0 1 2 3 4 5 6 7, seen again", "an image of"]
    return Tokenizer.train(captions * 3, 300)


@pytest.mark.parametrize(
    ("captions", "kinds"),
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
def test_each_problem_of_a_caption_is_reported_and_nothing_else(
    clean: list[Sample], captions: tuple[str, ...], kinds: list[str]
) -> None:
    clean[4] = replace(clean[4], captions=captions)
    result = check_data(clean)
    assert kinds_and_names(result) == [(kind, "4.png") for kind in kinds]
    assert result.has_errors == ("uncaptioned" in kinds)


def test_a_caption_of_many_images_is_reported(clean: list[Sample]) -> None:
    more = [
        Sample(encode(make_photo(100 + n, (40, 40)), "PNG"), ("An image.",), f"m{n}")
        for n in range(10)
    ]
    assert check_data([*clean, *more[:9]]).findings == []
    (row,) = check_data([*clean, *more]).findings
    assert (row.kind, row.image) == ("common_caption", "m0")
    assert "10 images" in row.detail


def test_tokens_are_counted_as_in_training(clean: list[Sample], tokenizer: Tokenizer) -> None:
    prompt = "a picture of "
    lengths = [
        len(tokenizer.encode(caption, prompt, 1000)[0])
        for sample in clean
        for caption in sample.captions
    ]
    result = check_data(clean, tokenizer=tokenizer)
    assert result.tokens == Histogram.from_values(lengths)
    assert result.findings == []
    assert "tokens" in summarize(result)
    limit = CaptionText(max_tokens=max(lengths) - 1)
    shorter = check_data(clean, tokenizer=tokenizer, text=limit)
    assert {row.kind for row in shorter.findings} == {"cut_caption"}
    assert len(shorter.findings) == lengths.count(max(lengths))
    without_prompt = [replace(sample, prompt="") for sample in clean]
    result = check_data(without_prompt, tokenizer=tokenizer)
    assert result.tokens == Histogram.from_values([length - 3 for length in lengths])


@pytest.mark.parametrize("max_tokens", [5, 9, 10, 40])
def test_a_caption_is_reported_as_cut_if_training_cuts_it(
    clean: list[Sample], tokenizer: Tokenizer, max_tokens: int
) -> None:
    clean[0] = replace(clean[0], captions=("thing " * 35, "..."), prompt="")
    data = DataConfig(max_tokens=max_tokens)
    full_length = replace(data, max_tokens=1000)
    result = check_data(clean, tokenizer=tokenizer, text=data)
    reported = [row.image for row in result.findings if row.kind == "cut_caption"]
    assert reported == find_cut(clean, data, full_length, tokenizer)


def find_cut(
    samples: Sequence[Sample], data: DataConfig, full_length: DataConfig, tokenizer: Tokenizer
) -> list[str]:
    """Return the name of the image of each caption that training truncates."""
    prompt = CaptionConfig().prompt
    truncated = encode_captions(samples, tokenizer, data, prompt)
    full = encode_captions(samples, tokenizer, full_length, prompt)
    return [
        sample.name
        for sample, short, long in zip(samples, truncated, full, strict=True)
        for (short_ids, _), (long_ids, _) in zip(short, long, strict=True)
        if short_ids != long_ids
    ]


def test_without_a_vocabulary_tokens_are_not_mentioned(clean: list[Sample]) -> None:
    clean[0] = replace(clean[0], captions=("thing " * 30,))
    result = check_data(clean, text=CaptionText(max_tokens=3))
    assert result.tokens is None
    assert result.findings == []
    assert "token" not in summarize(result)
    assert "[UNK]" not in summarize(result)


def test_unknown_words_and_characters_are_reported(
    clean: list[Sample], tokenizer: Tokenizer
) -> None:
    clean[0] = replace(clean[0], captions=("a thing ёж", "again thing🎉 ёж"))
    result = check_data(clean, tokenizer=tokenizer)
    assert result.unknown_words == {"ёж": 2, "thing🎉": 1}
    assert result.unknown_characters == {"ё": 2, "ж": 2, "🎉": 1}
    assert [row.kind for row in result.findings] == ["unknown_word"] * 2
    assert not result.has_errors
    assert "missing characters: ё ж 🎉" in summarize(result)
    assert result.scripts["Cyrillic"] == 4
    assert result.scripts["symbols and emoji"] == 1


def find_unknown_words(samples: list[Sample], tokenizer: Tokenizer) -> dict[str, int]:
    result = check_data(samples, tokenizer=tokenizer, text=CaptionText(clean="none"))
    return dict(result.unknown_words)


def test_unknown_words_are_split_as_their_script_requires(
    clean: list[Sample], tokenizer: Tokenizer
) -> None:
    clean[0] = replace(clean[0], captions=("一只狗，坐着。", "狗狗", "ёж, thing, «ёж»", "สุนัข"))
    assert find_unknown_words(clean, tokenizer) == {
        **dict.fromkeys("一只坐着，。«»", 1), "狗": 3, "ёж": 2, "สุ": 1, "นั": 1, "ข": 1,
    }  # fmt: skip
    japanese = Tokenizer.train(["か わ い"] * 9, 100)
    samples = [replace(sample, captions=()) for sample in clean]
    samples[0] = replace(samples[0], captions=("かわい",))
    assert set(find_unknown_words(samples, japanese)) <= set("かわい")


@given(
    st.lists(
        st.lists(st.text(st.characters(), min_size=1).filter(str.strip), max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_any_text_can_be_checked_and_printed(texts: list[list[str]]) -> None:
    image = encode(make_photo(1), "BMP")
    samples = [
        Sample(image + bytes(number), tuple(captions), str(number))
        for number, captions in enumerate(texts)
    ]
    result = check_data(samples, tokenizer=Tokenizer.train(["a thing"], 50))
    assert result.captions.sum == sum(map(len, texts))
    assert summarize(result).encode()


def test_data_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        check_data(tmp_path / "no.jsonl")
