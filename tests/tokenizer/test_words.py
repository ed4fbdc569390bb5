"""Words of decoded texts: where they are, and of which tokens."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.tokenizer import Tokenizer
from cutline.tokenizer.text import join_tokens
from cutline.tokenizer.words import locate_words

PARTS = [
    *"aé1ßx一红。、'’.,-(?❤½",
    "\u0301",
    "ไ",
    "dog",
    "n",
    "n't",
    "'s",
    "'m",
    "t",
    " ",
    "\u3000",
]
TOKENS = st.lists(
    st.builds(
        lambda prefix, text: prefix + text,
        st.sampled_from(["", "", "##"]),
        st.text(max_size=4) | st.lists(st.sampled_from(PARTS), max_size=3).map("".join),
    ),
    max_size=8,
)


def find_texts(tokens: list[str]) -> list[tuple[str, list[str]]]:
    """Return each word with its tokens."""
    text = join_tokens(tokens)
    words = locate_words(text, tokens)
    return [(text[start:end], [tokens[i] for i in pieces]) for start, end, pieces in words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a red ##dish dog", ["a", "reddish", "dog"]),
        ("don ' t", ["don't"]),
        ("i ' m the man ' s dog", ["i'm", "the", "man's", "dog"]),
        ("ca n't", ["can't"]),
        ("two dogs , ( one brown ) .", ["two", "dogs", "one", "brown"]),
        ("t - shirt", ["t", "shirt"]),
        ("\" stop '", ["stop"]),
        ("3 . 5 m", ["3", "5", "m"]),
        ("一 个 红 ##色 的 3 个 bmw 车 。", ["一", "个", "红色", "的", "3", "个", "bmw", "车"]),
        ("2 人 の ' 女 ' 性", ["2", "人", "の", "女", "性"]),
        ("##a ##b", ["ab"]),
        ("e ##\u0301 ❤ ##❤", ["e\u0301"]),
        (". ' ❤", []),
        ("", []),
    ],
)
def test_words_of_examples(text: str, words: list[str]) -> None:
    assert [word for word, _ in find_texts(text.split())] == words


def test_tokens_of_examples() -> None:
    tokens = ["the", "skate", "##board", "##er", "'", "s", "t", "##-", "(", "don", "'", "t", ")"]
    assert find_texts(tokens) == [
        ("the", ["the"]),
        ("skateboarder's", ["skate", "##board", "##er", "'", "s"]),
        ("t", ["t"]),
        ("don't", ["don", "'", "t"]),
    ]


@settings(max_examples=150)
@given(TOKENS, st.sampled_from(["##", "##", "▁", ""]))
def test_words_cover_all_letters_and_begin_and_end_with_them(
    tokens: list[str], prefix: str
) -> None:
    text = join_tokens(tokens, prefix)
    words = locate_words(text, tokens, prefix)
    covered: set[int] = set()
    for start, end, pieces in words:
        assert not covered & set(range(start, end))
        assert all(start >= other for other in covered)
        covered |= set(range(start, end))
        for char in (text[start], text[end - 1]):
            assert unicodedata.category(char)[0] in "LMN"
        assert pieces
        assert list(pieces) == sorted(pieces)
        letters = {char for char in text[start:end] if not char.isspace()}
        assert letters <= set("".join(tokens[piece] for piece in pieces))
    for position, char in enumerate(text):
        if unicodedata.category(char)[0] in "LMN":
            assert position in covered


@given(TOKENS)
def test_no_token_with_one_letter_is_in_two_words(tokens: list[str]) -> None:
    kinds = [[unicodedata.category(char)[0] for char in token] for token in tokens]
    counts = [sum(map(kind.count, "LMN")) for kind in kinds]
    tokens = [token for token, count in zip(tokens, counts, strict=True) if count == 1]
    used = [i for _, _, pieces in locate_words(join_tokens(tokens), tokens) for i in pieces]
    assert len(used) == len(set(used))


CAPTIONS = ["a dog's ball, isn't it? (two)", "Ein süßer Hund!", "一个红色的圆形。", "ไทย 3 ½"]


@settings(max_examples=40)
@given(st.data())
def test_words_of_ids_are_those_of_the_decoded_text(data: Any) -> None:
    """Special tokens and unknown ones stand between them, and belong to none."""
    tokenizer = Tokenizer.train(CAPTIONS * 3, 80)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=12))
    text, spans = tokenizer.decode_words(ids)
    assert text == tokenizer.decode(ids)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    special = {tokenizer.pad_id, tokenizer.unk_id, tokenizer.sep_id, tokenizer.dec_id}
    for start, end, pieces in spans:
        assert not {ids[piece] for piece in pieces} & special
        assert set(text[start:end]) - {" "} <= set("".join(tokens[piece] for piece in pieces))


def test_words_of_a_text_are_normalized_as_captions_are() -> None:
    tokenizer = Tokenizer.train(CAPTIONS * 3, 200)
    assert tokenizer.split_words("A DOG'S ball (two)!") == ["a", "dog's", "ball", "two"]
    assert tokenizer.split_words("一个圆形") == ["一", "个", "圆", "形"]
    assert tokenizer.split_words("...") == []
