"""A toy captioner: its next logits depend on the image and on every token so far, and its cache is the tokens themselves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation import Hypothesis, NewRequests, Prompts, generate_stream
from cutline.generation.beam import BeamSearch
from cutline.generation.interfaces import C, Search, Step
from cutline.generation.sample import Sampling

END = 1
History = tuple[int, ...]


@dataclass
class ToyCache:
    """The images (B,), the mask of their prompts (B, T), and the tokens of each image's K beams."""

    pictures: list[int]
    mask: Tensor
    histories: list[list[History]]

    def reorder(self, beams: Tensor) -> None:
        self.histories = [
            [rows[beam] for beam in picks]
            for rows, picks in zip(self.histories, beams.tolist(), strict=True)
        ]

    def select(self, images: Tensor) -> None:
        self.pictures = [self.pictures[image] for image in images.tolist()]
        self.histories = [self.histories[image] for image in images.tolist()]

    def extend(self, other: "ToyCache") -> None:
        self.pictures += other.pictures
        self.histories += other.histories


@dataclass
class ToyModel:
    """Random logits, always the same for the same image and tokens; `calls` keeps what each step was asked."""

    vocab: int
    seed: int = 0
    scale: float = 2.0
    calls: list[tuple[list[int], tuple[int, ...]]] = field(default_factory=list)
    known: dict[tuple[int, History], Tensor] = field(default_factory=dict)

    def logits(self, picture: int, history: History) -> Tensor:
        """Logits (V,) of the token after `history`."""
        if (picture, history) not in self.known:
            generator = torch.Generator().manual_seed(hash((self.seed, picture, history)) % 2**32)
            self.known[picture, history] = torch.randn(self.vocab, generator=generator) * self.scale
        return self.known[picture, history]

    def start(self, prompts: Prompts, pictures: Sequence[int] | None = None) -> ToyCache:
        """A cache for the images of `prompts`, numbered from 0 unless they have other numbers."""
        count = len(prompts.ids)
        return ToyCache(list(pictures or range(count)), prompts.mask, [[()] for _ in range(count)])

    def step(self, input_ids: Tensor, cache: ToyCache) -> Tensor:
        """input_ids (B, K, T) -> logits (B, K, V)."""
        self.calls.append((list(cache.pictures), tuple(input_ids.shape)))
        first = not cache.histories[0][0]
        for image, rows in enumerate(input_ids.tolist()):
            for beam, tokens in enumerate(rows):
                kept = (
                    [
                        token
                        for token, there in zip(tokens, cache.mask[image].tolist(), strict=True)
                        if there
                    ]
                    if first
                    else tokens
                )
                cache.histories[image][beam] += tuple(kept)
        pairs = zip(cache.pictures, cache.histories, strict=True)
        return torch.stack(
            [torch.stack([self.logits(picture, row) for row in rows]) for picture, rows in pairs]
        )


def prompts_of(rows: Sequence[Sequence[int]], padding: int = 0) -> Prompts:
    """Prompts of any lengths as one batch, padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[padding] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in rows])
    return Prompts(ids, mask, END)


@dataclass(frozen=True)
class Case:
    """A toy, the prompts of some images, what stands at their padding, and how to search."""

    vocab: int
    seed: int
    prompts: list[list[int]]
    padding: int
    config: GenerationConfig

    def model(self) -> ToyModel:
        return ToyModel(self.vocab, self.seed)

    def batch(self) -> Prompts:
        return prompts_of(self.prompts, self.padding)


@st.composite
def cases(draw: st.DrawFn, sample: bool = False, max_beams: int = 5) -> Case:
    """Toys of small vocabularies under all options; when sampling, never are all tokens forbidden."""
    vocab = draw(st.integers(11, 14) if sample else st.integers(2, 12))
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
        num_captions=draw(st.integers(1, 3 if sample else num_beams)),
        beam_scoring=draw(st.sampled_from(["blip", "huggingface"])),
        sample=sample,
        temperature=draw(st.sampled_from([1.0, 0.4, 2.5])) if sample else 1.0,
        top_k=draw(st.sampled_from([50, 0, 1, 3])) if sample else 50,
        top_p=draw(st.sampled_from([1.0, 0.9, 0.5, 0.1])) if sample else 0.9,
    )
    return Case(vocab, draw(st.integers(0, 10**6)), prompts, draw(tokens), config)


def search(
    step: Step[C], cache: C, prompts: Prompts, begin: Callable[[Prompts], Search]
) -> list[list[Hypothesis]]:
    """One batch through the search that `begin` makes."""
    count = len(prompts.ids)
    coming = iter([NewRequests(range(count), cache, prompts)])
    found = dict(
        generate_stream(
            step,
            lambda room: next(coming, None),
            lambda arrivals: begin(arrivals.prompts),
            count,
            count,
        )
    )
    return [found[number] for number in range(count)]


def beam_search(
    step: Step[C], cache: C, prompts: Prompts, config: GenerationConfig
) -> list[list[Hypothesis]]:
    """Beam search, also of one beam."""
    return search(step, cache, prompts, lambda prompts: BeamSearch(prompts, config))


def greedy_search(
    step: Step[C], cache: C, prompts: Prompts, config: GenerationConfig
) -> list[list[Hypothesis]]:
    """Greedy search, whatever num_beams is."""
    return search(step, cache, prompts, lambda prompts: Sampling(prompts, config, None))


def sample(
    step: Step[C], cache: C, prompts: Prompts, config: GenerationConfig, seeds: Sequence[int]
) -> list[list[Hypothesis]]:
    """Sampling."""
    return search(step, cache, prompts, lambda prompts: Sampling(prompts, config, seeds))
