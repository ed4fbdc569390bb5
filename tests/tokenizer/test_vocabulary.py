"""Vocabularies learned from captions."""

import json
import logging
import os
import random
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from cutline.errors import ConfigError, DataError
from cutline.tokenizer import Tokenizer
from cutline.tokenizer.vocabulary import MIN_COUNT, learn_vocabulary

SPACED = [
    "Một nhóm người leo núi đang nghỉ ngơi trên đỉnh núi phủ tuyết",
    "빨간 코트를 입은 여자가 거리를 걷고 있다.",
    "رجل يركب حصانا في الصحراء",
    "एक आदमी घोड़े पर सवार है।",
    "Ein Mann läuft über die Straße, ein Hund auch.",
    "άνθρωπος με ποδήλατο",
    "Человек едет на велосипеде!",
]
UNSPACED = [
    "2人の男性がテニスをしている。",
    "白いTシャツを着た女性が、犬と歩いています。",
    "一只棕色的狗在草地上奔跑，旁边有3个人。",
    "他说“你好”",
]
THAI = [
    "ผู้ชายคนหนึ่งกำลังขี่ม้าอยู่บนชายหาดในตอนเย็นและมีสุนัขสองตัววิ่"
    "งตามหลังเขาไปอย่างสนุกสนานท่ามกลางแสงอาทิตย์ที่กำลังจะลับขอบฟ้า"
]
CAPTIONS = [*SPACED, *UNSPACED, *THAI, "a 🐕‍🦺 with 👍🏽 [SEP] ##x", "naïve café Ångström", "", " "]


def normalize(text: str, lowercase: bool = True, strip_accents: bool = False) -> str:
    return unicodedata.normalize(
        "NFC",
        normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents).normalize_str(
            text
        ),
    )


def remove_spaces(text: str) -> str:
    return "".join(text.split())


def list_tokens(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.convert_ids_to_tokens(range(tokenizer.vocab_size))


def test_special_tokens_frame_the_vocabulary() -> None:
    tokenizer = Tokenizer.train(CAPTIONS, 5000)
    tokens = list_tokens(tokenizer)
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokens[-2:] == ["[DEC]", "[ENC]"]
    assert tokenizer.pad_id == 0
    assert (tokenizer.dec_id, tokenizer.enc_id) == (
        tokenizer.vocab_size - 2,
        tokenizer.vocab_size - 1,
    )
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
@pytest.mark.parametrize("repeats", [1, 3])
def test_training_captions_survive_a_round_trip(
    lowercase: bool, strip_accents: bool, repeats: int
) -> None:
    tokenizer = Tokenizer.train(CAPTIONS * repeats, 3000, lowercase, strip_accents)
    for caption in CAPTIONS:
        ids, _ = tokenizer.encode(caption, max_tokens=1000)
        assert tokenizer.unk_id not in ids
        assert remove_spaces(tokenizer.decode(ids)) == remove_spaces(
            normalize(caption, lowercase, strip_accents)
        )


@pytest.mark.parametrize("caption", SPACED)
def test_scripts_with_spaces_survive_exactly(caption: str) -> None:
    tokenizer = Tokenizer.train([caption], 300)
    assert tokenizer.decode(tokenizer.encode(caption, max_tokens=1000)[0]).replace(
        " ।", "।"
    ) == normalize(caption)


@pytest.mark.parametrize("caption", UNSPACED)
def test_scripts_without_spaces_survive_exactly(caption: str) -> None:
    tokenizer = Tokenizer.train([caption], 300)
    assert tokenizer.decode(tokenizer.encode(caption)[0]).replace(" ", "") == caption.lower()
    # spaces stay beside Latin words only
    assert tokenizer.decode(tokenizer.encode(caption)[0]).count(" ") <= caption.count("T")


@settings(deadline=None)
@given(st.lists(st.text(), max_size=6))
def test_any_training_text_can_be_encoded(captions: list[str]) -> None:
    tokenizer = Tokenizer.train([*captions, "a"], 1000)
    for caption in captions:
        ids, _ = tokenizer.encode(caption, max_tokens=10_000)
        assert tokenizer.unk_id not in ids
        assert remove_spaces(tokenizer.decode(ids)) == remove_spaces(normalize(caption))


def test_composed_and_decomposed_letters_are_equal() -> None:
    tokenizer = Tokenizer.train(CAPTIONS, 3000)
    for caption in CAPTIONS:
        assert tokenizer.encode(unicodedata.normalize("NFD", caption)) == tokenizer.encode(caption)


def test_stripping_accents_keeps_korean_syllables() -> None:
    tokenizer = Tokenizer.train(["한국 café"] * 2, 300, strip_accents=True)
    ids, _ = tokenizer.encode("한국 CAFÉ")
    assert tokenizer.convert_ids_to_tokens(ids) == ["[DEC]", "한국", "cafe", "[SEP]"]


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_order_of_captions_does_not_matter(shuffler: random.Random) -> None:
    captions = [caption for caption in CAPTIONS for _ in range(2)]
    expected = list_tokens(Tokenizer.train(captions, 400))
    shuffler.shuffle(captions)
    assert list_tokens(Tokenizer.train(captions, 400)) == expected


def test_order_does_not_matter_among_equally_rare_characters() -> None:
    captions = [caption for caption in CAPTIONS if caption.strip()]
    assert list_tokens(Tokenizer.train(captions, 100)) == list_tokens(
        Tokenizer.train(captions[::-1], 100)
    )


def test_hash_order_does_not_matter() -> None:
    code = (
        "from cutline.tokenizer import Tokenizer;"
        "t = Tokenizer.train(['abc abd bcd xbc', 'dab cab'] * 2, 60);"
        "print(t.convert_ids_to_tokens(range(t.vocab_size)))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1
    assert "'abc'" in printed.pop()


def learn_naively(words: dict[str, int], max_tokens: int) -> list[str]:
    """Learn merges with a new count of all pairs for each merge."""
    spellings = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in words}
    tokens = sorted({token for spelling in spellings.values() for token in spelling})
    while len(tokens) < max_tokens:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, spelling in spellings.items():
            for pair in pairwise(spelling):
                pairs[pair] += words[word]
        if not pairs or max(pairs.values()) < MIN_COUNT:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = left + right[2:]
        tokens += [merged] if merged not in tokens else []
        for spelling in spellings.values():
            start = 0
            while start < len(spelling) - 1:
                if spelling[start : start + 2] == [left, right]:
                    spelling[start : start + 2] = [merged]
                start += 1
    return tokens


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("ab", min_size=1, max_size=9) | st.text("abcd", min_size=1, max_size=5),
        st.integers(1, 5),
        min_size=1,
    ),
    st.integers(8, 40),
)
def test_merges_equal_those_of_the_naive_algorithm(words: dict[str, int], max_tokens: int) -> None:
    assert learn_vocabulary(words, max_tokens) == learn_naively(words, max_tokens)


