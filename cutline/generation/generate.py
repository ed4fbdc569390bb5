"""Write captions: one loop for beam search, greedy search and sampling, which takes images in as others leave."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.errors import ConfigError
from cutline.generation.beam import BeamSearch
from cutline.generation.interfaces import C, Hypothesis, Prompts, Search, Step
from cutline.generation.sample import Sampling

Found = tuple[int, list[Hypothesis]]  # the number of an image, and its captions


@dataclass(frozen=True)
class NewRequests(Generic[C]):
    """Images that come in: what they are called, a fresh cache, one beam each, their prompts, and for sampling a seed each."""

    numbers: Sequence[int]
    cache: C
    prompts: Prompts
    seeds: Sequence[int] | None = None


def generate(
    step: Step[C],
    cache: C,
    prompts: Prompts,
    config: GenerationConfig,
    seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """The captions of each image of one batch, best first.

    Args:
        step: step(input_ids (B, K, T), cache) -> logits of the next token (B, K, V).
        cache: what `step` remembers; fresh, one beam per image.
        prompts: where the captions begin.
        config: how to search.
        seeds: for sampling, one per image (default: `config.seed` for all).

    Raises:
        ConfigError: a prompt leaves no room below `max_length`.
    """
    coming = iter([NewRequests(range(len(prompts.ids)), cache, prompts, seeds)])
    found = dict(
        generate_stream(
            step,
            lambda room: next(coming, None),
            partial(begin, config),
            len(prompts.ids),
            len(prompts.ids),
        )
    )
    return [found[number] for number in range(len(prompts.ids))]


def generate_stream(
    step: Step[C],
    admit: Callable[[int], NewRequests[C] | None],
    begin: Callable[[NewRequests[C]], Search],
    places: int,
    at_once: int,
    cache: C | None = None,
) -> Iterator[Found]:
    """The captions of any number of images, each as soon as it is done: its number and its captions.

    Args:
        step: as for `generate`.
        admit: admit(n) returns the next n images, fewer, or None at the end.
        begin: the search of newcomers, at its start: `partial(begin, config)`.
        places: how many images are captioned together.
        at_once: as soon as that many places are free, new images take them.
        cache: an empty one with room for `places` images (default: that of the first ones, if no others join them).
    """
    search: Search | None = None
    numbers: list[int] = []
    more = True
    while more or numbers:
        wanted = at_once if numbers else 1  # at first, every place is filled
        while more and places - len(numbers) >= wanted:
            arrivals = admit(min(at_once, places - len(numbers)))
            if arrivals is None:
                more = False
                break
            new = begin(arrivals)
            new_numbers = list(arrivals.numbers)
            yield from _advance(
                step(arrivals.prompts.ids[:, None], arrivals.cache),
                new,
                arrivals.cache,
                new_numbers,
            )
            if cache is None:
                cache = arrivals.cache
            else:
                cache.extend(arrivals.cache)
            if search is None:
                search = new
            else:
                search.extend(new)
            numbers += new_numbers
        if numbers:
            assert search is not None
            assert cache is not None
            yield from _advance(step(search.tokens[..., None], cache), search, cache, numbers)


def begin(config: GenerationConfig, arrivals: NewRequests[C]) -> Search:
    """The search that `config` asks for, at its start."""
    prompts = arrivals.prompts
    check_prompt_length(prompts, config)
    if config.sample:
        return Sampling(prompts, config, arrivals.seeds or [config.seed] * len(prompts.ids))
    return Sampling(prompts, config, None) if config.num_beams == 1 else BeamSearch(prompts, config)


def _advance(logits: Tensor, search: Search, cache: C, numbers: list[int]) -> list[Found]:
    """One step of all images; those that are done leave search, cache and `numbers`, and are returned."""
    over = search.advance(logits)
    found: list[Found] = []
    if bool(over.any()):
        done, left = torch.nonzero(over)[:, 0], compact(over)
        found = list(
            zip([numbers[image] for image in done.tolist()], search.results(done), strict=True)
        )
        numbers[:] = [numbers[image] for image in left.tolist()]
        search.select(left)
        cache.select(left)
    if numbers:
        cache.reorder(search.beams)
    return found


def compact(over: Tensor) -> Tensor:
    """The images that are not `over`, (B',), the last ones taking the places of those before that are: few move."""
    left = torch.nonzero(~over)[:, 0]
    stay, move = left[left < len(left)], left[left >= len(left)]
    order = torch.empty_like(left)
    order[stay] = stay
    order[torch.nonzero(over[: len(left)])[:, 0]] = move
    return order


def check_prompt_length(prompts: Prompts, config: GenerationConfig) -> None:
    """Raise ConfigError if a prompt leaves no room below `max_length`."""
    longest = int(prompts.lengths.max())
    if longest >= config.max_length:
        raise ConfigError(
            f"the prompt has {longest} tokens, so max_length {config.max_length}, which counts them, leaves no room: raise max_length"
        )
