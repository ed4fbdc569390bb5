"""A vocabulary made from captions: byte-pair merges of characters (Sennrich et al. 2016, arXiv 1508.07909), as WordPiece pieces.

The trainer of `tokenizers` breaks ties by hash order, so two runs over the same captions differ by some pieces; this one does not.
"""

import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from tokenizers import normalizers, pre_tokenizers

from cutline.tokenizer.text import without_surrogates

MIN_COUNT = 2
"""a merge must occur this often: a word seen once is better spelt than known by heart"""
MAX_WORD = 1000
"""longer "words", in characters, are no words and become [UNK]; a sentence of a script without spaces, such as Thai, is one word"""

Pair = tuple[str, str]


def count_words(
    captions: Iterable[str],
    normalizer: normalizers.Normalizer,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> Counter[str]:
    """How often each word of `captions` occurs, after normalisation, punctuation marks being words."""
    chunks: Counter[str] = Counter()
    for caption in captions:
        chunks.update(
            caption.split(" ")
        )  # a space ends a word in any case, and far fewer chunks than captions are distinct
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word, _ in pre_tokenizer.pre_tokenize_str(
            normalizer.normalize_str(without_surrogates(chunk))
        ):
            if len(word) <= MAX_WORD:
                words[word] += count
    return words


def learn_pieces(words: Mapping[str, int], room: int) -> list[str]:
    """At most `room` pieces: every character of `words` (sorted), then the most frequent merges, most frequent first.

    Characters come before merges so that every word can be spelt; only where they alone exceed `room` the rarest are left out,
    with a warning. The result depends on the counts alone.
    """
    alphabet = _alphabet(words, room)
    spelt = {word: letters for word in words if alphabet.issuperset(letters := _spell(word))}
    pieces = dict.fromkeys(
        sorted(alphabet)
    )  # a set that keeps its order: two pairs may make the same piece
    for piece in _merges(spelt, words):
        if len(pieces) >= room:
            break
        pieces[piece] = None
    return list(pieces)


def _alphabet(words: Mapping[str, int], room: int) -> set[str]:
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for letter in _spell(word):
            counts[letter] += count
    lost = len(counts) - room
    if lost > 0:
        message = "%d rare characters do not fit into the vocabulary and become [UNK]: raise vocab_size by %d to keep them"
        logging.getLogger(__name__).warning(message, lost, lost)
    return set(sorted(counts, key=lambda letter: (-counts[letter], letter))[:room])


def _spell(word: str) -> list[str]:
    return [word[0], *(f"##{letter}" for letter in word[1:])]


def _merges(spelt: Mapping[str, list[str]], counts: Mapping[str, int]) -> Iterator[str]:
    """Merge the most frequent pair of neighbours again and again; of equal ones the first in code-point order."""
    pairs: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[str]] = defaultdict(set)
    for word, pieces in spelt.items():
        for pair in pairwise(pieces):
            pairs[pair] += counts[word]
            where[pair].add(word)
    heap = [(-count, pair) for pair, count in pairs.items()]  # never below the true count
    heapq.heapify(heap)
    while heap:
        count, pair = heapq.heappop(heap)
        if -count != pairs[pair]:
            heapq.heappush(heap, (-pairs[pair], pair))
            continue
        if -count < MIN_COUNT:
            return
        yield _joined(pair)
        grown: set[Pair] = set()
        for word in where.pop(pair):
            for changed, sign in _merge(spelt[word], pair):
                pairs[changed] += sign * counts[word]
                if sign > 0:
                    where[changed].add(word)
                    grown.add(changed)
        for pair in grown:
            heapq.heappush(heap, (-pairs[pair], pair))


def _merge(pieces: list[str], pair: Pair) -> Iterator[tuple[Pair, int]]:
    """Merge `pair` wherever it stands in `pieces`, and write_outputs which neighbours came (+1) and went (-1)."""
    left, right = pair
    merged = _joined(pair)
    start = 0
    while start < len(pieces) - 1:
        if pieces[start] == left and pieces[start + 1] == right:
            before, after = pieces[max(start - 1, 0) : start], pieces[start + 2 : start + 3]
            pieces[start : start + 2] = [merged]
            yield from ((gone, -1) for gone in pairwise([*before, left, right, *after]))
            yield from ((come, +1) for come in pairwise([*before, merged, *after]))
        start += 1


def _joined(pair: Pair) -> str:
    return pair[0] + pair[1].removeprefix("##")
