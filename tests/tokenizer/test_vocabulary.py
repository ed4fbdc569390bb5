"""Vocabularies made from captions."""

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
from cutline.tokenizer.vocabulary import MIN_COUNT, learn_pieces

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
    "ผู้ชายคนหนึ่งกำลังขี่ม้าอยู่บนชายหาดในตอนเย็นและมีสุนัขสองตัววิ่งตามหลังเขาไปอย่างสนุกสนานท่ามกลางแสงอาทิตย์ที่กำลังจะลับขอบฟ้า"
]
CAPTIONS = [*SPACED, *UNSPACED, *THAI, "a 🐕‍🦺 with 👍🏽 [SEP] ##x", "naïve café Ångström", "", " "]


def normalised(text: str, lowercase: bool = True, strip_accents: bool = False) -> str:
    return unicodedata.normalize(
        "NFC",
        normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents).normalize_str(
            text
        ),
    )


def tight(text: str) -> str:
    return "".join(text.split())


def pieces_of(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.pieces(range(tokenizer.vocab_size))


def test_special_tokens_frame_the_vocabulary() -> None:
    tokenizer = Tokenizer.train(CAPTIONS, 5000)
    pieces = pieces_of(tokenizer)
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert pieces[-2:] == ["[DEC]", "[ENC]"]
    assert tokenizer.pad_id == 0
    assert (tokenizer.dec_id, tokenizer.enc_id) == (
        tokenizer.vocab_size - 2,
        tokenizer.vocab_size - 1,
    )
    assert len(set(pieces)) == len(pieces)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
@pytest.mark.parametrize("repeats", [1, 3])
def test_training_captions_come_back(lowercase: bool, strip_accents: bool, repeats: int) -> None:
    tokenizer = Tokenizer.train(CAPTIONS * repeats, 3000, lowercase, strip_accents)
    for caption in CAPTIONS:
        ids, _ = tokenizer.encode(caption, max_tokens=1000)
        assert tokenizer.unk_id not in ids
        assert tight(tokenizer.decode(ids)) == tight(normalised(caption, lowercase, strip_accents))


@pytest.mark.parametrize("caption", SPACED)
def test_scripts_with_spaces_come_back_exactly(caption: str) -> None:
    tokenizer = Tokenizer.train([caption], 300)
    assert tokenizer.decode(tokenizer.encode(caption, max_tokens=1000)[0]).replace(
        " ।", "।"
    ) == normalised(caption)


@pytest.mark.parametrize("caption", UNSPACED)
def test_scripts_without_spaces_come_back_exactly(caption: str) -> None:
    tokenizer = Tokenizer.train([caption], 300)
    assert tokenizer.decode(tokenizer.encode(caption)[0]).replace(" ", "") == caption.lower()
    assert tokenizer.decode(tokenizer.encode(caption)[0]).count(" ") <= caption.count(
        "T"
    )  # beside a Latin word a space stays


@settings(deadline=None)
@given(st.lists(st.text(), max_size=6))
def test_any_training_text_can_be_encoded(captions: list[str]) -> None:
    tokenizer = Tokenizer.train([*captions, "a"], 1000)
    for caption in captions:
        ids, _ = tokenizer.encode(caption, max_tokens=10_000)
        assert tokenizer.unk_id not in ids
        assert tight(tokenizer.decode(ids)) == tight(normalised(caption))


def test_composed_and_decomposed_letters_are_the_same() -> None:
    tokenizer = Tokenizer.train(CAPTIONS, 3000)
    for caption in CAPTIONS:
        assert tokenizer.encode(unicodedata.normalize("NFD", caption)) == tokenizer.encode(caption)


def test_stripped_accents_leave_korean_whole() -> None:
    tokenizer = Tokenizer.train(["한국 café"] * 2, 300, strip_accents=True)
    assert tokenizer.pieces(tokenizer.encode("한국 CAFÉ")[0]) == ["[DEC]", "한국", "cafe", "[SEP]"]


@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_order_does_not_matter(shuffler: random.Random) -> None:
    captions = [caption for caption in CAPTIONS for _ in range(2)]
    expected = pieces_of(Tokenizer.train(captions, 400))
    shuffler.shuffle(captions)
    assert pieces_of(Tokenizer.train(captions, 400)) == expected


def test_order_does_not_matter_among_equally_rare_characters() -> None:
    captions = [caption for caption in CAPTIONS if caption.strip()]
    assert pieces_of(Tokenizer.train(captions, 100)) == pieces_of(
        Tokenizer.train(captions[::-1], 100)
    )


def test_hash_order_does_not_matter() -> None:
    code = (
        "from cutline.tokenizer import Tokenizer; t = Tokenizer.train(['abc abd bcd xbc', 'dab cab'] * 2, 60);"
        "print(t.pieces(range(t.vocab_size)))"
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


def naive_pieces(words: dict[str, int], room: int) -> list[str]:
    """Byte-pair merges as one would write them on paper: count all pairs anew for each merge."""
    spelt = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in words}
    pieces = sorted({piece for spelling in spelt.values() for piece in spelling})
    while len(pieces) < room:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, spelling in spelt.items():
            for pair in pairwise(spelling):
                pairs[pair] += words[word]
        if not pairs or max(pairs.values()) < MIN_COUNT:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = left + right[2:]
        pieces += [merged] if merged not in pieces else []
        for spelling in spelt.values():
            start = 0
            while start < len(spelling) - 1:
                if spelling[start : start + 2] == [left, right]:
                    spelling[start : start + 2] = [merged]
                start += 1
    return pieces


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("ab", min_size=1, max_size=9) | st.text("abcd", min_size=1, max_size=5),
        st.integers(1, 5),
        min_size=1,
    ),
    st.integers(8, 40),
)
def test_merges_are_those_of_the_naive_algorithm(words: dict[str, int], room: int) -> None:
    assert learn_pieces(words, room) == naive_pieces(words, room)