def test_frequent_words_are_single_tokens() -> None:
    rng = random.Random(0)
    words = [
        "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(300)
    ]
    captions = [" ".join(rng.choices(words, weights=range(1, 301), k=10)) for _ in range(500)]
    tokenizer = Tokenizer.train(captions, 1500)
    counts = Counter(word for caption in captions for word in caption.split())
    for word, count in counts.items():
        if count >= 10:
            assert tokenizer.convert_ids_to_tokens(tokenizer.encode_prompt(word)) == ["[DEC]", word]


@pytest.mark.parametrize("vocab_size", [100, 200, 1000])
def test_vocab_size_is_never_exceeded(vocab_size: int) -> None:
    assert Tokenizer.train(["abc abd bcd", *SPACED], vocab_size).vocab_size <= vocab_size


def test_the_rarest_characters_are_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = Tokenizer.train(["a b c d", "a b c", "a b z"], 7 + 3)
    assert list_tokens(tokenizer)[5:-2] == ["a", "b", "c"]
    assert "2 rare characters" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Tokenizer.train(["a b c d"], 7 + 4)
    assert not caplog.records


def test_thousands_of_characters_are_kept() -> None:
    letters = [chr(0x4E00 + index) for index in range(6000)]
    tokenizer = Tokenizer.train(letters, 8000)
    assert tokenizer.unk_id not in tokenizer.encode("".join(letters), max_tokens=10_000)[0]


def test_too_few_captions_or_tokens_are_errors() -> None:
    with pytest.raises(DataError, match="no caption"):
        Tokenizer.train(["", "  ", "\u200d"], 100)
    with pytest.raises(ConfigError, match="vocab_size 7"):
        Tokenizer.train(["a dog"], 7)


def test_trained_tokenizer_survives_a_round_trip(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(CAPTIONS, 600, lowercase=False)
    tokenizer.save(tmp_path / "tokenizer.json")
    reloaded = Tokenizer.load(tmp_path)
    assert list_tokens(reloaded) == list_tokens(tokenizer)
    for caption in [*CAPTIONS, "unseen Wörter 漢字"]:
        assert reloaded.encode(caption, max_tokens=1000) == tokenizer.encode(
            caption, max_tokens=1000
        )
    reloaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_vietnamese_captions_have_no_unknown_tokens(shared: Path) -> None:
    lines = (
        (shared / "data" / "vi-captions" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    )
    captions = [caption for line in lines for caption in json.loads(line)["captions"]]
    tokenizer = Tokenizer.train(captions, 4000)
    encoded = tokenizer.encode_batch(captions, [""] * len(captions), 1000)
    assert all(tokenizer.unk_id not in ids for ids, _ in encoded)
    assert [remove_spaces(tokenizer.decode(ids)) for ids, _ in encoded] == [
        remove_spaces(normalize(caption)) for caption in captions
    ]
    words = sum(len(caption.split()) for caption in captions)
    assert sum(len(ids) - 2 for ids, _ in encoded) < 1.1 * words
