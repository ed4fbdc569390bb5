"""Words of captions, and their tokens."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.explanation.word_tokens import group_tokens
from cutline.tokenizer import Tokenizer

CAPTIONS = ["a dog isn't the dog's café", "two boys' t-shirts", "一只狗在桌子", "they ' ve"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS * 3, 70)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a dog isn't the dog's café.", ["a", "dog", "isn't", "the", "dog's", "café"]),
        ("A dog, the DOG!", ["a", "dog", "the", "dog"]),
        ("一只狗", ["一", "只", "狗"]),
        ("a 🐕 dog", ["a", "dog"]),
        ("?!", []),
        ("", []),
    ],
)
def test_words_of_captions(tokenizer: Tokenizer, caption: str, words: list[str]) -> None:
    ids = tokenizer.encode(caption).token_ids[1:-1]
    assert [word.text for word in group_tokens(tokenizer, ids)] == words


texts = st.lists(st.sampled_from([*"adog'tisn-ve?.,é狗桌 "]), max_size=20).map("".join)


@settings(max_examples=150, derandomize=True)
@given(texts)
def test_words_are_parts_of_the_text_in_order(tokenizer: Tokenizer, caption: str) -> None:
    """Spans and tokens do not overlap, and all letters that have a token are in a word."""
    ids = tokenizer.encode(caption).token_ids[1:-1]
    text, words = tokenizer.decode(ids), group_tokens(tokenizer, ids)
    assert all(word.text == text[word.start : word.end] for word in words)
    for word, following in itertools.pairwise(words):
        assert word.end <= following.start
        assert word.stop <= following.first
    assert all(0 <= word.first < word.stop <= len(ids) for word in words)
    letters = [char for word in words for char in word.text if char.isalnum()]
    assert letters == [char for char in text if char.isalnum()]


def test_a_word_of_several_pieces_is_whole() -> None:
    small = Tokenizer.train(["a"] * 3 + ["dogs"], 12)
    ids = small.encode("a dogs a").token_ids[1:-1]
    assert len(ids) > 3
    words = group_tokens(small, ids)
    assert [word.text for word in words] == ["a", "dogs", "a"]
    assert [(word.first, word.stop) for word in words] == [
        (0, 1),
        (1, len(ids) - 1),
        (len(ids) - 1, len(ids)),
    ]
