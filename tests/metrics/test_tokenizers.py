"""Tokenizers of captions in any language."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.config import MetricTokenizer
from cutline.metrics import choose_tokenizer, compute_metrics, ptb
from cutline.metrics.tokenizers import is_mostly_unspaced, split_characters, split_words

GERMAN = "Größe: ein Hund läuft über die Straße, nicht wahr?"
VIETNAMESE = "Hai người đàn ông đứng cạnh chiếc xe hơi ."
CHINESE = "一只狗在草地上奔跑。"
JAPANESE = "テニスをする2人の女性、白い服。"
THAI = "ผู้ชายสองคนยืน"
ENGLISH = "A man's dog isn't on the t-shirt."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GERMAN, "größe ein hund läuft über die straße nicht wahr"),
        (VIETNAMESE, "hai người đàn ông đứng cạnh chiếc xe hơi"),
        ("L’été d'aujourd’hui: «rock-n-roll» -- 'oui' !", "l'été d'aujourd'hui rock-n-roll oui"),
        ("घोड़े पर एक आदमी।", "घोड़े पर एक आदमी"),
        ("رجل يركب حصانًا، هناك؟", "رجل يركب حصانًا هناك"),
        ("한국 사람이 2명", "한국 사람이 2명"),
        ("İstanbul'da", "i̇stanbul'da"),
        ("100 % € $5_6", "100 5 6"),
        ("-- ' ... ’", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert split_words(text) == [unicodedata.normalize("NFC", word) for word in expected.split()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHINESE, "一 只 狗 在 草 地 上 奔 跑"),
        (JAPANESE, "テ ニ ス を す る 2 人 の 女 性 白 い 服"),
        ("他说：“你好”，BMW 330i 汽车", "他 说 你 好 bmw 330i 汽 车"),
        (THAI, "ผู้ ช า ย ส อ ง ค น ยื น"),
        ("ខ្មែរ", "ខ្ មែ រ"),
        (GERMAN, "größe ein hund läuft über die straße nicht wahr"),
        ("한국 사람", "한국 사람"),
    ],
)
def test_characters(text: str, expected: str) -> None:
    assert split_characters(text) == expected.split()


@given(st.text() | st.text(alphabet=st.sampled_from(CHINESE + JAPANESE + THAI + "aß é'-.")))
def test_characters_are_parts_of_words(text: str) -> None:
    assert "".join(split_characters(text)) == "".join(split_words(text))
    assert split_words(text) == split_words(unicodedata.normalize("NFC", text))
    assert all(token and not token.isspace() for token in split_characters(text))


@given(
    st.text(alphabet=st.sampled_from("äöüßéèệđÄÖÅñçabcXYZ ,.'-"), max_size=20),
    st.sampled_from(["auto", "words", "characters"]),
)
def test_composed_and_decomposed_letters_are_equal(text: str, name: MetricTokenizer) -> None:
    tokenize = choose_tokenizer(name, ["ein Hund"])
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert tokenize(decomposed) == tokenize(composed)


def test_ptb_distinguishes_composed_and_decomposed_letters() -> None:
    """This is why "auto" composes letters first."""
    assert ptb.tokenize("läuft") == ["läuft"] != ptb.tokenize(unicodedata.normalize("NFD", "läuft"))
    decomposed = unicodedata.normalize("NFD", VIETNAMESE)
    assert len(ptb.tokenize(decomposed)) == len(ptb.tokenize(VIETNAMESE))


@pytest.mark.parametrize("text", [GERMAN, VIETNAMESE])
def test_ptb_splits_latin_text_into_words(text: str) -> None:
    assert ptb.tokenize(text) == split_words(text)


@pytest.mark.parametrize(
    ("text", "unspaced"),
    [
        (CHINESE, True),
        (JAPANESE, True),
        (THAI, True),
        ("ຜູ້ຊາຍ", True),
        ("လူ", True),
        ("ខ្មែរ", True),
        ("一辆 BMW 汽车", True),
        (ENGLISH, False),
        ("a sign that says 中国 in red", False),
        (GERMAN, False),
        (VIETNAMESE, False),
        ("한국 사람이 있다", False),
        ("घोड़े पर", False),
        ("", False),
    ],
)
def test_scripts_without_spaces_are_recognized(text: str, unspaced: bool) -> None:
    assert is_mostly_unspaced([text]) is unspaced
    assert (choose_tokenizer("auto", [text]) is split_characters) is unspaced


def test_references_decide_and_not_the_caption() -> None:
    tokenize = choose_tokenizer("auto", [CHINESE, CHINESE, "ok"])
    assert tokenize("一只狗") == ["一", "只", "狗"]
    assert choose_tokenizer("words", [CHINESE])("一只狗。") == ["一只狗"]
    assert choose_tokenizer("characters", [ENGLISH])("一只狗") == ["一", "只", "狗"]
    assert choose_tokenizer("ptb", [CHINESE])("一只狗。") == ["一只狗", "。"]


def test_auto_changes_nothing_in_english(shared: Path) -> None:
    golden = json.loads((shared / "fixtures" / "metrics_golden.json").read_text(encoding="utf-8"))
    texts = [text for references in golden["references"].values() for text in references]
    tokenize = choose_tokenizer("auto", texts)
    assert [tokenize(text) for text in texts] == [ptb.tokenize(text) for text in texts]


def test_chinese_captions_are_measured_by_characters() -> None:
    candidates, references = ["一只狗在跑", "两个人"], [["一只狗在草地上跑"], ["两个女人站着"]]
    texts = [text for reference in references for text in reference]
    scores, _ = compute_metrics(candidates, references, choose_tokenizer("auto", texts))
    assert scores.bleu1 > 0.4
    # to ptb each caption is a single word
    assert compute_metrics(candidates, references)[0].bleu1 == pytest.approx(0, abs=1e-6)
