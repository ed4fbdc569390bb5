"""Caption cleaning and the joining of tokens."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.tokenizer import clean_caption
from cutline.tokenizer.text import join_settled_tokens, join_tokens

REPLACED = '.!"()*#:;~'
MESSY = st.text() | st.text(alphabet=st.sampled_from([*REPLACED, *"aB-',?& \n\t\u3000"]))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A man is in a kitchen making pizzas.", "a man is in a kitchen making pizzas"),
        (
            "  Two dogs (one brown); a 'cat' & co-pilot, what?\n",
            "two dogs one brown a 'cat' & co-pilot, what?",
        ),
        ("a\tdog\n\nruns", "a\tdog runs"),  # a single white-space character stays
        ("a.b", "a b"),
        ("\ta dog", "\ta dog"),  # only spaces are stripped
        ("...", ""),
        ("ÉTÉ # 5", "été 5"),
    ],
)
def test_blip_cleaning_of_examples(text: str, cleaned: str) -> None:
    assert clean_caption(text, "blip", 30) == cleaned


@settings(deadline=None)
@given(MESSY, st.integers(1, 8))
def test_blip_cleaning_follows_its_definition(text: str, max_words: int) -> None:
    cleaned = clean_caption(text, "blip", max_words)
    assert not set(cleaned) & set(REPLACED)
    assert not re.search(r"\s{2}", cleaned)
    assert cleaned == cleaned.lower()
    assert cleaned == cleaned.strip(" ")
    assert len(cleaned.split(" ")) <= max_words
    untruncated = clean_caption(text, "blip", 10**6)
    assert untruncated.startswith(cleaned)
    letters = "".join(letter for letter in text.lower() if letter not in REPLACED)
    assert untruncated.split() == re.sub(rf"[{re.escape(REPLACED)}]", " ", text.lower()).split()
    assert "".join(untruncated.split()) == "".join(letters.split())


@settings(deadline=None)
@given(MESSY, st.integers(1, 8))
def test_cleaning_none_only_strips_and_truncates(text: str, max_words: int) -> None:
    assert clean_caption(text, "none", 10**6) == text.strip()
    assert clean_caption(text, "none", max_words) == " ".join(text.strip().split(" ")[:max_words])


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["refrigerator", ",", "micro", "##wave", "."], "refrigerator, microwave."),
        (["a", "man", "'", "s", "dog"], "a man's dog"),
        (
            ["it", "'s", "they", "'re", "i", "'m", "we", "'ve", "do", "n't"],
            "it's they're i'm we've don't",
        ),
        (["what", "?", "no", "!"], "what? no!"),
        (["a", "-", "b", "(", "c", ")", ":", "d"], "a - b ( c ) : d"),
        (["##ing", "a", "dog"], "ing a dog"),
        ([], ""),
        (["一", "只", "狗", "，", "3", "个", "人", "。"], "一只狗，3个人。"),
        (["他", "说", "“", "你", "好", "”"], "他说“你好”"),
        (["2", "人", "の", "女", "性", "が", "テ", "##ニ", "##ス", "。"], "2人の女性がテニス。"),
        (["「", "止", "まれ", "」", "・", "ｶﾞ"], "「止まれ」・ｶﾞ"),
        (["一", "辆", "bmw", "汽", "车"], "一辆 bmw 汽车"),
        (["a", "sign", "says", "中", "国", "in", "red"], "a sign says 中国 in red"),
        (["한", "##국", "사람", "이", "2", "명"], "한국 사람 이 2 명"),
        (["एक", "आदमी", "घोड़े", "पर"], "एक आदमी घोड़े पर"),
        (["رجل", "يركب", "حصانا"], "رجل يركب حصانا"),
    ],
)
def test_joining_of_examples(tokens: list[str], text: str) -> None:
    assert join_tokens(tokens) == text


# what spaces depend on: contractions, marks, pieces, wide characters and their neighbors
TRICKY = [
    *("a", "dog", "##s", "'", "##'", "s", "t", "n't", "n", "##'t", "'s", "ve", "'ve", "re", "m"),
    *(".", ",", "?", "!", "一", "1", "“", "…", "二", "##二", "##", "no", "ll", "##.", "'m"),
]
tricky_tokens = st.lists(st.sampled_from(TRICKY), max_size=7)


@settings(max_examples=1000)
@given(tricky_tokens, tricky_tokens)
def test_settled_text_is_the_beginning_of_any_continuation(
    tokens: list[str], more: list[str]
) -> None:
    assert join_tokens(tokens + more).startswith(join_settled_tokens(tokens))


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ([], ""),
        (["a", "dog"], "a dog"),
        (["a", "dog", "##s"], "a dogs"),
        (["a", "dog", "."], "a dog."),
        (["a", "dog", "'"], "a dog"),  # "dog's" or "dog '"
        (["a", "dog", "'", "s"], "a dog's"),
        (["do", "n"], "do"),  # "do not" or "don't"
        (["do", "n", "'"], "do"),
        (["do", "n", "'", "t"], "don't"),
    ],
)
def test_only_words_that_may_become_contractions_wait(tokens: list[str], text: str) -> None:
    assert join_settled_tokens(tokens) == text
