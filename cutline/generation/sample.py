"""Sampling and greedy search: one token at a time, drawn at random or the most likely one."""

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.functional import pad

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NO_LOG_PROB, NO_TOKEN, Hypothesis, Progress, Prompts
from cutline.generation.processor_chain import ProcessorChain
from cutline.generation.state import (
    BatchState,
    append_tokens,
    gather_beams,
    length_normalizer,
    new_log_probs,
    to_hypotheses,
)

NUCLEUS_TOKENS = 512
"""tokens that are sorted if all may be chosen; few nuclei have more"""
ROUNDING = 1e-4
"""far above the rounding errors of probabilities and their sums"""


class Sampling(BatchState):
    """Sampling, or greedy search: the K captions of an image are continued independently.

    Penalties apply to raw logits, as in transformers. All random numbers of an image come from its
    own seed, so that its captions do not depend on the rest of the batch.

    Attributes:
        ids: (B, K, W), tokens so far, prompt first.
        lengths: (B,), their number.
        sums: (B, K), sums of their log-probabilities.
        ended: (B, K), whether a caption has its end token.
        uniforms: (B, max_length, K), random numbers in [0, 1), or None for greedy search.
        log_probs: (B, K, W), the model's own log-probabilities of the tokens.
    """

    def __init__(
        self,
        prompts: Prompts,
        config: GenerationConfig,
        seeds: Sequence[int] | None,
        processors: ProcessorChain,
    ) -> None:
        """Begin the captions.

        Args:
            prompts: The prompts of the images.
            config: How to choose tokens, and the number of captions per image.
            seeds: One per image, or None for greedy search, which has one caption per image.
            processors: What changes the logits.
        """
        num_captions = 1 if seeds is None else config.num_captions
        self.config, self.end_id, self.processors = config, prompts.end_id, processors
        self.lengths = self.prompt_lengths = prompts.lengths  # (B,)
        self.ids = prompts.left_align(config.max_length)[:, None].expand(-1, num_captions, -1)
        self.log_probs = new_log_probs(self.ids)
        shape, device = self.ids.shape[:2], self.ids.device
        self.sums = torch.zeros(shape, device=device)
        self.ended = torch.zeros(shape, dtype=torch.bool, device=device)
        self.next_tokens = self.beam_indices = torch.zeros(shape, dtype=torch.long, device=device)
        self.uniforms = None
        if seeds is not None:
            self.uniforms = draw_uniforms(seeds, config.max_length, num_captions).to(device)

    def advance(self, logits: Tensor) -> Tensor:
        """Add one token to each caption.

        Args:
            logits: (B, K, V), or (B, 1, V) after the prompt.

        Returns:
            Which images are done, (B,).
        """
        (num_images, num_captions), num_beams = self.sums.shape, logits.shape[1]
        logits = logits.float().expand(-1, num_captions, -1)
        scores = self._process(logits)
        if self.uniforms is None:
            tokens = scores.argmax(-1)
        else:
            index = (self.lengths - self.prompt_lengths)[:, None, None].expand(-1, 1, num_captions)
            tokens = sample_tokens(scores, self.uniforms.gather(1, index)[:, 0], self.config)
        # A caption is scored by the model's own log-probabilities, before any processing.
        log_probs = logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)
        if self.processors.custom:  # they may forbid all tokens: there is no caption then
            log_probs = log_probs.masked_fill(scores.amax(-1) == -torch.inf, torch.nan)
        self.sums = torch.where(self.ended, self.sums, self.sums + log_probs)
        log_probs = log_probs.masked_fill(self.ended, NO_LOG_PROB)
        self.log_probs = append_tokens(self.log_probs, self.lengths, log_probs)
        self.next_tokens = tokens.masked_fill(self.ended, self.end_id)
        # After the prompt there is one beam, which all captions continue; later each has its own.
        caption = torch.arange(num_captions, device=logits.device)
        self.beam_indices = caption.clamp_max(num_beams - 1).expand(num_images, -1)
        self.ids = append_tokens(self.ids, self.lengths, self.next_tokens)
        self.ended = self.ended | (self.next_tokens == self.end_id)
        self.lengths = self.lengths + 1
        return self.ended.all(1) | (self.lengths >= self.config.max_length)

    def _process(self, logits: Tensor) -> Tensor:
        """Return the scores (B, K, V) of the next tokens; the logits are unchanged."""
        if self.processors.is_empty:
            return logits
        scores = logits.clone(memory_format=torch.contiguous_format)
        return self.processors.process(scores, self.ids, self.lengths, ~self.ended)

    def finalize(self, images: Tensor) -> list[list[Hypothesis]]:
        """Return the captions of the images `images`, (B',), best first."""
        ids, starts = self.ids[images], self.prompt_lengths[images]  # (B', K, W), (B',)
        position = torch.arange(ids.shape[2], device=ids.device)
        is_end = (ids == self.end_id) & (position >= starts[:, None, None])
        past_end = is_end.cumsum(-1) > 0  # from the first end token on
        new_tokens = (~past_end & (ids != NO_TOKEN)).sum(-1) - starts[:, None]  # (B', K)
        scores = self.sums[images] / length_normalizer(
            starts[:, None], new_tokens, self.ended[images], self.config
        )
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        captions = gather_beams(ids.masked_fill(past_end, NO_TOKEN), order)
        log_probs = gather_beams(self.log_probs[images], order)
        return to_hypotheses(scores, captions, log_probs, starts, order)

    def progress(self, image: int) -> Progress:
        """Return what is known of the captions of an image: all tokens so far are settled."""
        rows = self.ids[image, :, int(self.prompt_lengths[image]) :].tolist()
        ends = (NO_TOKEN, self.end_id)
        settled = [tuple(takewhile(lambda token: token not in ends, row)) for row in rows]
        return Progress(settled, draft=())


