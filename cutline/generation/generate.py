"""Write captions: one door to beam search, greedy search and sampling."""

from collections.abc import Sequence

from cutline.config import GenerationConfig
from cutline.errors import ConfigError
from cutline.generation.beam import beam_search
from cutline.generation.roles import C, Hypothesis, Prompts, Step
from cutline.generation.sample import greedy_search, sample


def generate(
    step: Step[C], cache: C, prompts: Prompts, config: GenerationConfig, seeds: Sequence[int] | None = None
) -> list[list[Hypothesis]]:
    """The captions of each picture, best first.

    Args:
        step: step(input_ids (B, K, T), cache) -> logits of the next token (B, K, V).
        cache: what `step` remembers; fresh, one beam per picture.
        prompts: where the captions begin.
        config: how to search.
        seeds: for sampling, one per picture (default: `config.seed` for all).

    Raises:
        ConfigError: a prompt leaves no room below `max_length`.
    """
    require_room(prompts, config)
    if config.sample:
        return sample(step, cache, prompts, config, seeds or [config.seed] * len(prompts.ids))
    search = greedy_search if config.num_beams == 1 else beam_search
    return search(step, cache, prompts, config)


def require_room(prompts: Prompts, config: GenerationConfig) -> None:
    """Raise ConfigError if a prompt leaves no room below `max_length`."""
    longest = int(prompts.lengths.max())
    if longest >= config.max_length:
        raise ConfigError(
            f"the prompt has {longest} tokens, so max_length {config.max_length}, which counts them, leaves no room: raise max_length"
        )
