"""Captions as alternative texts."""

import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.batching import Caption, style_caption
from cutline.batching.alt_text import MAX_ALT_LENGTH, make_alt_text
from cutline.confidence import Word

LONG = "a man in a red coat who walks " * 9
PARTS = (
    *("a photo of ", "A Picture Of ", "this is an image of ", "the image shows ", "pic of"),
    *("a dog", "a man riding a horse on the beach", " and ", ", ", ".", "…", '"', ") ", "3", "-"),
    *("e\u0301\u0302", "🏳️‍🌈", "👩🏽‍🚀", "🇩🇪🇫🇷", "각", "\u1100\u1161\u11a8"),
    *("\u200d", "ß", "ǆ", "ŉ", "İ", "\n", "\xa0"),
    *("一只狗在海滩上", "、", "。", "犬", "x" * 60),
)
texts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=300),
    st.lists(st.sampled_from(PARTS), max_size=60).map("".join),
)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a dog on a beach", "A dog on a beach."),
        ("a picture of a dog on a beach", "A dog on a beach."),
        ("A photo of a dog.", "A dog."),
        ("an image of a photograph of two cats", "Two cats."),
        ("this is a picture of a dog", "A dog."),
        ("it's an image showing a dog", "A dog."),
        ("the image shows a dog, a cat ,", "A dog, a cat."),
        ("photo of a dog", "A dog."),
        # what is told of the image itself, or is no introduction
        ("a black and white photo of a dog", "A black and white photo of a dog."),
        ("a painting of a dog", "A painting of a dog."),
        ("a photo on a wall", "A photo on a wall."),
        ("a photo off the wall", "A photo off the wall."),
        ("a photo of", "A photo of."),
        ("is that a dog?", "Is that a dog?"),
        ('a sign that says "stop!"', 'A sign that says "stop!"'),
        ('"stop" on a sign', '"Stop" on a sign.'),
        ("3 dogs", "3 dogs."),
        ("école", "École."),
        ("e\u0301cole", "E\u0301cole."),
        ("ǆ", "ǅ."),
        ("ß", "ß."),  # its capital would be two letters
        ("🐶", "🐶."),
        ("一只狗在海滩上", "一只狗在海滩上。"),
        ("강아지", "강아지."),
        ("  a dog \n", "A dog."),
        ("", ""),
        (" \n", ""),
        ("-", ""),
    ],
)
def test_manners(caption: str, expected: str) -> None:
    assert make_alt_text(caption).text == expected


def test_a_long_caption_is_cut_after_a_word() -> None:
    text = make_alt_text(LONG).text
    assert text.endswith("…")
    assert len(text) > MAX_ALT_LENGTH - len(" walks…")
    assert LONG.split()[: len(text.split())] == text.lower().removesuffix("…").split()


@pytest.mark.parametrize("length", range(MAX_ALT_LENGTH - 3, MAX_ALT_LENGTH + 3))
def test_a_caption_is_cut_only_if_it_must_be(length: int) -> None:
    for caption in ("a " + "b" * (length - 2), "a " + "b" * (length - 3) + "."):
        text = make_alt_text(caption).text
        whole = caption.removesuffix(".") + "."
        assert text.lower() == (whole if len(whole) <= MAX_ALT_LENGTH else "a…")


def test_a_cut_after_a_sentence_ends_with_it() -> None:
    sentence = "a dog on a long and sandy beach near the sea."
    assert make_alt_text(f"{sentence} {'x' * 100}").text == sentence.capitalize()
    assert make_alt_text(f"{sentence[:-1]}, {'x' * 100}").text == f"{sentence.capitalize()[:-1]}…"


@pytest.mark.parametrize(
    "character",
    ["e\u0301\u0302", "👩🏽‍🚀", "🏳️‍🌈", "🇩🇪", "각", "\u1100\u1161\u11a8", "犬", "👍🏿", "का"],
)
@pytest.mark.parametrize("shift", range(9))
def test_no_character_is_cut(character: str, shift: int) -> None:
    text = make_alt_text("x" * shift + character * 150).text
    assert MAX_ALT_LENGTH - 12 < len(text) <= MAX_ALT_LENGTH
    assert re.fullmatch(f"x*({character})+…", text, re.IGNORECASE)


@given(texts)
def test_alt_texts_have_manners(caption: str) -> None:
    text, start, end = make_alt_text(caption)
    assert len(text) <= MAX_ALT_LENGTH
    assert make_alt_text(text).text == text
    assert text == text.strip()
    first = next(filter(str.isalnum, text), "")
    assert len(first.title()) != 1 or first == first.title()
    assert text[: end - start].casefold() == caption[start:end].casefold()
    assert bool(text) == any(not c.isspace() and c not in ",;:-–—、，；：" for c in caption)
    if text:
        assert text.rstrip("\"'”’»)]」』）")[-1] in ".!?…。！？｡؟।"
    assert not re.match(r"(an? )?(photo|image) of\s+\w", text, re.IGNORECASE)


@given(texts)
def test_a_cut_leaves_marks_with_their_letter(caption: str) -> None:
    text, start, end = make_alt_text(caption)
    if (
        text.endswith("…") and end < len(caption) and end - start > 60
    ):  # else all of it may be marks
        assert unicodedata.category(caption[end])[0] != "M"


def make_caption(text: str) -> Caption:
    """Return a caption whose words are what is between spaces."""
    words = [Word(m[0], m.start(), m.end(), 0.5) for m in re.finditer(r"[^\W_]+", text)]
    return Caption(text, -1.0, (1, 2), words=tuple(words), confidence=0.25, index=3)


@given(st.lists(texts, min_size=1, max_size=3))
def test_words_fit_the_text(captions: list[str]) -> None:
    plain = tuple(map(make_caption, captions))
    caption = replace(plain[0], alternatives=plain)
    styled = style_caption(caption, "alt")
    assert style_caption(caption, "plain") is caption
    assert styled == styled.alternatives[0] == replace(caption, text=styled.text)
    assert styled.index == 3
    for each, before in zip([styled, *styled.alternatives], [caption, *plain], strict=True):
        assert each.text == make_alt_text(before.text).text
        for word in each.words:
            assert each.text[word.start : word.end] == word.text
        left = [word.text.casefold() for word in each.words]
        all_words = [word.text.casefold() for word in before.words]
        assert "\0".join(left) in "\0".join(all_words)


def test_words_that_are_cut_are_dropped() -> None:
    styled = style_caption(make_caption("a photo of " + LONG), "alt")
    assert [word.text for word in styled.words] == re.findall(r"\w+", styled.text)
    assert styled.words[0] == Word("A", 0, 1, 0.5)
