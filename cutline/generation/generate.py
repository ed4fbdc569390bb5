"""Generate the captions of one batch of images that have the same settings."""

from collections.abc import Sequence
from dataclasses import replace

from cutline.config import GenerationConfig
from cutline.errors import GenerationError
from cutline.generation.batch import Batch, MakeSearch, NewRequests, make_search
from cutline.generation.interfaces import CacheT, Hypothesis, Prompts, Step
from cutline.generation.logits_processors import LogitsProcessor


def generate(
    step: Step[CacheT],
    cache: CacheT,
    prompts: Prompts,
    config: GenerationConfig,
    seeds: Sequence[int] | None = None,
    logits_processors: Sequence[LogitsProcessor] = (),
    make_search: MakeSearch = make_search,
) -> list[list[Hypothesis]]:
    """Generate the captions of one batch of images.

    Args:
        step: Runs the model: step(input_ids (B, K, T), cache) -> next-token logits (B, K, V).
        cache: A new cache of the images, with one beam each.
        prompts: The prompts of the images.
        config: How to search.
        seeds: For sampling, one per image (None: `config.seed` for all).
        logits_processors: Functions that change the scores of the next token.
        make_search: Makes the search.

    Returns:
        The captions of each image, best first.

    Raises:
        ConfigError: A prompt is not shorter than `max_length`.
        GenerationError: A logits processor failed.
    """
    count = len(prompts.input_ids)
    configs = [replace(config, seed=seed) for seed in seeds or [config.seed] * count]
    batch = Batch(step, make_search=make_search)
    requests = NewRequests(range(count), cache, prompts, configs, [logits_processors] * count)
    results = dict(batch.add(requests))
    while len(batch):
        results.update(batch.advance())
    captions = []
    for request_id in range(count):
        result = results[request_id]
        if isinstance(result, GenerationError):
            raise result
        captions.append(result)
    return captions
