"""Read a BERT vocabulary from vocab.txt or tokenizer.json, and add BLIP's two tokens."""

import json
from collections.abc import Iterable, Iterator, Sequence
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
from cutline.messages import first_line, format_name, format_value
from cutline.model_files import read_json, read_limited_text
from cutline.strict_json import parse_strict_json

REQUIRED_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
BLIP_TOKENS = ("[DEC]", "[ENC]")
SPECIAL_TOKENS = (*REQUIRED_TOKENS, "[MASK]", *BLIP_TOKENS)
MAX_TOKENS = 1_000_000
"""tokens of a vocabulary; the largest BERT has half as many"""
MAX_ADDED_TOKENS = 10_000
"""tokens that are matched before the text is split, which takes long for many of them"""

# Without those that take a regular expression or a replacement: either can take forever.
_NORMALIZERS = (
    *("BertNormalizer", "Lowercase", "Nmt", "Sequence", "Strip", "StripAccents"),
    *("NFC", "NFD", "NFKC", "NFKD"),
)
_PARTS = ("added_tokens", "normalizer", "pre_tokenizer", "model")
_PRE_TOKENIZERS = (
    *("BertPreTokenizer", "CharDelimiterSplit", "Digits", "Punctuation", "Sequence"),
    *("UnicodeScripts", "Whitespace", "WhitespaceSplit"),
)


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a vocab.txt, a tokenizer.json, or a folder that contains either.

    Raises:
        CheckpointError: There is no such file, or it is not a BERT vocabulary.
    """
    if path.is_dir():
        names = [name for name in ("tokenizer.json", "vocab.txt") if (path / name).is_file()]
        if not names:
            raise CheckpointError(
                f"{path}: the folder contains neither tokenizer.json nor vocab.txt; "
                "put the model's vocabulary there"
            )
        path = path / names[0]
    return _read_tokenizer_file(path) if path.suffix == ".json" else _read_vocab_file(path)


def build_tokenizer(
    tokens: Sequence[str],
    normalizer: normalizers.Normalizer | None,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None,
    added: Iterable[AddedToken] = (),
    **model: Any,
) -> Tokenizer:
    """Build a WordPiece tokenizer.

    Args:
        tokens: The vocabulary; the id of a token is its index. [DEC] and [ENC] are appended
            unless they are in it.
        normalizer: Normalizes text.
        pre_tokenizer: Splits text into words.
        added: Tokens that are matched in the text before it is split into words.
        **model: Further settings of `models.WordPiece`.
    """
    tokens = [*tokens, *(token for token in BLIP_TOKENS if token not in tokens)]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocab, **{"unk_token": "[UNK]", **model}))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    # cutline uses neither of these; other libraries need them in a saved file
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in vocab])
    tokenizer.add_tokens([token for token in added if token.content not in SPECIAL_TOKENS])
    return tokenizer


def _read_vocab_file(file: Path) -> Tokenizer:
    """Read a vocab.txt as BERT does: the id is the line number; of equal lines, the last counts."""
    text = read_limited_text(file).removesuffix("\n")
    _check_count(file, "tokens", text.count("\n") + 1, MAX_TOKENS)
    lines = text.split("\n")
    last = {line: index for index, line in enumerate(lines)}
    tokens = [line if last[line] == index else _fill_gap(index) for index, line in enumerate(lines)]
    _check_tokens(tokens, "[UNK]", file)
    settings = _read_tokenizer_config(file.with_name("tokenizer_config.json"))
    normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    return build_tokenizer(tokens, normalizer, pre_tokenizers.BertPreTokenizer())


def _read_tokenizer_file(file: Path) -> Tokenizer:
    tokenizer = _parse_tokenizer(_read_parts(file), file)
    model = tokenizer.model
    ids = tokenizer.get_vocab(with_added_tokens=True)
    tokens = {index: token for token, index in ids.items()}
    size = max(tokens, default=-1) + 1
    if size > 2 * len(tokens):
        raise CheckpointError(
            f"{file}: {len(tokens)} tokens have ids up to {size - 1}; use a file without such gaps"
        )
    filled = [tokens.get(index, _fill_gap(index)) for index in range(size)]
    _check_tokens(filled, model.unk_token, file)
    return build_tokenizer(
        filled,
        tokenizer.normalizer,
        tokenizer.pre_tokenizer,
        tokenizer.get_added_tokens_decoder().values(),
        unk_token=model.unk_token,
        continuing_subword_prefix=model.continuing_subword_prefix,
        max_input_chars_per_word=model.max_input_chars_per_word,
    )


def _read_parts(file: Path) -> dict[str, Any]:
    """Read the parts of a tokenizer.json that captioners use."""
    try:
        values = parse_strict_json(read_limited_text(file))
    except ValueError as error:
        raise _not_a_tokenizer(file, first_line(error)) from None
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise _not_a_tokenizer(file, "it has no model")
    kind = values["model"].get("type", "WordPiece")
    if kind != "WordPiece":
        raise CheckpointError(
            f"{file}: a {format_name(kind)} tokenizer, but captioners need WordPiece; "
            "use the tokenizer.json of a BERT"
        )
    for part, allowed in (("normalizer", _NORMALIZERS), ("pre_tokenizer", _PRE_TOKENIZERS)):
        if unknown := set(_list_types(values.get(part))).difference(allowed):
            raise CheckpointError(
                f"{file}: the {part} is a {format_value(unknown.pop())}, which no BERT has; "
                "use the tokenizer.json of a BERT"
            )
    for name, tokens, limit in (
        ("tokens", values["model"].get("vocab"), MAX_TOKENS),
        ("added tokens", values.get("added_tokens"), MAX_ADDED_TOKENS),
    ):
        _check_count(file, name, len(tokens) if isinstance(tokens, dict | list) else 0, limit)
    return {name: values.get(name) for name in _PARTS}


def _list_types(part: Any) -> Iterator[str]:
    """Yield the types in a normalizer or pre-tokenizer, which may be a sequence of others."""
    if isinstance(part, dict):
        yield str(part.get("type"))
        for children in part.values():
            for child in children if isinstance(children, list) else ():
                yield from _list_types(child)


def _parse_tokenizer(parts: dict[str, Any], file: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(parts))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tokenizers has no narrower type, and panics are no Exception
        raise _not_a_tokenizer(file, first_line(error)) from None


def _not_a_tokenizer(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{file}: not a tokenizer.json ({reason}); "
        "use the file that came with the model, or its vocab.txt"
    )


def _check_count(file: Path, name: str, count: int, limit: int) -> None:
    if count > limit:
        raise CheckpointError(
            f"{file}: has {count:,} {name}, more than the {limit:,} that a vocabulary may have; "
            "use the vocabulary of a BERT"
        )


def _fill_gap(index: int) -> str:
    """Return a token for an id without one; it has a space, so no word in a text can match it."""
    return f"[hole {index}]"


def _check_tokens(tokens: Sequence[str], unk_token: str, file: Path) -> None:
    known = set(tokens)
    if len(known) < len(tokens):  # a token has the name of one that fills a gap
        raise CheckpointError(f"{file}: has a token twice; use the vocabulary of a BERT")
    missing = [token for token in (*REQUIRED_TOKENS, unk_token) if token not in known]
    if missing:
        names = ", ".join(map(format_name, dict.fromkeys(missing)))
        raise CheckpointError(
            f"{file}: not a BERT vocabulary: {names} missing; "
            "use the vocab.txt or tokenizer.json of the model"
        )


def _read_tokenizer_config(file: Path) -> dict[str, Any]:
    """Read the settings for case, accents and Chinese characters; without a file, {}."""
    if not file.is_file():
        return {}
    values = read_json(file)
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if values.get(name) is None:
            values.pop(name, None)
        elif not isinstance(values[name], bool):
            raise CheckpointError(
                f"{file}: {name} is {format_value(values[name])}; use true or false"
            )
    return values
