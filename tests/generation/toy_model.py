"""A toy model whose logits depend on the image and all tokens so far; its cache is the tokens.

A word is its token ids, as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from hypothesis import strategies as st
from naive_search import parse_word
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation import Hypothesis, Prompts, batch, generate
from cutline.generation.beam import BeamSearch
from cutline.generation.interfaces import CacheT, Step
from cutline.generation.processor_chain import ProcessorChain
from cutline.generation.sample import Sampling

END = 1
History = tuple[int, ...]


@dataclass
class ToyCache:
    """The images, the mask of their prompts (B, T), and the tokens of each image's K beams."""

    images: list[int]
    mask: Tensor
    histories: list[list[History]]

    def reorder(self, beams: Tensor) -> None:
        self.histories = [
            [histories[beam] for beam in row]
            for histories, row in zip(self.histories, beams.tolist(), strict=True)
        ]

    def select(self, images: Tensor) -> None:
        self.images = [self.images[slot] for slot in images.tolist()]
        self.histories = [self.histories[slot] for slot in images.tolist()]

    def resize(self, max_tokens: int, num_beams: int, exact: bool = False) -> None:
        pass

    def extend(self, other: "ToyCache") -> None:
        self.images += other.images
        self.histories += other.histories


@dataclass
class ToyModel:
    """Random logits, always the same for the same image and tokens.

    `calls` records the images and the shape of the input of each step, `fixed` the logits.
    """

    vocab: int
    seed: int = 0
    scale: float = 2.0
    calls: list[tuple[list[int], tuple[int, ...]]] = field(default_factory=list)
    fixed: dict[tuple[int, History], Tensor] = field(default_factory=dict)

    def logits(self, image: int, history: History) -> Tensor:
        """Return the logits (V,) of the token after `history`."""
        if (image, history) not in self.fixed:
            generator = torch.Generator().manual_seed(hash((self.seed, image, history)) % 2**32)
            self.fixed[image, history] = torch.randn(self.vocab, generator=generator) * self.scale
        return self.fixed[image, history]

    def start(self, prompts: Prompts, images: Sequence[int] | None = None) -> ToyCache:
        """Make a cache for the images of `prompts`, which are 0, 1, … unless `images` are given."""
        count = len(prompts.input_ids)
        histories: list[list[History]] = [[()] for _ in range(count)]
        return ToyCache(list(images or range(count)), prompts.attention_mask, histories)

    def step(self, input_ids: Tensor, cache: ToyCache) -> Tensor:
        """Map input_ids (B, K, T) to logits (B, K, V)."""
        self.calls.append((list(cache.images), tuple(input_ids.shape)))
        is_prompt = not cache.histories[0][0]
        for slot, rows in enumerate(input_ids.tolist()):
            # The number of beams changes when an image with more beams leaves or joins.
            histories = cache.histories[slot][: len(rows)]
            cache.histories[slot] = histories + [()] * (len(rows) - len(histories))
            for beam, tokens in enumerate(rows):
                if is_prompt:
                    valid = cache.mask[slot].tolist()
                    tokens = [token for token, ok in zip(tokens, valid, strict=True) if ok]
                cache.histories[slot][beam] += tuple(tokens)
        pairs = zip(cache.images, cache.histories, strict=True)
        return torch.stack(
            [torch.stack([self.logits(image, row) for row in rows]) for image, rows in pairs]
        )


def make_prompts(rows: Sequence[Sequence[int]], padding: int = 0) -> Prompts:
    """Make a batch of prompts of any lengths, padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[padding] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in rows])
    return Prompts(ids, mask, END)


@dataclass(frozen=True)
class Case:
    """A toy model, prompts, the token id at their padding, and how to search."""

    vocab: int
    seed: int
    prompts: list[list[int]]
    padding: int
    config: GenerationConfig

    def make_model(self) -> ToyModel:
        return ToyModel(self.vocab, self.seed)

    def make_prompts(self) -> Prompts:
        return make_prompts(self.prompts, self.padding)


def bad_words(vocab: int) -> st.SearchStrategy[tuple[str, ...]]:
    """Draw no bad words, or a few of one to three tokens."""
    word = st.lists(st.integers(0, vocab - 1), min_size=1, max_size=3)
    words = st.lists(word.map(lambda tokens: " ".join(map(str, tokens))), max_size=2)
    return st.one_of(st.just(()), words.map(tuple))


def encode_words(words: Sequence[str]) -> list[list[int]]:
    return list(map(parse_word, words))


def make_chain(config: GenerationConfig) -> ProcessorChain:
    return ProcessorChain(config, END, torch.device("cpu"), encode_words)


make_search = partial(batch.make_search, encode_words=encode_words)


@st.composite
def cases(draw: st.DrawFn, sample: bool = False, max_beams: int = 5) -> Case:
    """Draw small vocabularies and any settings; in sampling, some token is always allowed."""
    vocab = draw(st.integers(13, 14) if sample else st.integers(2, 12))
    tokens = st.integers(0, vocab - 1)
    prompts = draw(st.lists(st.lists(tokens, min_size=1, max_size=4), min_size=1, max_size=3))
    max_length = draw(st.integers(5, 9))
    num_beams = draw(st.integers(1, max_beams))
    config = GenerationConfig(
        num_beams=num_beams,
        max_length=max_length,
        min_length=draw(st.integers(0, max_length)),
        repetition_penalty=draw(st.sampled_from([1.0, 0.6, 1.3, 3.0])),
        length_penalty=draw(st.sampled_from([1.0, 0.0, -1.0, 0.5, 3.0])),
        no_repeat_ngram_size=draw(st.sampled_from([0, 0, 1, 2, 3, 4])),
        bad_words=draw(bad_words(vocab)),
        num_captions=draw(st.integers(1, 3 if sample else num_beams)),
        beam_scoring=draw(st.sampled_from(["blip", "huggingface"])),
        sample=sample,
        temperature=draw(st.sampled_from([1.0, 0.4, 2.5])) if sample else 1.0,
        top_k=draw(st.sampled_from([50, 0, 1, 3])) if sample else 50,
        top_p=draw(st.sampled_from([1.0, 0.9, 0.5, 0.1])) if sample else 0.9,
        token_log_probs=draw(st.booleans()),
    )
    return Case(vocab, draw(st.integers(0, 10**6)), prompts, draw(tokens), config)


def beam_search(
    step: Step[CacheT], cache: CacheT, prompts: Prompts, config: GenerationConfig
) -> list[list[Hypothesis]]:
    """Run beam search, also with one beam."""
    return generate(
        step,
        cache,
        prompts,
        config,
        make_search=lambda prompts, *_: BeamSearch(prompts, config, make_chain(config)),
    )


def greedy_search(
    step: Step[CacheT], cache: CacheT, prompts: Prompts, config: GenerationConfig
) -> list[list[Hypothesis]]:
    """Run greedy search, whatever num_beams is."""
    return sample(step, cache, prompts, config, None)


def sample(
    step: Step[CacheT],
    cache: CacheT,
    prompts: Prompts,
    config: GenerationConfig,
    seeds: Sequence[int] | None,
) -> list[list[Hypothesis]]:
    """Sample captions, or search greedily without seeds."""
    return generate(
        step,
        cache,
        prompts,
        config,
        make_search=lambda prompts, *_: Sampling(prompts, config, seeds, make_chain(config)),
    )
