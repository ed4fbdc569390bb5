"""Words of captions in any language."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics import choose_tokenizer, measure, ptb
from cutline.metrics.tokenizers import characters, mostly_unspaced, words

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
    assert words(text) == [unicodedata.normalize("NFC", word) for word in expected.split()]


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
    assert characters(text) == expected.split()


@given(st.text() | st.text(alphabet=st.sampled_from(CHINESE + JAPANESE + THAI + "aß é'-.")))
def test_characters_are_the_words_cut_further(text: str) -> None:
    assert "".join(characters(text)) == "".join(words(text))
    assert words(text) == words(unicodedata.normalize("NFC", text))
    assert all(word and not word.isspace() for word in characters(text))


@given(
    st.text(alphabet=st.sampled_from("äöüßéèệđÄÖÅñçabcXYZ ,.'-"), max_size=20),
    st.sampled_from(["auto", "words", "characters"]),
)
def test_a_letter_is_the_same_however_it_is_typed(text: str, tokens: str) -> None:
    tokenize = choose_tokenizer(tokens, ["ein Hund"])  # type: ignore[arg-type]
    assert tokenize(unicodedata.normalize("NFD", text)) == tokenize(
        unicodedata.normalize("NFC", text)
    )


def test_the_fields_tokens_take_a_letter_typed_otherwise_for_another() -> None:
    """Why auto composes letters first."""
    assert ptb.tokenize("läuft") == ["läuft"] != ptb.tokenize(unicodedata.normalize("NFD", "läuft"))
    assert len(ptb.tokenize(unicodedata.normalize("NFD", VIETNAMESE))) == len(
        ptb.tokenize(VIETNAMESE)
    )


@pytest.mark.parametrize("text", [GERMAN, VIETNAMESE])
def test_the_fields_tokens_of_spaced_latin_text_are_its_words(text: str) -> None:
    assert ptb.tokenize(text) == words(text)


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
def test_scripts_without_spaces(text: str, unspaced: bool) -> None:
    assert mostly_unspaced([text]) is unspaced
    assert (choose_tokenizer("auto", [text]) is characters) is unspaced


def test_the_references_decide_not_the_caption() -> None:
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
    whole, _ = measure(
        candidates,
        references,
        choose_tokenizer("auto", [text for of_picture in references for text in of_picture]),
    )
    assert whole.bleu1 > 0.4
    assert measure(candidates, references)[0].bleu1 == pytest.approx(
        0, abs=1e-6
    )  # to ptb the sentence is one word
