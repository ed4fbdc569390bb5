"""Check captions as training reads them: cleaned, truncated and tokenized."""

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cutline.check.findings import Finding
from cutline.config import CaptionText
from cutline.data import Sample
from cutline.metrics import Histogram
from cutline.metrics.tokenizers import split_unspaced
from cutline.tokenizer import Tokenizer, clean_caption

MIN_COMMON = 10
"""smallest number of images that must share a caption for it to be reported"""
MAX_NAMES = 1000
"""largest number of images that are named for a word that is not in the vocabulary"""
_BATCH_SIZE = 4096  # captions tokenized together
# the replacement character, lone surrogates, and control characters other than whitespace
_INVALID = re.compile("[\ufffd\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class TokenCheck:
    """The result of `check_tokens`; the defaults are the result without a tokenizer."""

    findings: Sequence[Finding] = ()
    lengths: Histogram | None = None
    """tokens per caption before truncation, including prompt, [DEC] and [SEP]"""
    unknown_words: Mapping[str, int] = field(default_factory=dict)
    """word that is encoded as [UNK] → number of occurrences, most frequent first"""
    unknown_characters: Mapping[str, int] = field(default_factory=dict)
    """character missing from the vocabulary → number of its occurrences in unknown words, most
    frequent first"""


def check_captions(samples: Sequence[Sample], text: CaptionText) -> tuple[list[Finding], Histogram]:
    """Check the text of captions.

    Returns:
        The findings, and the number of words per cleaned caption before truncation.
    """
    findings: list[Finding] = []
    lengths: list[int] = []
    names_by_caption: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        cleaned = [clean_caption(caption, text.clean, sys.maxsize) for caption in sample.captions]
        lengths += map(count_words, cleaned)
        findings += _check_sample(sample, cleaned, text.max_words)
        for caption in filter(None, dict.fromkeys(cleaned)):
            names_by_caption[caption].append(sample.name)
    findings += _find_common_captions(names_by_caption)
    return findings, Histogram.from_values(lengths)


def count_words(caption: str) -> int:
    """Return the number of words of a cleaned caption, as `clean_caption` counts them."""
    return len(caption.split(" ")) if caption else 0


def _check_sample(sample: Sample, cleaned: Sequence[str], max_words: int) -> Iterator[Finding]:
    """Yield the findings about an image's captions; `cleaned` are the same captions, cleaned."""
    if not any(cleaned):
        reason = "all of its captions are empty after cleaning" if cleaned else "it has no caption"
        yield Finding("uncaptioned", sample.name, reason)
    for caption, cleaned_caption in zip(sample.captions, cleaned, strict=True):
        if not cleaned_caption:
            yield Finding("empty_caption", sample.name, f"{quote(caption)} is empty after cleaning")
        if (count := count_words(cleaned_caption)) > max_words:
            text = quote(cleaned_caption)
            detail = f"{text} has {count:,} words and is truncated to {max_words}"
            yield Finding("long_caption", sample.name, detail)
        if match := _INVALID.search(caption):
            character = f"U+{ord(match[0]):04X}"
            detail = f"{quote(caption)} contains {character}; fix the encoding of the file"
            yield Finding("broken_text", sample.name, detail)
    for text, count in Counter(filter(None, cleaned)).items():
        if count > 1:
            yield Finding("repeated_caption", sample.name, f"{quote(text)} occurs {count} times")


def _find_common_captions(names_by_caption: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Yield a finding for each caption that at least MIN_COMMON images share."""
    items = sorted(names_by_caption.items(), key=lambda item: (-len(item[1]), item[0]))
    for caption, names in items:
        if len(names) >= MIN_COMMON:
            detail = f"{quote(caption)} is a caption of {len(names):,} images"
            yield Finding("common_caption", min(names), detail, tuple(names))


def check_tokens(
    samples: Sequence[Sample], text: CaptionText, prompt: str, tokenizer: Tokenizer
) -> TokenCheck:
    """Check the tokens of captions: their number, and which words the vocabulary lacks.

    Args:
        samples: The dataset; samples of the same image may differ in their prompts.
        text: How captions are cleaned and truncated.
        prompt: Prompt of samples that have none of their own.
        tokenizer: Tokenizer of the model.
    """
    findings: list[Finding] = []
    lengths: list[int] = []
    unknown_words: Counter[str] = Counter()
    names_by_word: dict[str, dict[str, None]] = defaultdict(dict)  # a set in order
    for sample, caption, ids in _tokenize(samples, text, prompt, tokenizer):
        lengths.append(len(ids))
        if len(ids) > text.max_tokens:
            limit = text.max_tokens
            detail = f"{quote(caption)} has {len(ids)} tokens and is truncated to {limit}"
            findings.append(Finding("cut_caption", sample.name, detail))
        if tokenizer.unk_id in ids:
            for chunk in caption.split():
                for word in _find_unknown_words(chunk, tokenizer):
                    unknown_words[word] += 1
                    if len(names_by_word[word]) < MAX_NAMES:
                        names_by_word[word][sample.name] = None
    findings += [
        Finding(
            "unknown_word", "", f"“{word}” occurs {_format_times(count)}", (*names_by_word[word],)
        )
        for word, count in unknown_words.most_common()
    ]
    unknown_characters = _count_unknown_characters(unknown_words, tokenizer)
    return TokenCheck(
        findings,
        Histogram.from_values(lengths),
        dict(unknown_words.most_common()),
        dict(unknown_characters.most_common()),
    )


def _format_times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _tokenize(
    samples: Sequence[Sample], text: CaptionText, prompt: str, tokenizer: Tokenizer
) -> Iterator[tuple[Sample, str, list[int]]]:
    """Yield each nonempty caption, truncated to `max_words`, with all of its tokens."""
    pairs = [
        (sample, truncated)
        for sample in samples
        for caption in sample.captions
        if (truncated := clean_caption(caption, text.clean, text.max_words))
    ]
    for start in range(0, len(pairs), _BATCH_SIZE):
        batch = pairs[start : start + _BATCH_SIZE]
        captions = [caption for _, caption in batch]
        prompts = [sample.prompt_or(prompt) for sample, _ in batch]
        encoded = tokenizer.encode_batch(captions, prompts, sys.maxsize)
        for (sample, caption), (ids, _) in zip(batch, encoded, strict=True):
            yield sample, caption, ids


def _find_unknown_words(chunk: str, tokenizer: Tokenizer) -> list[str]:
    """Return the words of `chunk`, a text without spaces, that are encoded as [UNK].

    If the chunk is unknown although each of its words is known by itself, all of
    its words are returned.
    """
    if not _is_unknown(chunk, tokenizer):
        return []
    words = split_chunk(chunk)
    return [word for word in words if _is_unknown(word, tokenizer)] or words


def split_chunk(chunk: str) -> list[str]:
    """Return the words of a text without spaces, which together are the text.

    As in the tokenizer, each punctuation mark is a word, and so is each character of a script
    without spaces.
    """
    words: list[str] = []
    for is_punctuation, characters in groupby(chunk, _is_punctuation):
        segment = "".join(characters)
        words += list(segment) if is_punctuation else split_unspaced(segment)
    return words


def _is_unknown(text: str, tokenizer: Tokenizer) -> bool:
    return tokenizer.unk_id in tokenizer.encode_text(text, sys.maxsize)


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] == "P"


def _count_unknown_characters(words: Mapping[str, int], tokenizer: Tokenizer) -> Counter[str]:
    """Count the characters that the vocabulary has neither as a token nor as a ## token."""
    tokens = tokenizer.convert_ids_to_tokens(range(tokenizer.vocab_size))
    token_texts = {token.removeprefix("##") for token in tokens}
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            if character not in token_texts and _is_unknown(character, tokenizer):
                characters[character] += count
    return characters


def count_scripts(samples: Sequence[Sample]) -> dict[str, int]:
    """Count the letters of each script, and digits, punctuation and symbols, most frequent first.

    The script is the first word of a letter's Unicode name.
    """
    characters: Counter[str] = Counter()
    for sample in samples:
        for caption in sample.captions:
            characters.update(caption)
    scripts: Counter[str] = Counter()
    for character, count in characters.items():
        if script := _find_script(character):
            scripts[script] += count
    return dict(sorted(scripts.items(), key=lambda item: (-item[1], item[0])))


def _find_script(character: str) -> str:
    category = unicodedata.category(character)[0]
    if category != "L":
        return {"N": "digits", "P": "punctuation", "S": "symbols and emoji"}.get(category, "")
    first_word = unicodedata.name(character, "unnamed").split()[0]
    return first_word.capitalize().replace("Cjk", "CJK")


def quote(text: str, max_length: int = 60) -> str:
    """Return a caption in quotation marks, shortened to `max_length` characters."""
    text = " ".join(text.split())
    short = text if len(text) <= max_length else text[: max_length - 1].rstrip() + "…"
    return f"“{short}”"
