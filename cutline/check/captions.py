"""Captions as training would read them: cleaned, cut, tokenised; and what is lost on the way."""

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from cutline.check.findings import Finding, Histogram, name_of
from cutline.config import Cleaning
from cutline.data import Sample
from cutline.metrics.tokenizers import split_unspaced
from cutline.tokenizer import Tokenizer, clean_caption

MANY = 10
"""images that one caption is said of before it is reported"""
_AT_ONCE = 4096  # captions tokenised together
_BROKEN = re.compile("[\ufffd\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class CaptionRules:
    """How captions are read."""

    clean: Cleaning
    max_words: int
    max_tokens: int
    prompt: str

    def cut(self, text: str) -> str:
        """The caption cleaned and cut to `max_words`."""
        return clean_caption(text, self.clean, self.max_words)

    def whole(self, text: str) -> str:
        """The caption cleaned."""
        return clean_caption(text, self.clean, sys.maxsize)


def count_words(text: str) -> int:
    """Words of a cleaned caption, as `clean_caption` counts them."""
    return len(text.split(" ")) if text else 0


def check_captions(
    samples: Sequence[Sample], reading: CaptionRules
) -> tuple[list[Finding], Histogram]:
    """What is wrong with the text of captions, and their lengths in words."""
    rows, lengths = [], []
    said: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        name, whole = name_of(sample), [reading.whole(caption) for caption in sample.captions]
        lengths += [count_words(text) for text in whole]
        rows += [
            Finding(kind, name, detail)
            for kind, detail in _check_texts(sample.captions, whole, reading.max_words)
        ]
        for text in filter(None, dict.fromkeys(whole)):
            said[text].append(name)
    for text, names in sorted(said.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(names) >= MANY:
            rows.append(
                Finding(
                    "common_caption",
                    min(names),
                    f"{quote(text)} is said of {len(names):,} images",
                )
            )
    return rows, Histogram.of(lengths)


def _check_texts(
    captions: Sequence[str], whole: Sequence[str], max_words: int
) -> Iterator[tuple[str, str]]:
    """Kind and detail of what is wrong with an image's captions; `whole` are the same, cleaned."""
    if not any(whole):
        yield (
            "uncaptioned",
            "nothing is left of its captions once they are cleaned"
            if captions
            else "has no caption",
        )
    for caption, text in zip(captions, whole, strict=True):
        if not text:
            yield "empty_caption", f"{quote(caption)} is empty once cleaned"
        if (count := count_words(text)) > max_words:
            yield "long_caption", f"{quote(text)} has {count:,} words and is cut to {max_words}"
        if broken := _BROKEN.search(caption):
            yield (
                "broken_text",
                f"{quote(caption)} holds U+{ord(broken[0]):04X}; mend the encoding of the file",
            )
    for text, count in Counter(filter(None, whole)).items():
        if count > 1:
            yield "repeated_caption", f"{quote(text)} stands {count} times"


def check_tokens(
    samples: Sequence[Sample], reading: CaptionRules, tokenizer: Tokenizer
) -> tuple[list[Finding], Histogram, Counter[str], Counter[str]]:
    """Captions cut for their tokens; their lengths in tokens; words and characters unknown to the vocabulary, with their numbers."""
    rows, lengths = [], []
    words: Counter[str] = Counter()
    for sample, text, ids in _tokenized(samples, reading, tokenizer):
        lengths.append(len(ids))
        if len(ids) > reading.max_tokens:
            rows.append(
                Finding(
                    "cut_caption",
                    name_of(sample),
                    f"{quote(text)} has {len(ids)} tokens and is cut to {reading.max_tokens}",
                )
            )
        if tokenizer.unk_id in ids:
            words.update(word for part in text.split() for word in _unknown_in(part, tokenizer))
    return rows, Histogram.of(lengths), words, _count_lacking(words, tokenizer)


def _unknown_in(part: str, tokenizer: Tokenizer) -> list[str]:
    """The unknown words of what stands between spaces: punctuation apart, as the tokenizer has it; of scripts without spaces, characters.

    Where each of these is known by itself, though not in its place, all of them.
    """
    if tokenizer.unk_id not in tokenizer.encode_text(part, sys.maxsize):
        return []
    words: list[str] = []
    for is_mark, characters in groupby(
        part, lambda character: unicodedata.category(character)[0] == "P"
    ):
        run = "".join(characters)
        words += run if is_mark else split_unspaced(run)
    return [
        word for word in words if tokenizer.unk_id in tokenizer.encode_text(word, sys.maxsize)
    ] or words


def _count_lacking(words: Counter[str], tokenizer: Tokenizer) -> Counter[str]:
    """Characters of unknown words that the vocabulary has neither at the start of a word nor within one."""
    within = {piece.removeprefix("##") for piece in tokenizer.pieces(range(tokenizer.vocab_size))}
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            if character not in within and tokenizer.unk_id in tokenizer.encode_text(character):
                characters[character] += count
    return characters


def _tokenized(
    samples: Sequence[Sample], reading: CaptionRules, tokenizer: Tokenizer
) -> Iterator[tuple[Sample, str, list[int]]]:
    """Each caption, cut, with all its tokens."""
    pairs = [
        (sample, text) for sample in samples for text in map(reading.cut, sample.captions) if text
    ]
    for start in range(0, len(pairs), _AT_ONCE):
        some = pairs[start : start + _AT_ONCE]
        prompts = [reading.prompt if sample.prompt is None else sample.prompt for sample, _ in some]
        encoded = tokenizer.encode_pairs([text for _, text in some], prompts, sys.maxsize)
        yield from (
            (sample, text, ids) for (sample, text), (ids, _) in zip(some, encoded, strict=True)
        )


def count_scripts(samples: Sequence[Sample]) -> dict[str, int]:
    """Letters of each script, by the first word of their Unicode names, and digits, punctuation and symbols; most frequent first."""
    characters: Counter[str] = Counter()
    for sample in samples:
        for caption in sample.captions:
            characters.update(caption)
    scripts: Counter[str] = Counter()
    for character, count in characters.items():
        if script := _script(character):
            scripts[script] += count
    return dict(sorted(scripts.items(), key=lambda item: (-item[1], item[0])))


def _script(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "L":
        return (
            unicodedata.name(character, "unnamed")
            .split()[0]
            .removesuffix("-")
            .capitalize()
            .replace("Cjk", "CJK")
        )
    return {"N": "digits", "P": "punctuation", "S": "symbols and emoji"}.get(category[0], "")


def quote(text: str, most: int = 60) -> str:
    """A caption within a sentence, shortened."""
    text = " ".join(text.split())
    return f"“{text if len(text) <= most else text[: most - 1].rstrip() + '…'}”"