def test_frequent_words_are_single_pieces() -> None:
    drawn = random.Random(0)
    words = [
        "".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(2, 9)))
        for _ in range(300)
    ]
    captions = [" ".join(drawn.choices(words, weights=range(1, 301), k=10)) for _ in range(500)]
    tokenizer = Tokenizer.train(captions, 1500)
    counts = Counter(word for caption in captions for word in caption.split())
    for word, count in counts.items():
        if count >= 10:
            assert tokenizer.pieces(tokenizer.encode_prompt(word)) == ["[DEC]", word]


@pytest.mark.parametrize("vocab_size", [100, 200, 1000])
def test_vocab_size_is_never_exceeded(vocab_size: int) -> None:
    assert Tokenizer.train(["abc abd bcd", *SPACED], vocab_size).vocab_size <= vocab_size


def test_the_rarest_characters_go_first(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokenizer = Tokenizer.train(["a b c d", "a b c", "a b z"], 7 + 3)
    assert pieces_of(tokenizer)[5:-2] == ["a", "b", "c"]
    assert "2 rare characters" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Tokenizer.train(["a b c d"], 7 + 4)
    assert not caplog.records


def test_thousands_of_characters_are_kept() -> None:
    letters = [chr(0x4E00 + index) for index in range(6000)]
    tokenizer = Tokenizer.train(letters, 8000)
    assert tokenizer.unk_id not in tokenizer.encode("".join(letters), max_tokens=10_000)[0]


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(DataError, match="no caption"):
        Tokenizer.train(["", "  ", "\u200d"], 100)
    with pytest.raises(ConfigError, match="vocab_size 7"):
        Tokenizer.train(["a dog"], 7)


def test_a_trained_tokenizer_survives_its_file(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(CAPTIONS, 600, lowercase=False)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path)
    assert pieces_of(again) == pieces_of(tokenizer)
    for caption in [*CAPTIONS, "unseen Wörter 漢字"]:
        assert again.encode(caption, max_tokens=1000) == tokenizer.encode(caption, max_tokens=1000)
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_vietnamese_captions_are_covered(shared: Path) -> None:
    lines = (
        (shared / "data" / "vi-captions" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    )
    captions = [caption for line in lines for caption in json.loads(line)["captions"]]
    tokenizer = Tokenizer.train(captions, 4000)
    encoded = tokenizer.encode_pairs(captions, [""] * len(captions), 1000)
    assert all(tokenizer.unk_id not in ids for ids, _ in encoded)
    assert [tight(tokenizer.decode(ids)) for ids, _ in encoded] == [
        tight(normalised(caption)) for caption in captions
    ]
    words = sum(len(caption.split()) for caption in captions)
    assert sum(len(ids) - 2 for ids, _ in encoded) < 1.1 * words
