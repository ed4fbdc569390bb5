"""One token at a time: the likeliest (greedy search), or drawn at random (sampling)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation.interfaces import (
    NONE,
    Finished,
    Hypothesis,
    Prompts,
    Rows,
    append_tokens,
    length_normalizer,
)
from cutline.generation.logits_processors import constrain


class Sampling(Rows):
    """Images whose K captions are extended independently, by tokens drawn at random, or by the likeliest one (greedy search).

    Penalties act on raw logits, as in the reference. All of an image's random numbers come from its own seed, so that its
    captions do not depend on its neighbours. Holtzman et al., 2020 (top-p); Fan et al., 2018 (top-k).

    ids (B, K, W) tokens so far, prompt first; sums (B, K) of their log-probabilities; ended (B, K); lengths (B,)
    """

    def __init__(
        self, prompts: Prompts, config: GenerationConfig, seeds: Sequence[int] | None
    ) -> None:
        """seeds: one per image, or None for greedy search."""
        device, images, rows = (
            prompts.ids.device,
            len(prompts.ids),
            1 if seeds is None else config.num_captions,
        )
        self.config, self.end_id = config, prompts.end_id
        self.lengths = self.prompt_lengths = prompts.lengths  # (B,)
        self.ids = prompts.rows(config.max_length)[:, None].expand(-1, rows, -1)
        self.sums = torch.zeros(images, rows, device=device)
        self.ended = torch.zeros(images, rows, dtype=torch.bool, device=device)
        self.tokens = self.beams = torch.zeros(images, rows, dtype=torch.long, device=device)
        self.uniforms = None
        if seeds is not None:
            draws = [
                torch.rand(config.max_length, rows, generator=torch.Generator().manual_seed(seed))
                for seed in seeds
            ]
            self.uniforms = torch.stack(draws).to(device)  # (B, max_length, K)

    def advance(self, logits: Tensor) -> Tensor:
        """Take one more token for each row, logits (B, K or 1, V); returns which images are done, (B,)."""
        (images, rows), beams = self.sums.shape, logits.shape[1]
        logits = logits.float().expand(-1, rows, -1)
        scores = constrain(logits, self.ids, self.lengths, self.end_id, self.config)
        if self.uniforms is None:
            tokens = scores.argmax(-1)
        else:
            number = (self.lengths - self.prompt_lengths)[:, None, None].expand(-1, 1, rows)
            tokens = sample_tokens(scores, self.uniforms.gather(1, number)[:, 0], self.config)
        # the score is the model's own log-probability, whatever was done to choose the token
        log_probs = logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)
        self.sums = torch.where(self.ended, self.sums, self.sums + log_probs)
        self.tokens = tokens.masked_fill(self.ended, self.end_id)
        self.beams = (
            torch.arange(rows, device=logits.device).clamp_max(beams - 1).expand(images, -1)
        )  # at first there is one
        self.ids = append_tokens(self.ids, self.lengths, self.tokens)
        self.ended, self.lengths = self.ended | (self.tokens == self.end_id), self.lengths + 1
        return self.ended.all(1) | (self.lengths >= self.config.max_length)

    def results(self, images: Tensor) -> list[list[Hypothesis]]:
        """The captions of the images `images`, (B',), best first."""
        ids, starts = self.ids[images], self.prompt_lengths[images]  # (B', K, W), (B',)
        position = torch.arange(ids.shape[2], device=ids.device)
        past_end = ((ids == self.end_id) & (position >= starts[:, None, None])).cumsum(-1) > 0
        new_tokens = (~past_end & (ids != NONE)).sum(-1) - starts[:, None]  # (B', K)
        finished = Finished(len(ids), ids.shape[1], ids.shape[2], ids.device)
        scores = self.sums[images] / length_normalizer(
            starts[:, None], new_tokens, self.ended[images], self.config
        )
        finished.add(scores, ids.masked_fill(past_end, NONE))
        return finished.best(torch.arange(len(ids), device=ids.device), ids.shape[1], starts)


def sample_tokens(scores: Tensor, uniforms: Tensor, config: GenerationConfig) -> Tensor:
    """Tokens (B, K) drawn from scores (B, K, V) with uniforms (B, K) in [0, 1): temperature, then top-k, then top-p."""
    count = min(config.top_k, scores.shape[-1]) if config.top_k else scores.shape[-1]
    top, tokens = (scores / config.temperature).topk(count, dim=-1)  # best first
    probs = top.softmax(-1)
    before = probs.cumsum(-1) - probs  # the probability of all better tokens
    # a token stays while those before it have not passed top_p; the best one always does
    cumulative = probs.masked_fill(before > config.top_p, 0).cumsum(-1)
    target = uniforms[..., None] * cumulative[..., -1:]
    choice = torch.searchsorted(cumulative, target, right=True)
    last = (before <= config.top_p).sum(
        -1, keepdim=True
    ) - 1  # rounding must not reach beyond the last one that stays
    return tokens.gather(-1, choice.minimum(last))[..., 0]
