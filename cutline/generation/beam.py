"""Beam search, batched over images and beams, with the reference's rules of when an image is done.

As transformers 4.15 (`BeamSearchScorer`, pinned by BLIP) for `beam_scoring="blip"`, as 5.x for "huggingface".
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, pad

from cutline.config import GenerationConfig
from cutline.generation.interfaces import (
    Finished,
    Hypothesis,
    Prompts,
    Rows,
    append_tokens,
    gather_beams,
    length_normalizer,
)
from cutline.generation.logits_processors import changes_scores, constrain


class BeamSearch(Rows):
    """Images in search of their `num_captions` best captions.

    Works on log-probabilities: penalties change them, and the changed ones are summed.

    ids (B, K, W) tokens so far, prompt first; running (B, K) their sums of log-probabilities; lengths (B,)
    """

    def __init__(self, prompts: Prompts, config: GenerationConfig) -> None:
        device = prompts.ids.device
        self.config, self.end_id = config, prompts.end_id
        self.lengths = self.prompt_lengths = prompts.lengths  # (B,)
        self.ids = prompts.rows(config.max_length)[:, None]  # (B, 1, W)
        self.running = torch.zeros(self.ids.shape[:2], device=device)
        self.finished = Finished(len(self.ids), config.num_beams, config.max_length, device)
        self.tokens = self.beams = torch.zeros(self.ids.shape[:2], dtype=torch.long, device=device)

    def advance(self, logits: Tensor) -> Tensor:
        """Let the best beams go on, logits (B, K, V); returns which images are done, (B,)."""
        config, keep = self.config, self.config.num_beams
        sums, beams, tokens = self._candidates(logits.float(), 2 * keep)  # (B, 2K) each
        ends = tokens == self.end_id
        new = self.lengths - self.prompt_lengths
        by_end = length_normalizer(self.prompt_lengths, new, True, config)[:, None]  # (B, 1)
        by_limit = length_normalizer(self.prompt_lengths, new + 1, False, config)[:, None]
        ended = torch.where(ends, sums / by_end, -torch.inf)[:, :keep]  # only the first K may end
        self.finished.add(ended, gather_beams(self.ids, beams[:, :keep]))

        alive = ends.int().argsort(dim=1, stable=True)[
            :, :keep
        ]  # the best that go on, ranks (B, K)
        self.running, self.beams, self.tokens = (
            sums.gather(1, alive),
            beams.gather(1, alive),
            tokens.gather(1, alive),
        )
        self.ids = append_tokens(gather_beams(self.ids, self.beams), self.lengths, self.tokens)
        self.lengths = self.lengths + 1

        best = sums[:, 0] if config.beam_scoring == "blip" else self.running[:, 0]
        done = self.finished.scores[:, -1] >= best / by_end[:, 0]
        at_limit = self.lengths >= config.max_length
        # blip leaves an image alone that is done at the limit; huggingface only lets the first K candidates in
        let_in = at_limit[:, None] & (
            ~done[:, None] if config.beam_scoring == "blip" else alive < keep
        )
        self.finished.add(torch.where(let_in, self.running / by_limit, -torch.inf), self.ids)
        return done | at_limit

    def _candidates(self, logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best `count` continuations, best first: sums, beams and tokens, (B, count) each."""
        if changes_scores(self.config):
            scores = constrain(
                log_softmax(logits, -1), self.ids, self.lengths, self.end_id, self.config
            )
            return best_candidates(scores + self.running[..., None], count)
        # the best of all beams are among the best of each, so that the vocabulary is read twice, and written never
        top, tokens = logits.topk(
            min(count + 1, logits.shape[2]), dim=-1
        )  # one more: the end token may not be allowed
        forbidden = (tokens == self.end_id) & (self.lengths < self.config.min_length)[:, None, None]
        scores = (top - logits.logsumexp(-1, keepdim=True)).masked_fill(forbidden, -torch.inf)
        sums, beams, ranks = best_candidates(scores + self.running[..., None], count)
        return sums, beams, tokens.flatten(1).gather(1, beams * tokens.shape[2] + ranks)

    def results(self, images: Tensor) -> list[list[Hypothesis]]:
        """The captions of the images `images`, (B',), best first."""
        return self.finished.best(images, self.config.num_captions, self.prompt_lengths)

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order."""
        super().select(images)
        self.finished.select(images)

    def extend(self, other: "BeamSearch") -> None:
        """Take the images of `other` in after one's own."""
        super().extend(other)
        self.finished.extend(other.finished)


def best_candidates(sums: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `count` of sums (B, K, V), best first: sums, beams and places in V, (B, count) each."""
    choices = sums.shape[2]
    flat = sums.flatten(1)
    flat = pad(
        flat, (0, max(0, count - flat.shape[1])), value=-torch.inf
    )  # a toy vocabulary may have fewer
    best, index = flat.topk(count, dim=1)
    return best, (index // choices).clamp_max(sums.shape[1] - 1), index % choices
