"""Learn a WordPiece vocabulary from captions by byte-pair encoding of characters.

Sennrich et al., 2016, arXiv 1508.07909. The trainer of `tokenizers` breaks ties by hash order, so
that two runs over the same captions give different tokens; this one is deterministic.
"""

import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from tokenizers import normalizers, pre_tokenizers

from cutline.tokenizer.text import remove_surrogates

MIN_COUNT = 2
"""a pair must occur this often to be merged: a token for a word that occurs once is of no use"""
MAX_WORD_LENGTH = 1000
"""in characters; longer "words" become [UNK]. In a script without spaces, such as Thai, a sentence
is one word"""

Pair = tuple[str, str]


def count_normalized_words(
    captions: Iterable[str],
    normalizer: normalizers.Normalizer,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> Counter[str]:
    """Count the words of captions after normalization; punctuation marks are words."""
    # Words end at spaces, so each distinct chunk between spaces needs to be split only once.
    chunks: Counter[str] = Counter()
    for caption in captions:
        chunks.update(caption.split(" "))
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        normalized = normalizer.normalize_str(remove_surrogates(chunk))
        for word, _ in pre_tokenizer.pre_tokenize_str(normalized):
            if len(word) <= MAX_WORD_LENGTH:
                words[word] += count
    return words


def learn_vocabulary(words: Mapping[str, int], max_tokens: int) -> list[str]:
    """Learn tokens from word counts.

    The characters come before the merges, so that every word can be encoded. If there are more
    characters than `max_tokens`, the rarest are left out with a warning. The result depends on
    the counts only.

    Args:
        words: Word -> count.
        max_tokens: Maximum number of tokens to return.

    Returns:
        All characters in sorted order, then the merges, most frequent first.
    """
    alphabet = _select_alphabet(words, max_tokens)
    spellings = {
        word: characters
        for word in words
        if alphabet.issuperset(characters := _split_characters(word))
    }
    tokens = dict.fromkeys(sorted(alphabet))  # an ordered set: two pairs may make the same token
    for token in _generate_merges(spellings, words):
        if len(tokens) >= max_tokens:
            break
        tokens[token] = None
    return list(tokens)


def _select_alphabet(words: Mapping[str, int], max_tokens: int) -> set[str]:
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in _split_characters(word):
            counts[character] += count
    missing = len(counts) - max_tokens
    if missing > 0:
        logging.getLogger(__name__).warning(
            "%d rare characters do not fit into the vocabulary and become [UNK]: "
            "raise vocab_size by %d to keep them",
            *(missing, missing),
        )
    return set(sorted(counts, key=lambda character: (-counts[character], character))[:max_tokens])


def _split_characters(word: str) -> list[str]:
    return [word[0], *(f"##{character}" for character in word[1:])]


def _generate_merges(
    spellings: Mapping[str, list[str]], word_counts: Mapping[str, int]
) -> Iterator[str]:
    """Merge the most frequent pair repeatedly, and yield each new token.

    Of equally frequent pairs, the first in code-point order is merged.
    """
    counts: Counter[Pair] = Counter()
    containing_words: defaultdict[Pair, set[str]] = defaultdict(set)
    for word, tokens in spellings.items():
        for pair in pairwise(tokens):
            counts[pair] += word_counts[word]
            containing_words[pair].add(word)
    # A merge changes the counts of many pairs, and a heap cannot update an entry. So an entry may
    # be outdated, but never below the current count: counts that decrease are corrected when the
    # entry comes to the top, and for counts that increase a new entry is pushed.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    while heap:
        count, pair = heapq.heappop(heap)
        if -count != counts[pair]:
            heapq.heappush(heap, (-counts[pair], pair))
            continue
        if -count < MIN_COUNT:
            return
        yield _join(pair)
        increased: set[Pair] = set()
        for word in containing_words.pop(pair):
            for changed, sign in _merge(spellings[word], pair):
                counts[changed] += sign * word_counts[word]
                if sign > 0:
                    containing_words[changed].add(word)
                    increased.add(changed)
        for changed in increased:
            heapq.heappush(heap, (-counts[changed], changed))


def _merge(tokens: list[str], pair: Pair) -> Iterator[tuple[Pair, int]]:
    """Merge `pair` in `tokens`, in place; yield pairs that were added (+1) and removed (-1)."""
    left, right = pair
    merged = _join(pair)
    start = 0
    while start < len(tokens) - 1:
        if tokens[start] == left and tokens[start + 1] == right:
            before, after = tokens[max(start - 1, 0) : start], tokens[start + 2 : start + 3]
            tokens[start : start + 2] = [merged]
            yield from ((removed, -1) for removed in pairwise([*before, left, right, *after]))
            yield from ((added, +1) for added in pairwise([*before, merged, *after]))
        start += 1


def _join(pair: Pair) -> str:
    return pair[0] + pair[1].removeprefix("##")
