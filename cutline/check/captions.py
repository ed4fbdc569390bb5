"""Captions as training reads them: cleaned, cut to the maximum length, and tokenized."""

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cutline.check.findings import Finding, Histogram
from cutline.config import CaptionText
from cutline.data import Sample
from cutline.metrics.tokenizers import split_unspaced
from cutline.tokenizer import Tokenizer, clean_caption

MIN_COMMON = 10
"""smallest number of images that must share a caption for it to be reported"""
_BATCH_SIZE = 4096  # captions tokenized together
_INVALID = re.compile("[\ufffd\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class TokenCheck:
    """The result of `check_tokens`; the defaults are the result without a vocabulary."""

    findings: Sequence[Finding] = ()
    lengths: Histogram | None = None
    """tokens per caption before it is cut, including prompt, [DEC] and [SEP]"""
    unknown_words: Mapping[str, int] = field(default_factory=dict)
    """word that is encoded as [UNK] → number of occurrences, most frequent first"""
    unknown_characters: Mapping[str, int] = field(default_factory=dict)
    """character missing from the vocabulary → number of its occurrences in unknown words, most
    frequent first"""


def check_captions(samples: Sequence[Sample], text: CaptionText) -> tuple[list[Finding], Histogram]:
    """Check the text of captions.

    Returns:
        The findings, and the number of words per cleaned caption before it is cut.
    """
    findings: list[Finding] = []
    lengths: list[int] = []
    images: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        cleaned = [clean_caption(caption, text.clean, sys.maxsize) for caption in sample.captions]
        lengths += map(count_words, cleaned)
        findings += _check_sample(sample, cleaned, text.max_words)
        for caption in filter(None, dict.fromkeys(cleaned)):
            images[caption].append(sample.name)
    return [*findings, *_find_common(images)], Histogram.from_values(lengths)


def count_words(caption: str) -> int:
    """Return the number of words of a cleaned caption, as `clean_caption` counts them."""
    return len(caption.split(" ")) if caption else 0


def _check_sample(sample: Sample, cleaned: Sequence[str], max_words: int) -> Iterator[Finding]:
    """Yield the findings about an image's captions; `cleaned` are the same captions, cleaned."""
    if not any(cleaned):
        reason = "all of its captions are empty after cleaning" if cleaned else "it has no caption"
        yield Finding("uncaptioned", sample.name, reason)
    for caption, text in zip(sample.captions, cleaned, strict=True):
        if not text:
            yield Finding("empty_caption", sample.name, f"{quote(caption)} is empty after cleaning")
        if (count := count_words(text)) > max_words:
            detail = f"{quote(text)} has {count:,} words and is cut to {max_words}"
            yield Finding("long_caption", sample.name, detail)
        if match := _INVALID.search(caption):
            character = f"U+{ord(match[0]):04X}"
            detail = f"{quote(caption)} contains {character}; fix the encoding of the file"
            yield Finding("broken_text", sample.name, detail)
    for text, count in Counter(filter(None, cleaned)).items():
        if count > 1:
            yield Finding("repeated_caption", sample.name, f"{quote(text)} occurs {count} times")


def _find_common(images: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Yield the captions of MIN_COMMON or more images; `images` maps captions to image names."""
    for caption, names in sorted(images.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(names) >= MIN_COMMON:
            detail = f"{quote(caption)} is a caption of {len(names):,} images"
            yield Finding("common_caption", min(names), detail)


def check_tokens(
    samples: Sequence[Sample], text: CaptionText, prompt: str, tokenizer: Tokenizer
) -> TokenCheck:
    """Check the tokens of captions: their number, and which words the vocabulary lacks.

    Args:
        samples: The data set; samples of the same image may differ in their prompts.
        text: How captions are cleaned and cut.
        prompt: Prompt of samples that have none of their own.
        tokenizer: The vocabulary.
    """
    findings: list[Finding] = []
    lengths: list[int] = []
    words: Counter[str] = Counter()
    for sample, caption, ids in _tokenize(samples, text, prompt, tokenizer):
        lengths.append(len(ids))
        if len(ids) > text.max_tokens:
            detail = f"{quote(caption)} has {len(ids)} tokens and is cut to {text.max_tokens}"
            findings.append(Finding("cut_caption", sample.name, detail))
        if tokenizer.unk_id in ids:
            for chunk in caption.split():
                words.update(_find_unknown_words(chunk, tokenizer))
    findings += [
        Finding("unknown_word", "", f"“{word}” occurs {_format_times(count)}")
        for word, count in words.most_common()
    ]
    characters = _count_unknown_characters(words, tokenizer)
    return TokenCheck(
        findings,
        Histogram.from_values(lengths),
        dict(words.most_common()),
        dict(characters.most_common()),
    )


def _format_times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _tokenize(
    samples: Sequence[Sample], text: CaptionText, prompt: str, tokenizer: Tokenizer
) -> Iterator[tuple[Sample, str, list[int]]]:
    """Yield each caption that is not empty, cut to `max_words`, with all of its tokens."""
    pairs = [
        (sample, cut)
        for sample in samples
        for caption in sample.captions
        if (cut := clean_caption(caption, text.clean, text.max_words))
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

    As in the tokenizer, each punctuation mark is a word, and so is each character of a script
    without spaces. If the chunk is unknown although each of its words is known by itself, all of
    its words are returned.
    """
    if not _is_unknown(chunk, tokenizer):
        return []
    words: list[str] = []
    for is_punctuation, characters in groupby(chunk, _is_punctuation):
        run = "".join(characters)
        words += run if is_punctuation else split_unspaced(run)
    return [word for word in words if _is_unknown(word, tokenizer)] or words


def _is_unknown(text: str, tokenizer: Tokenizer) -> bool:
    return tokenizer.unk_id in tokenizer.encode_text(text, sys.maxsize)


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] == "P"


def _count_unknown_characters(words: Mapping[str, int], tokenizer: Tokenizer) -> Counter[str]:
    """Count the characters of `words` that the vocabulary lacks, at the start and inside a word."""
    tokens = tokenizer.convert_ids_to_tokens(range(tokenizer.vocab_size))
    pieces = {token.removeprefix("##") for token in tokens}
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            if character not in pieces and _is_unknown(character, tokenizer):
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
    first_word = unicodedata.name(character, "unnamed").split()[0].removesuffix("-")
    return first_word.capitalize().replace("Cjk", "CJK")


def quote(text: str, max_length: int = 60) -> str:
    """Return a caption in quotation marks, shortened to `max_length` characters."""
    text = " ".join(text.split())
    short = text if len(text) <= max_length else text[: max_length - 1].rstrip() + "…"
    return f"“{short}”"
