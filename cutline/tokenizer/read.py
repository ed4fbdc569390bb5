"""Read a BERT vocabulary from vocab.txt or tokenizer.json, and add BLIP's two tokens."""

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

REQUIRED_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
BLIP_TOKENS = ("[DEC]", "[ENC]")
SPECIAL_TOKENS = (*REQUIRED_TOKENS, "[MASK]", *BLIP_TOKENS)


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
    lines = _read_text(file).removesuffix("\n").split("\n")
    last = {line: index for index, line in enumerate(lines)}
    tokens = [line if last[line] == index else _fill_gap(index) for index, line in enumerate(lines)]
    _check_required(tokens, file)
    settings = _read_tokenizer_config(file.with_name("tokenizer_config.json"))
    normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    return build_tokenizer(tokens, normalizer, pre_tokenizers.BertPreTokenizer())


def _read_tokenizer_file(file: Path) -> Tokenizer:
    text = _read_text(file)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # tokenizers has no narrower type
        raise CheckpointError(
            f"{file}: not a tokenizer.json ({error}); "
            "use the file that came with the model, or its vocab.txt"
        ) from None
    model = tokenizer.model
    if not isinstance(model, models.WordPiece):
        raise CheckpointError(
            f"{file}: a {type(model).__name__} tokenizer, but captioners need WordPiece; "
            "use the tokenizer.json of a BERT"
        )
    tokens = {index: token for token, index in tokenizer.get_vocab(with_added_tokens=True).items()}
    _check_required(tokens.values(), file)
    size = max(tokens) + 1
    if size > 2 * len(tokens):
        raise CheckpointError(
            f"{file}: {len(tokens)} tokens have ids up to {size - 1}; use a file without such gaps"
        )
    return build_tokenizer(
        [tokens.get(index, _fill_gap(index)) for index in range(size)],
        tokenizer.normalizer,
        tokenizer.pre_tokenizer,
        tokenizer.get_added_tokens_decoder().values(),
        unk_token=model.unk_token,
        continuing_subword_prefix=model.continuing_subword_prefix,
        max_input_chars_per_word=model.max_input_chars_per_word,
    )


def _fill_gap(index: int) -> str:
    """Return a token for an id without one; it has a space, so no word in a text can match it."""
    return f"[hole {index}]"


def _check_required(tokens: Iterable[str], file: Path) -> None:
    missing = set(REQUIRED_TOKENS).difference(tokens)
    if missing:
        names = ", ".join(token for token in REQUIRED_TOKENS if token in missing)
        raise CheckpointError(
            f"{file}: not a BERT vocabulary: {names} missing; "
            "use the vocab.txt or tokenizer.json of the model"
        )


def _read_tokenizer_config(file: Path) -> dict[str, Any]:
    """Read the settings for case, accents and Chinese characters; without a file, {}."""
    if not file.is_file():
        return {}
    try:
        values = json.loads(_read_text(file))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: not a JSON object; correct or delete the file")
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if values.get(name) is None:
            values.pop(name, None)
        elif not isinstance(values[name], bool):
            raise CheckpointError(f"{file}: {name} is {values[name]!r}; use true or false")
    return values


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CheckpointError(
            f"{file}: the vocabulary cannot be read ({error.strerror}); check the path"
        ) from None
    except UnicodeDecodeError:
        raise CheckpointError(
            f"{file}: not UTF-8 text; use a vocab.txt or tokenizer.json"
        ) from None
