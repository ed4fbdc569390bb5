"""One token at a time: the likeliest (greedy search), or drawn at random (sampling)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation.constraints import constrain
from cutline.generation.roles import NONE, C, Finished, Hypothesis, Prompts, Step, collect, length_term


def greedy_search(step: Step[C], cache: C, prompts: Prompts, config: GenerationConfig) -> list[list[Hypothesis]]:
    """The caption that takes the likeliest token at every step; penalties act on raw logits, as in the reference."""
    return _one_at_a_time(step, cache, prompts, config, None)


def sample(step: Step[C], cache: C, prompts: Prompts, config: GenerationConfig, seeds: Sequence[int]) -> list[list[Hypothesis]]:
    """`config.num_captions` captions of each picture, drawn at random, best first.

    seeds: one per picture. All of a picture's random numbers come from its own seed, so that its captions do not
    depend on its neighbours. Holtzman et al., 2020 (top-p); Fan et al., 2018 (top-k).
    """
    steps = config.max_length - int(prompts.lengths.min())
    draws = [torch.rand(steps, config.num_captions, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return _one_at_a_time(step, cache, prompts, config, torch.stack(draws, 1).to(prompts.ids.device))


def draw(scores: Tensor, uniforms: Tensor, config: GenerationConfig) -> Tensor:
    """Tokens (B, K) drawn from scores (B, K, V) with uniforms (B, K) in [0, 1): temperature, then top-k, then top-p."""
    count = min(config.top_k, scores.shape[-1]) if config.top_k else scores.shape[-1]
    top, tokens = (scores / config.temperature).topk(count, dim=-1)  # best first
    probs = top.softmax(-1)
    before = probs.cumsum(-1) - probs  # the probability of all better tokens
    # a token stays while those before it have not passed top_p; the best one always does
    cumulative = probs.masked_fill(before > config.top_p, 0).cumsum(-1)
    target = uniforms[..., None] * cumulative[..., -1:]
    choice = torch.searchsorted(cumulative, target, right=True)
    last = (before <= config.top_p).sum(-1, keepdim=True) - 1  # rounding must not reach beyond the last one that stays
    return tokens.gather(-1, choice.minimum(last))[..., 0]


def _one_at_a_time(step: Step[C], cache: C, prompts: Prompts, config: GenerationConfig, uniforms: Tensor | None) -> list[list[Hypothesis]]:
    """Extend K rows of each picture independently; with `uniforms` (steps, B, K) tokens are drawn, without the best is taken."""
    rows = 1 if uniforms is None else config.num_captions
    device = prompts.ids.device
    lengths = prompts.lengths
    prompt_lengths = lengths
    ids = prompts.ids.masked_fill(~prompts.mask, NONE)[:, None].expand(-1, rows, -1)  # (B, K, T)
    first_new = ids.shape[2]
    logits = step(prompts.ids[:, None], cache).expand(-1, rows, -1)
    cache.reorder(torch.zeros(ids.shape[:2], dtype=torch.long, device=device))
    ended = torch.zeros(ids.shape[:2], dtype=torch.bool, device=device)
    sums = torch.zeros(ids.shape[:2], device=device)
    waiting = torch.arange(len(ids), device=device)
    results: list[list[Hypothesis]] = [[] for _ in range(len(ids))]
    number = 0
    while True:
        logits = logits.float()
        scores = constrain(logits, ids, lengths, prompts.end_id, config)
        tokens = scores.argmax(-1) if uniforms is None else draw(scores, uniforms[number], config)
        # the score is the model's own log-probability, whatever was done to choose the token
        log_probs = logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)
        sums = torch.where(ended, sums, sums + log_probs)
        tokens = tokens.masked_fill(ended, prompts.end_id)
        ids = torch.cat([ids, tokens[..., None]], 2)
        ended, lengths = ended | (tokens == prompts.end_id), lengths + 1
        over = ended.all(1) | (lengths >= config.max_length)
        if bool(over.any()):
            collect(results, ranked(sums, ids[..., first_new:], prompt_lengths, prompts.end_id, config), waiting, over, rows)
            left = torch.nonzero(~over)[:, 0]
            if not len(left):
                return results
            cache.select(left)
            waiting, prompt_lengths, lengths, ended = waiting[left], prompt_lengths[left], lengths[left], ended[left]
            ids, sums, tokens = ids[left], sums[left], tokens[left]
            uniforms = None if uniforms is None else uniforms[:, left]
        logits, number = step(tokens[..., None], cache), number + 1


def ranked(sums: Tensor, tokens: Tensor, prompt_lengths: Tensor, end_id: int, config: GenerationConfig) -> Finished:
    """Captions from summed log-probabilities (B, K) and new tokens (B, K, t), end tokens included."""
    past_end = (tokens == end_id).cumsum(-1) > 0
    new_tokens = (~past_end).sum(-1)  # (B, K)
    images, rows, count = tokens.shape
    finished = Finished(images, rows, count, tokens.device)
    scores = sums / length_term(prompt_lengths[:, None], new_tokens, past_end[..., -1], config)
    finished.add(scores, tokens.masked_fill(past_end, NONE))
    return finished
