"""The tokenizer: parity with BertTokenizer of transformers, special tokens, and saving."""

import copy
import json
import pickle
import string
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import transformers
from golden_folder import GoldenFolder
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.errors import ConfigError
from cutline.messages import format_value
from cutline.tokenizer import Tokenizer, clean_caption

if TYPE_CHECKING:
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = string.ascii_lowercase + string.digits + "éñüạαшא한가かカ۾"
WORDS = [
    "dog",
    "##gy",
    "man",
    "##s",
    "don",
    "is",
    "play",
    "##ing",
    "ve",
    "re",
    "picture",
    "of",
    "人",
    "狗",
    "。",
]
VOCAB = list(
    dict.fromkeys(
        [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *string.punctuation, *WORDS]
    )
)
PROMPT = "a picture of "
TEXT = (
    st.text()
    | st.lists(
        st.sampled_from(
            [*LETTERS, *" \t\n\u00a0.,'!?-#[]AÉ人狗\u0301\u200d", "[SEP]", "[DEC]", "##s", " dog"]
        )
    ).map("".join)
    | st.text(alphabet=st.characters(codec="ascii"))
)
any_text = settings(deadline=None)  # the first example also loads the tokenizer


@pytest.fixture(scope="module")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    file.write_text("".join(f"{token}\n" for token in VOCAB), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def small(vocab: Path) -> Tokenizer:
    return Tokenizer.load(vocab)


@pytest.fixture(scope="module")
def bert(shared: Path) -> Tokenizer:
    return Tokenizer.load(shared / "fixtures" / "bert-base-uncased-vocab.txt")


@cache
def make_small_reference() -> "transformers.BertTokenizer":
    """Make a reference that treats "[SEP]" in a text as text.

    BLIP's code lowercases captions, with the same effect.
    """
    return transformers.BertTokenizer(
        vocab={token: index for index, token in enumerate(VOCAB)}, split_special_tokens=True
    )


# --- parity with the golden numbers


def test_special_ids_of_the_published_vocabulary(bert: Tokenizer) -> None:
    assert (bert.pad_id, bert.unk_id, bert.cls_id, bert.sep_id) == (0, 100, 101, 102)
    assert (bert.dec_id, bert.enc_id, bert.vocab_size) == (30522, 30523, 30524)


def test_captions_of_photographs_get_the_ids_of_transformers(bert: Tokenizer, shared: Path) -> None:
    reference = transformers.BertTokenizer(
        vocab=str(shared / "fixtures" / "bert-base-uncased-vocab.txt")
    )
    texts = [file.read_text(encoding="utf-8") for file in (shared / "data").glob("*/*.jsonl")]
    captions = sorted(
        {
            caption
            for text in texts
            for line in text.splitlines()
            for caption in json.loads(line)["captions"]
        }
    )
    assert len(captions) > 5_000
    expected = reference(captions, truncation=True, max_length=35)["input_ids"]
    assert [bert.encode_text(caption) for caption in captions] == expected
    prompted = reference(
        [PROMPT + caption for caption in captions], truncation=True, max_length=40
    )["input_ids"]
    pairs = bert.encode_batch(captions, [PROMPT] * len(captions))
    assert [ids for ids, _ in pairs] == [[bert.dec_id, *ids[1:]] for ids in prompted]
    assert {length for _, length in pairs} == {4}


def test_golden_training_ids(golden_folder: GoldenFolder) -> None:
    golden, expected = golden_folder.expected, golden_folder.tensors
    tokenizer = Tokenizer.load(golden_folder.vocabulary)
    captions = [clean_caption(caption, "blip", 30) for caption in golden["raw_captions"]]
    assert [PROMPT + caption for caption in captions] == golden["captions_with_prompt"]
    for caption, ids, mask, labels in zip(
        captions, expected["input_ids"], expected["attention_mask"], expected["labels"], strict=True
    ):
        token_ids, prompt_length = tokenizer.encode(caption, PROMPT)
        assert token_ids == ids[mask == 1].tolist()
        assert set(ids[mask == 0].tolist()) <= {tokenizer.pad_id}
        assert [*[-100] * prompt_length, *token_ids[prompt_length:]] == labels[mask == 1].tolist()


def test_golden_captions_are_decoded(golden_folder: GoldenFolder) -> None:
    tokenizer = Tokenizer.load(golden_folder.vocabulary)
    prompt = tokenizer.encode_prompt(PROMPT)
    # Rows of expected.json have the start token, the prompt, [SEP] and padding.
    for run in golden_folder.expected["generate"]:
        assert all(ids[: len(prompt)] == prompt for ids in run["token_ids"])
        captions = [tokenizer.decode(ids[len(prompt) :]) for ids in run["token_ids"]]
        assert captions == run["captions"]
    # Rows of unseen.json are the token ids of the caption alone.
    for run in golden_folder.read_json("unseen")["generate"]:
        assert [tokenizer.decode(ids) for ids in run["token_ids"]] == run["captions"]


# --- parity with transformers on any text


@any_text
@given(TEXT)
def test_any_text_gets_the_ids_of_transformers(small: Tokenizer, text: str) -> None:
    expected = make_small_reference()(text, add_special_tokens=False)["input_ids"]
    assert small.encode_prompt(text) == [small.dec_id, *expected]
    assert small.encode_text(text, 10_000) == [small.cls_id, *expected, small.sep_id]
    assert (
        small.encode_text(text, 7)
        == make_small_reference()(text, truncation=True, max_length=7)["input_ids"]
    )


@any_text
@given(TEXT, st.sampled_from([" ", "\n", "\u3000"]), TEXT, st.integers(2, 30))
def test_prompt_and_caption_equal_their_concatenation(
    small: Tokenizer, prompt: str, space: str, caption: str, max_tokens: int
) -> None:
    ids, prompt_length = small.encode(caption, prompt + space, max_tokens)
    concatenated = make_small_reference()(
        prompt + space + caption, truncation=True, max_length=max_tokens
    )["input_ids"]
    assert ids == [small.dec_id, *concatenated[1:]]
    assert prompt_length == len(small.encode_prompt(prompt))


@any_text
@given(st.lists(st.integers(0, len(VOCAB) - 1)))
def test_decoding_equals_transformers(small: Tokenizer, vocab: Path, ids: list[int]) -> None:
    def decode(ids: list[int]) -> str:
        return str(
            make_slow_reference(vocab).decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=True
            )
        )

    assert small.decode_as_bert(ids) == decode(ids)
    # `decode` joins Chinese and Japanese without spaces, transformers does not
    ids = [index for index in ids if not set(VOCAB[index]) & set("人狗。かカ")]
    assert small.decode(ids) == decode(ids).removeprefix("##")


