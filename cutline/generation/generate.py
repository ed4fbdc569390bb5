"""The generation loop: beam search, greedy search and sampling, with continuous batching."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.errors import ConfigError
from cutline.generation.beam import BeamSearch
from cutline.generation.interfaces import CacheT, Hypothesis, Prompts, Search, Step
from cutline.generation.sample import Sampling

Result = tuple[int, list[Hypothesis]]
"""the id of a request, and its captions, best first"""


@dataclass(frozen=True)
class NewRequests(Generic[CacheT]):
    """Images to caption that are not in the batch yet."""

    request_ids: Sequence[int]
    """ids under which their captions are returned"""
    cache: CacheT
    """a new cache of these images, with one beam each"""
    prompts: Prompts
    """their prompts"""
    seeds: Sequence[int] | None = None
    """for sampling, one per image (None: `config.seed` for all)"""


def generate(
    step: Step[CacheT],
    cache: CacheT,
    prompts: Prompts,
    config: GenerationConfig,
    seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """Generate the captions of one batch of images.

    Args:
        step: Runs the model: step(input_ids (B, K, T), cache) -> next-token logits (B, K, V).
        cache: A new cache of the images, with one beam each.
        prompts: The prompts of the images.
        config: How to search.
        seeds: For sampling, one per image (None: `config.seed` for all).

    Returns:
        The captions of each image, best first.

    Raises:
        ConfigError: A prompt is not shorter than `max_length`.
    """
    count = len(prompts.input_ids)
    batches = iter([NewRequests(range(count), cache, prompts, seeds)])
    results = generate_stream(
        step,
        next_requests=lambda limit: next(batches, None),
        make_search=partial(make_search, config),
        slots=count,
        max_prefill=count,
    )
    captions = dict(results)
    return [captions[request_id] for request_id in range(count)]


def generate_stream(
    step: Step[CacheT],
    next_requests: Callable[[int], NewRequests[CacheT] | None],
    make_search: Callable[[NewRequests[CacheT]], Search],
    slots: int,
    max_prefill: int,
    cache: CacheT | None = None,
) -> Iterator[Result]:
    """Generate captions for any number of images, and yield those of each image when it is done.

    This is continuous batching: an image that is done leaves the batch at once, and new images
    take its slot while the others continue.

    Args:
        step: As for `generate`.
        next_requests: Returns new images, at most as many as its argument; None if there are no
            more.
        make_search: Makes the search of new images: `partial(make_search, config)`.
        slots: The largest number of images in the batch.
        max_prefill: The largest number of images that are started together. New images are started
            when that many slots are free.
        cache: An empty cache for `slots` images (None: that of the first images, which must have
            room for the others).

    Yields:
        The id of each request, and its captions.
    """
    search: Search | None = None
    running: list[int] = []  # ids of the requests in the batch, in the order of the slots
    exhausted = False
    while running or not exhausted:
        # Start new images. An empty batch is filled completely before it continues.
        min_free = max_prefill if running else 1
        while not exhausted and slots - len(running) >= min_free:
            requests = next_requests(min(max_prefill, slots - len(running)))
            if requests is None:
                exhausted = True
                break
            new_search, new_ids = make_search(requests), list(requests.request_ids)
            # Prefill: the prompts run in the requests' own cache, which is then appended to that of
            # the batch.
            logits = step(requests.prompts.input_ids[:, None], requests.cache)
            yield from _advance(logits, new_search, requests.cache, new_ids)
            if cache is None:
                cache = requests.cache
            else:
                cache.extend(requests.cache)
            if search is None:
                search = new_search
            else:
                search.extend(new_search)
            running += new_ids
        if running:
            assert search is not None
            assert cache is not None
            logits = step(search.next_tokens[..., None], cache)
            yield from _advance(logits, search, cache, running)


def make_search(config: GenerationConfig, requests: NewRequests[CacheT]) -> Search:
    """Make the search that `config` asks for.

    Raises:
        ConfigError: A prompt is not shorter than `max_length`.
    """
    prompts = requests.prompts
    check_prompt_length(prompts, config)
    if config.sample:
        seeds = requests.seeds or [config.seed] * len(prompts.input_ids)
        return Sampling(prompts, config, seeds)
    return Sampling(prompts, config, None) if config.num_beams == 1 else BeamSearch(prompts, config)


def _advance(logits: Tensor, search: Search, cache: CacheT, request_ids: list[int]) -> list[Result]:
    """Choose the next tokens; remove images that are done from the batch and return their captions.

    Updates `search`, `cache` and `request_ids`, which have the same images in the same order.
    """
    done = search.advance(logits)
    results: list[Result] = []
    if bool(done.any()):
        finished, remaining = torch.nonzero(done)[:, 0], compact(done)
        finished_ids = [request_ids[image] for image in finished.tolist()]
        results = list(zip(finished_ids, search.finalize(finished), strict=True))
        request_ids[:] = [request_ids[image] for image in remaining.tolist()]
        search.select(remaining)
        cache.select(remaining)
    if request_ids:
        cache.reorder(search.beam_indices)
    return results


def compact(done: Tensor) -> Tensor:
    """Return the images that are not done, (B',), in an order that moves few of them.

    Images within the first B' slots stay where they are; later ones fill the slots in between.

    Args:
        done: (B,), whether each image is done.
    """
    remaining = torch.nonzero(~done)[:, 0]
    count = len(remaining)
    stay, move = remaining[remaining < count], remaining[remaining >= count]
    order = torch.empty_like(remaining)
    order[stay] = stay
    order[torch.nonzero(done[:count])[:, 0]] = move
    return order


def check_prompt_length(prompts: Prompts, config: GenerationConfig) -> None:
    """Raise ConfigError unless every prompt is shorter than `max_length`."""
    longest = int(prompts.lengths.max())
    if longest >= config.max_length:
        raise ConfigError(
            f"max_length {config.max_length} leaves no room for a caption: it includes the prompt, "
            f"which has {longest} tokens; raise max_length"
        )
