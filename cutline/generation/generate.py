"""Generate the captions of one batch of images that have the same settings."""

from collections.abc import Sequence
from dataclasses import replace

from cutline.config import GenerationConfig
from cutline.generation.batch import Batch, MakeSearch, NewRequests, make_search
from cutline.generation.interfaces import CacheT, Hypothesis, Prompts, Step


def generate(
    step: Step[CacheT],
    cache: CacheT,
    prompts: Prompts,
    config: GenerationConfig,
    seeds: Sequence[int] | None = None,
    make_search: MakeSearch = make_search,
) -> list[list[Hypothesis]]:
    """Generate the captions of one batch of images.

    Args:
        step: Runs the model: step(input_ids (B, K, T), cache) -> next-token logits (B, K, V).
        cache: A new cache of the images, with one beam each.
        prompts: The prompts of the images.
        config: How to search.
        seeds: For sampling, one per image (None: `config.seed` for all).
        make_search: Makes the search.

    Returns:
        The captions of each image, best first.

    Raises:
        ConfigError: A prompt is not shorter than `max_length`.
    """
    count = len(prompts.input_ids)
    configs = [replace(config, seed=seed) for seed in seeds or [config.seed] * count]
    batch = Batch(step, make_search=make_search)
    captions = dict(batch.add(NewRequests(range(count), cache, prompts, configs)))
    while len(batch):
        captions.update(batch.advance())
    return [captions[request_id] for request_id in range(count)]