def draw_uniforms(seeds: Sequence[int], max_length: int, num_captions: int) -> Tensor:
    """Draw the random numbers of each image from its seed: (B, max_length, num_captions)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.rand(max_length, num_captions, generator=g) for g in generators])


def sample_tokens(scores: Tensor, uniforms: Tensor, config: GenerationConfig) -> Tensor:
    """Draw tokens after temperature, top-k and top-p.

    Fan et al., 2018 (arXiv 1805.04833, top-k); Holtzman et al., 2020 (arXiv 1904.09751, top-p).

    Args:
        scores: (B, K, V), processed logits.
        uniforms: (B, K), random numbers in [0, 1).
        config: Temperature, top_k and top_p.

    Returns:
        (B, K).
    """
    is_large = scores.shape[-1] > 4 * NUCLEUS_TOKENS
    if config.top_k or config.top_p == 1 or not is_large or scores.device.type != "cpu":
        return sample_sorted(scores, uniforms, config)
    tokens, is_certain = sample_nucleus(scores, uniforms, config)
    others = ~is_certain
    if others.any():
        tokens[others] = sample_sorted(scores[others], uniforms[others], config)
    return tokens


def sample_sorted(scores: Tensor, uniforms: Tensor, config: GenerationConfig) -> Tensor:
    """Draw tokens (…) as `sample_tokens` does, given scores (…, V) and random numbers (…)."""
    count = min(config.top_k, scores.shape[-1]) if config.top_k else scores.shape[-1]
    top, tokens = (scores / config.temperature).topk(count, dim=-1)  # best first
    probs = top.softmax(-1)
    # A token is kept if the probability of all better tokens is at most top_p; so the best one is
    # always kept, and the kept tokens come first.
    before = probs.cumsum(-1) - probs
    is_kept = before <= config.top_p
    # Inverse transform sampling among the kept tokens.
    cumulative = probs.masked_fill(~is_kept, 0).cumsum(-1)
    target = uniforms[..., None] * cumulative[..., -1:]
    choice = torch.searchsorted(cumulative, target, right=True)
    last = is_kept.sum(-1, keepdim=True) - 1  # rounding must not go beyond the last kept token
    # No token is kept if all scores are NaN.
    return tokens.gather(-1, choice.minimum(last).clamp_min(0))[..., 0]


def sample_nucleus(
    scores: Tensor, uniforms: Tensor, config: GenerationConfig
) -> tuple[Tensor, Tensor]:
    """Draw tokens (B, K) from the most likely ones, which are sorted faster than all.

    Returns:
        The tokens, and whether each is certain to be that of `sample_sorted`: the nucleus has no
        other tokens, and neither rounding nor the order of tokens with equal scores can matter.
    """
    scaled = scores / config.temperature
    top, tokens = scaled.topk(NUCLEUS_TOKENS, dim=-1)
    probs = (top - scaled.logsumexp(-1, keepdim=True)).exp()
    after = probs.cumsum(-1)
    before = after - probs
    last = ((before <= config.top_p).sum(-1, keepdim=True) - 1).clamp_min(0)
    target = uniforms[..., None] * after.gather(-1, last)
    choice = torch.searchsorted(after, target, right=True).minimum(last)
    gaps = (
        target - before.gather(-1, choice),
        after.gather(-1, choice) - target,
        config.top_p - before.gather(-1, last),
        after.gather(-1, last) - config.top_p,
    )
    is_equal = top[..., 1:] == top[..., :-1]  # the last one may be equal to one that is left out
    is_tied = pad(is_equal, (0, 1), value=True) | pad(is_equal, (1, 0), value=False)
    is_certain = (torch.cat(gaps, -1) > ROUNDING).all(-1) & ~is_tied.gather(-1, choice)[..., 0]
    return tokens.gather(-1, choice)[..., 0], is_certain
