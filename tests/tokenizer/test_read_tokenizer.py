"""Reading of valid and invalid vocab.txt and tokenizer.json files."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tokenizers
import transformers
from tokenizers import models

from cutline.errors import CheckpointError
from cutline.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = [*SPECIAL, "a", "picture", "of", "man", "is", "play", "##ing"]


def write_vocab(folder: Path, tokens: list[str]) -> Path:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return folder / "vocab.txt"


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(folder / "saved.json")
    return folder / "saved.json"


def test_line_numbers_are_ids(tmp_path: Path) -> None:
    tokens = ["[PAD]", "dog", "", "[UNK]", "dog", "[CLS]", "", "[SEP]", "\u2028", "a"]
    tokenizer = Tokenizer.load(write_vocab(tmp_path, tokens))
    # of equal lines, BERT uses the last
    assert tokenizer.encode("a dog cat") == ([10, 9, 4, 3, 7], 1)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 3, 5, 7)
    assert (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size) == (10, 11, 12)
    assert Tokenizer.load(save(tokenizer, tmp_path)).encode("a dog cat") == ([10, 9, 4, 3, 7], 1)


def test_windows_line_ends_and_no_final_newline(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\ufeff[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\ndog".encode())
    assert Tokenizer.load(tmp_path).encode("dog") == ([5, 4, 3], 1)


def test_existing_blip_tokens_keep_their_ids(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_vocab(tmp_path, ["[ENC]", *SPECIAL, "a"]))
    assert (tokenizer.enc_id, tokenizer.dec_id, tokenizer.vocab_size) == (0, 7, 8)


def write_bert_json(
    folder: Path, vocab: dict[str, int], added: Sequence[dict[str, object]] = ()
) -> Path:
    """Write a tokenizer.json as transformers does, with the ids of `vocab` and `added` tokens."""
    content = json.loads(
        transformers.BertTokenizer(
            vocab={token: index for index, token in enumerate(SPECIAL)}
        ).backend_tokenizer.to_str()
    )
    content["model"]["vocab"] = vocab
    content["added_tokens"] = list(added)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "tokenizer.json"


def test_blip_tokens_are_appended_to_the_json_of_a_bert(tmp_path: Path) -> None:
    core = transformers.BertTokenizer(
        vocab={token: index for index, token in enumerate(TOKENS)}
    ).backend_tokenizer
    core.enable_padding(length=64)
    core.enable_truncation(4)
    core.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    size = len(TOKENS)
    ids = (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size)
    assert ids == (size, size + 1, size + 2)
    ids, _ = tokenizer.encode("a man is playing", "a picture of ")
    tokens = ["[DEC]", "a", "picture", "of", "a", "man", "is", "play", "##ing", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(ids) == tokens


def test_added_tokens_of_a_json_are_kept(tmp_path: Path) -> None:
    plain = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": False,
    }
    added = [
        {"id": 6, "content": "[DEC]", **plain},
        {"id": 7, "content": "hot dog", **plain},
        {"id": 8, "content": "<x>", **plain, "special": True},
    ]
    vocab = {token: index for index, token in enumerate([*SPECIAL, "a"])}
    tokenizer = Tokenizer.load(write_bert_json(tmp_path, vocab, added))
    assert (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size) == (6, 9, 10)
    assert tokenizer.encode("a hot dog")[0] == [6, 5, 7, 3]
    assert 8 not in tokenizer.encode("<x>")[0]
    assert tokenizer.decode([6, 5, 8, 7, 3]) == "a hot dog"


def test_gaps_between_ids_are_filled(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vocab = {**{token: index for index, token in enumerate(SPECIAL)}, "a": 7, "dog": 9}
    tokenizer = Tokenizer.load(write_bert_json(tmp_path, vocab))
    capfd.readouterr()
    assert (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size) == (10, 11, 12)
    assert Tokenizer.load(save(tokenizer, tmp_path)).encode("a dog") == ([10, 7, 9, 3], 1)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(CheckpointError, match="gaps"):
        Tokenizer.load(write_bert_json(tmp_path, {**vocab, "cat": 2_000_000_000}))


def test_json_takes_precedence_in_a_folder(tmp_path: Path) -> None:
    write_vocab(tmp_path, [*SPECIAL, "old"])
    assert Tokenizer.load(tmp_path).vocab_size == 8
    write_bert_json(
        tmp_path, {token: index for index, token in enumerate([*SPECIAL, "new", "tokens"])}
    )
    assert Tokenizer.load(str(tmp_path)).vocab_size == 9


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip", [True, False, None])
def test_settings_beside_vocab_txt_are_used(
    tmp_path: Path, lowercase: bool, strip: bool | None
) -> None:
    words = ["Été", "été", "Ete", "ete"]
    write_vocab(tmp_path, [*SPECIAL, *words])
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": lowercase, "strip_accents": strip})
    )
    reference = transformers.BertTokenizer(
        vocab={token: index for index, token in enumerate([*SPECIAL, *words])},
        do_lower_case=lowercase,
        strip_accents=strip,
    )
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode_text("Été été") == reference("Été été")["input_ids"]
    assert (
        Tokenizer.load(save(tokenizer, tmp_path)).encode_text("Été été")
        == reference("Été été")["input_ids"]
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", None, "No such file"),
        ("vocab.txt", b"[PAD]\n[UNK]\na\n", r"\[CLS\], \[SEP\] missing"),
        ("vocab.txt", b"", r"\[PAD\], \[UNK\], \[CLS\], \[SEP\] missing"),
        ("vocab.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("tokenizer.json", b"\xff\xfe\x00", "not UTF-8"),
        ("tokenizer.json", b"{", "not a tokenizer.json"),
        ("tokenizer.json", b"[]", "not a tokenizer.json"),
        ("tokenizer.json", tokenizers.Tokenizer(models.BPE()).to_str().encode(), "BPE tokenizer"),
        (
            "tokenizer.json",
            tokenizers.Tokenizer(models.WordPiece({"a": 0})).to_str().encode(),
            r"\[UNK\], \[CLS\], \[SEP\] missing",
        ),
    ],
)
def test_invalid_files_are_errors_that_name_the_file(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        Tokenizer.load(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


REGEX = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"}
SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("normalizer", REGEX, "the normalizer is a 'Replace', which no BERT has"),
        ("normalizer", {"type": "Sequence", "normalizers": [REGEX]}, "is a 'Replace'"),
        ("pre_tokenizer", SPLIT, "the pre_tokenizer is a 'Split'"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [SPLIT]}, "is a 'Split'"),
        ("added_tokens", [{}] * 10_001, "has 10,001 added tokens, more than the 10,000"),
        ("added_tokens", [{"id": 5}], "not a tokenizer.json"),
    ],
)
def test_parts_that_may_take_forever_are_errors(
    tmp_path: Path, part: str, value: object, message: str
) -> None:
    file = write_bert_json(tmp_path, {token: index for index, token in enumerate(SPECIAL)})
    file.write_text(json.dumps(json.loads(file.read_text()) | {part: value}))
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(file)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"unk_token": "<unk>"}, "<unk> missing"),
        ({"vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[hole 4]": 5}}, "a token twi"),
        ({"vocab": {"[PAD]": 2**32}}, "not a tokenizer.json"),
    ],
)
def test_vocabularies_that_do_not_fit_together_are_errors(
    tmp_path: Path, model: dict[str, object], message: str
) -> None:
    file = write_bert_json(tmp_path, {token: index for index, token in enumerate(SPECIAL)})
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"model": values["model"] | model}))
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(file)


def test_a_vocabulary_with_millions_of_lines_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("w\n" * 1_000_001)
    with pytest.raises(CheckpointError, match=r"vocab\.txt: has 1,000,001 tokens, more than"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "settings", ["{", "[]", '{"do_lower_case": "yes"}', '{"strip_accents": 1}']
)
def test_invalid_settings_are_errors(tmp_path: Path, settings: str) -> None:
    write_vocab(tmp_path, TOKENS)
    (tmp_path / "tokenizer_config.json").write_text(settings)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        Tokenizer.load(tmp_path)


def test_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither"):
        Tokenizer.load(tmp_path)
