"""Read a BERT vocabulary, vocab.txt or tokenizer.json, and put BLIP's two tokens behind it."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from cutline.errors import CheckpointError

REQUIRED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
BLIP = ("[DEC]", "[ENC]")
SPECIAL = (*REQUIRED, "[MASK]", *BLIP)


def read_tokenizer(path: Path) -> Tokenizer:
    """Read `vocab.txt`, `tokenizer.json`, or a folder holding either. Raises CheckpointError."""
    if path.is_dir():
        names = [name for name in ("tokenizer.json", "vocab.txt") if (path / name).is_file()]
        if not names:
            raise CheckpointError(
                f"{path}: the folder holds neither tokenizer.json nor vocab.txt; put the model's vocabulary there"
            )
        path = path / names[0]
    return _read_json(path) if path.suffix == ".json" else _read_lines(path)


def assemble(
    pieces: Sequence[str],
    normalizer: normalizers.Normalizer | None,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None,
    added: Iterable[AddedToken] = (),
    **model: Any,
) -> Tokenizer:
    """A WordPiece tokenizer whose ids are the positions in `pieces`; [DEC] and [ENC] go to the end unless they are there.

    `added` are tokens that are found in text before words are; `model` holds further settings of `models.WordPiece`.
    """
    pieces = [*pieces, *(token for token in BLIP if token not in pieces)]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, **{"unk_token": "[UNK]", **model}))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    # Neither is used here: they are for whoever opens the saved file with another library.
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([token for token in SPECIAL if token in vocab])
    tokenizer.add_tokens([token for token in added if token.content not in SPECIAL])
    return tokenizer


def _read_lines(file: Path) -> Tokenizer:
    """As BERT reads it: the id is the line number, and of equal lines the last one counts."""
    lines = _text(file).removesuffix("\n").split("\n")
    last = {line: index for index, line in enumerate(lines)}
    pieces = [line if last[line] == index else _hole(index) for index, line in enumerate(lines)]
    _check(pieces, file)
    settings = _settings(file.with_name("tokenizer_config.json"))
    normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    return assemble(pieces, normalizer, pre_tokenizers.BertPreTokenizer())


def _read_json(file: Path) -> Tokenizer:
    try:
        read = Tokenizer.from_str(_text(file))
    except CheckpointError:
        raise
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(
            f"{file}: not a tokenizer.json ({error}); give the one that came with the model, or its vocab.txt"
        ) from None
    model = read.model
    if not isinstance(model, models.WordPiece):
        raise CheckpointError(
            f"{file}: a {type(model).__name__} tokenizer, but captioners read WordPiece; give a BERT's tokenizer.json"
        )
    named = {index: piece for piece, index in read.get_vocab(with_added_tokens=True).items()}
    _check(named.values(), file)
    size = max(named) + 1
    if size > 2 * len(named):
        raise CheckpointError(
            f"{file}: {len(named)} pieces have ids up to {max(named)}; give a file whose ids have no such gaps"
        )
    return assemble(
        [named.get(index, _hole(index)) for index in range(size)],
        read.normalizer,
        read.pre_tokenizer,
        read.get_added_tokens_decoder().values(),
        unk_token=model.unk_token,
        continuing_subword_prefix=model.continuing_subword_prefix,
        max_input_chars_per_word=model.max_input_chars_per_word,
    )


def _hole(index: int) -> str:
    """A name for an id without a piece; no text can contain it as a word, for it holds a space."""
    return f"[hole {index}]"


def _check(pieces: Iterable[str], file: Path) -> None:
    missing = set(REQUIRED).difference(pieces)
    if missing:
        names = ", ".join(token for token in REQUIRED if token in missing)
        raise CheckpointError(
            f"{file}: no BERT vocabulary, {names} missing; give the vocab.txt or tokenizer.json of the model"
        )


def _settings(file: Path) -> dict[str, Any]:
    """What tokenizer_config.json says about case and accents; nothing where it does not exist."""
    if not file.is_file():
        return {}
    try:
        values = json.loads(_text(file))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: not a JSON object; mend it or delete it")
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if values.get(name) is None:
            values.pop(name, None)
        elif not isinstance(values[name], bool):
            raise CheckpointError(f"{file}: {name} is {values[name]!r}; write true or false")
    return values


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CheckpointError(f"{file}: the vocabulary cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CheckpointError(
            f"{file}: not UTF-8 text; give a vocab.txt or tokenizer.json"
        ) from None
