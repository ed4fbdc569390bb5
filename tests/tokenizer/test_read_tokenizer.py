"""CaptionRules vocab.txt and tokenizer.json, sound and broken."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models
from transformers import BertTokenizer

from cutline.errors import CheckpointError
from cutline.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, "a", "image", "of", "man", "is", "play", "##ing"]


def write_vocab(folder: Path, pieces: list[str]) -> Path:
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return folder / "vocab.txt"


def saved(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(folder / "saved.json")
    return folder / "saved.json"


def test_line_numbers_are_ids(tmp_path: Path) -> None:
    pieces = ["[PAD]", "dog", "", "[UNK]", "dog", "[CLS]", "", "[SEP]", "\u2028", "a"]
    tokenizer = Tokenizer.load(write_vocab(tmp_path, pieces))
    assert tokenizer.encode("a dog cat") == (
        [10, 9, 4, 3, 7],
        1,
    )  # of equal lines BERT takes the last
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 3, 5, 7)
    assert (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size) == (10, 11, 12)
    assert Tokenizer.load(saved(tokenizer, tmp_path)).encode("a dog cat") == ([10, 9, 4, 3, 7], 1)


def test_windows_line_ends_and_a_missing_last_one(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("\ufeff[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\ndog".encode())
    assert Tokenizer.load(tmp_path).encode("dog") == ([5, 4, 3], 1)


def test_blip_tokens_already_there_keep_their_ids(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_vocab(tmp_path, ["[ENC]", *SPECIAL, "a"]))
    assert (tokenizer.enc_id, tokenizer.dec_id, tokenizer.vocab_size) == (0, 7, 8)


def bert_json(folder: Path, vocab: dict[str, int], added: Sequence[dict[str, object]] = ()) -> Path:
    """A tokenizer.json as transformers writes it, with the ids of `vocab` and `added` tokens."""
    layout = json.loads(
        BertTokenizer(
            vocab={piece: index for index, piece in enumerate(SPECIAL)}
        ).backend_tokenizer.to_str()
    )
    layout["model"]["vocab"] = vocab
    layout["added_tokens"] = list(added)
    (folder / "tokenizer.json").write_text(json.dumps(layout), encoding="utf-8")
    return folder / "tokenizer.json"


def test_a_berts_json_gets_the_blip_tokens(tmp_path: Path) -> None:
    core = BertTokenizer(
        vocab={piece: index for index, piece in enumerate(PIECES)}
    ).backend_tokenizer
    core.enable_padding(length=64)
    core.enable_truncation(4)
    core.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size) == (
        len(PIECES),
        len(PIECES) + 1,
        len(PIECES) + 2,
    )
    ids, _ = tokenizer.encode("a man is playing", "a picture of ")
    assert tokenizer.pieces(ids) == [
        "[DEC]",
        "a",
        "image",
        "of",
        "a",
        "man",
        "is",
        "play",
        "##ing",
        "[SEP]",
    ]


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
    vocab = {piece: index for index, piece in enumerate([*SPECIAL, "a"])}
    tokenizer = Tokenizer.load(bert_json(tmp_path, vocab, added))
    assert (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size) == (6, 9, 10)
    assert tokenizer.encode("a hot dog")[0] == [6, 5, 7, 3]
    assert 8 not in tokenizer.encode("<x>")[0]
    assert tokenizer.decode([6, 5, 8, 7, 3]) == "a hot dog"


def test_gaps_between_the_ids_of_a_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vocab = {**{piece: index for index, piece in enumerate(SPECIAL)}, "a": 7, "dog": 9}
    tokenizer = Tokenizer.load(bert_json(tmp_path, vocab))
    capfd.readouterr()
    assert (tokenizer.dec_id, tokenizer.enc_id, tokenizer.vocab_size) == (10, 11, 12)
    assert Tokenizer.load(saved(tokenizer, tmp_path)).encode("a dog") == ([10, 7, 9, 3], 1)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(CheckpointError, match="gaps"):
        Tokenizer.load(bert_json(tmp_path, {**vocab, "cat": 2_000_000_000}))


def test_a_folder_prefers_its_json(tmp_path: Path) -> None:
    write_vocab(tmp_path, [*SPECIAL, "old"])
    assert Tokenizer.load(tmp_path).vocab_size == 8
    bert_json(tmp_path, {piece: index for index, piece in enumerate([*SPECIAL, "new", "pieces"])})
    assert Tokenizer.load(str(tmp_path)).vocab_size == 9


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip", [True, False, None])
def test_settings_beside_a_vocabulary(tmp_path: Path, lowercase: bool, strip: bool | None) -> None:
    words = ["Été", "été", "Ete", "ete"]
    write_vocab(tmp_path, [*SPECIAL, *words])
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": lowercase, "strip_accents": strip})
    )
    reference = BertTokenizer(
        vocab={piece: index for index, piece in enumerate([*SPECIAL, *words])},
        do_lower_case=lowercase,
        strip_accents=strip,
    )
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode_text("Été été") == reference("Été été")["input_ids"]
    assert (
        Tokenizer.load(saved(tokenizer, tmp_path)).encode_text("Été été")
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
def test_bad_files_are_named_in_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        Tokenizer.load(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", ["{", "[]", '{"do_lower_case": "yes"}', '{"strip_accents": 1}']
)
def test_bad_settings_are_refused(tmp_path: Path, settings: str) -> None:
    write_vocab(tmp_path, PIECES)
    (tmp_path / "tokenizer_config.json").write_text(settings)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        Tokenizer.load(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither"):
        Tokenizer.load(tmp_path)