@cache
def make_slow_reference(vocab: Path) -> "BertTokenizerLegacy":
    """Make the class whose `decode` cleans complete captions, as the library of BLIP's code did."""
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    return BertTokenizerLegacy(str(vocab))


@any_text
@given(
    st.lists(st.tuples(TEXT, st.sampled_from(["", PROMPT, "a dog"])), max_size=5),
    st.integers(2, 20),
)
def test_batches_equal_single_captions(
    small: Tokenizer, pairs: list[tuple[str, str]], max_tokens: int
) -> None:
    captions, prompts = [caption for caption, _ in pairs], [prompt for _, prompt in pairs]
    assert small.encode_batch(captions, prompts, max_tokens) == [
        small.encode(caption, prompt, max_tokens) for caption, prompt in pairs
    ]


def test_batches_of_unequal_lengths_are_errors(small: Tokenizer) -> None:
    with pytest.raises(ValueError, match="zip"):
        small.encode_batch(["a dog", "a man"], [PROMPT])


# --- special tokens in text


def save_and_load(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    tokenizer.save(folder / "tokenizer.json")
    return Tokenizer.load(folder)


COPIES: dict[str, Callable[[Tokenizer, Path], Tokenizer]] = {
    "itself": lambda tokenizer, folder: tokenizer,
    "file": save_and_load,
    "pickle": lambda tokenizer, folder: pickle.loads(pickle.dumps(tokenizer)),
    "copy": lambda tokenizer, folder: copy.deepcopy(tokenizer),
}


@pytest.mark.parametrize("how", COPIES)
def test_special_tokens_in_text_are_plain_text(small: Tokenizer, tmp_path: Path, how: str) -> None:
    tokenizer = COPIES[how](small, tmp_path)
    for name in [*SPECIAL, "[DEC]", "[ENC]"]:
        ids, prompt_length = tokenizer.encode(f"a{name} dog", f"{name} of ")
        specials = {small.pad_id, small.unk_id, small.cls_id, small.sep_id}
        specials |= {small.dec_id, small.enc_id}
        assert specials.isdisjoint(ids[1:-1])
        assert tokenizer.decode(ids).replace(" ", "") == f"{name}ofa{name}dog".lower()
        assert prompt_length == len(tokenizer.encode_prompt(f"{name} of "))


def test_bad_words_are_encoded_as_in_captions(small: Tokenizer) -> None:
    words = ["Dog", " doggy  man", "人", "[SEP]"]
    encoded = small.encode_bad_words(words)
    assert encoded == [small.encode_prompt(word)[1:] for word in words]
    assert list(map(len, encoded)) == [1, 3, 1, 5]
    assert small.encode_bad_words(()) == []


@pytest.mark.parametrize("word", ["😀", "dog 😀", "\u200b", "\udcff", "x" * 1000])
def test_bad_words_that_cannot_be_generated_are_errors(small: Tokenizer, word: str) -> None:
    with pytest.raises(ConfigError) as error:
        small.encode_bad_words(["dog", word])
    assert str(error.value) == (
        f"bad_words {format_value(word)} is not in the model's vocabulary, so it is never "
        "generated: remove it"
    )


def test_lone_surrogates_are_removed(small: Tokenizer) -> None:
    assert small.encode("a \ud83ddog") == small.encode("a dog")
    assert small.encode_batch(["a \ud83ddog"], ["\udc00"]) == [small.encode("a dog")]


def test_ids_convert_to_all_tokens(small: Tokenizer) -> None:
    ids, _ = small.encode("Doggy, ¿!", "a")
    tokens = ["[DEC]", "a", "dog", "##gy", ",", "[UNK]", "!", "[SEP]"]
    assert small.convert_ids_to_tokens(ids) == tokens
    assert small.decode(ids) == "a doggy,!"


@pytest.mark.parametrize("index", [-100, -1, 10_000])
def test_ids_outside_the_vocabulary_are_errors(small: Tokenizer, index: int) -> None:
    with pytest.raises(KeyError):
        small.decode([index])
    with pytest.raises(KeyError):
        small.convert_ids_to_tokens([index])


# --- saving


@pytest.fixture(scope="module")
def reloaded(small: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return save_and_load(small, tmp_path_factory.mktemp("saved"))


@any_text
@given(TEXT)
def test_saved_tokenizer_gives_the_same_ids(
    small: Tokenizer, reloaded: Tokenizer, text: str
) -> None:
    assert reloaded.encode(text, PROMPT) == small.encode(text, PROMPT)


def test_saved_tokenizer_is_equal(small: Tokenizer, reloaded: Tokenizer, tmp_path: Path) -> None:
    names = ("vocab_size", "pad_id", "unk_id", "cls_id", "sep_id", "dec_id", "enc_id")
    assert [getattr(reloaded, name) for name in names] == [getattr(small, name) for name in names]
    small.save(tmp_path / "first.json")
    reloaded.save(tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_other_libraries_read_a_saved_tokenizer(small: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    small.save(file)
    other = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file))
    ids = other("A doggy is playing")["input_ids"]
    assert ids == small.encode_text("A doggy is playing")
    assert other.decode(ids, skip_special_tokens=True) == small.decode(ids) == "a doggy is playing"
