"""Beam search over batches of images.

The stopping rule of `beam_scoring="blip"` is that of `BeamSearchScorer` in transformers 4.15, the
version that BLIP pins; the rule of "huggingface" is that of transformers 5.

Shapes: B images, K beams, W = max_length tokens (NO_TOKEN after the last), V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, pad

from cutline.config import GenerationConfig
from cutline.generation.consensus import rank_by_consensus
from cutline.generation.interfaces import Hypothesis, Progress, Prompts
from cutline.generation.processor_chain import ProcessorChain
from cutline.generation.state import (
    BatchState,
    BeamHypotheses,
    append_tokens,
    common_prefix,
    gather_beams,
    length_normalizer,
    new_log_probs,
    to_hypotheses,
    trim,
)


class BeamSearch(BatchState):
    """A search for the `num_captions` best captions of each image, with K beams.

    Penalties apply to log-probabilities; beams are ranked by sums of the penalized ones.

    Attributes:
        ids: (B, K, W), tokens so far, prompt first.
        lengths: (B,), their number.
        beam_scores: (B, K), their sums of log-probabilities.
        hypotheses: Captions that have ended.
        log_probs: (B, K, W), the model's own log-probabilities of the tokens.
    """

    def __init__(
        self, prompts: Prompts, config: GenerationConfig, processors: ProcessorChain
    ) -> None:
        self.config, self.end_id, self.processors = config, prompts.end_id, processors
        self.lengths = self.prompt_lengths = prompts.lengths  # (B,)
        self.ids = prompts.left_align(config.max_length)[:, None]  # (B, 1, W)
        num_images, device = len(self.ids), self.ids.device
        self.hypotheses = BeamHypotheses(num_images, config, device)
        self.log_probs = new_log_probs(self.ids)
        self.beam_scores = torch.zeros(num_images, 1, device=device)
        first = torch.zeros(num_images, 1, dtype=torch.long, device=device)
        self.next_tokens = self.beam_indices = first

    def advance(self, logits: Tensor) -> Tensor:
        """Continue the best beams.

        Args:
            logits: (B, K, V), or (B, 1, V) after the prompt.

        Returns:
            Which images are done, (B,).
        """
        config, num_beams = self.config, self.config.num_beams
        logits = logits.float()
        norms = logits.logsumexp(-1)  # (B, K)
        scores, beams, tokens = self._find_candidates(logits, norms, 2 * num_beams)  # (B, 2K)
        log_probs = self._append_log_probs(logits, norms, beams, tokens)  # (B, 2K, W)
        is_end = tokens == self.end_id
        new_tokens = self.lengths - self.prompt_lengths
        # (B, 1) each: of candidates that end here, and of beams that end at max_length
        end_norm = length_normalizer(self.prompt_lengths, new_tokens, True, config)[:, None]
        limit_norm = length_normalizer(self.prompt_lengths, new_tokens + 1, False, config)[:, None]

        # An end token among the first K candidates completes a caption; one below them is dropped.
        ended = torch.where(is_end, scores / end_norm, -torch.inf)[:, :num_beams]
        ended_ids = gather_beams(self.ids, beams[:, :num_beams])
        self.hypotheses.add(ended, ended_ids, log_probs[:, :num_beams])

        # The best K candidates without an end token become the new beams. There are always K among
        # the 2K candidates, since an end token can follow each beam only once.
        ranks = is_end.int().argsort(dim=1, stable=True)[:, :num_beams]  # (B, K)
        self.beam_scores = scores.gather(1, ranks)
        self.beam_indices = beams.gather(1, ranks)
        self.next_tokens = tokens.gather(1, ranks)
        ids = gather_beams(self.ids, self.beam_indices)
        self.ids = append_tokens(ids, self.lengths, self.next_tokens)
        self.log_probs = gather_beams(log_probs, ranks)
        self.lengths = self.lengths + 1

        # An image is done when no beam can beat its worst hypothesis. As the best score that a beam
        # can reach, both versions of transformers take the highest sum, normalized by the current
        # length: "blip" the highest of all candidates, "huggingface" that of the new beams.
        blip = config.beam_scoring == "blip"
        best = scores[:, 0] if blip else self.beam_scores[:, 0]
        done = self.hypotheses.scores[:, -1] >= best / end_norm[:, 0]

        # At max_length the beams become hypotheses: for "blip" unless the image is done already,
        # for "huggingface" those that were among the first K candidates.
        at_limit = self.lengths >= config.max_length
        added = at_limit[:, None] & (~done[:, None] if blip else ranks < num_beams)
        limit_scores = torch.where(added, self.beam_scores / limit_norm, -torch.inf)
        self.hypotheses.add(limit_scores, self.ids, self.log_probs)
        return done | at_limit

    def _find_candidates(
        self, logits: Tensor, norms: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, beams and tokens of the best continuations, best first, (B, count)."""
        config = self.config
        if not self.processors.limits_length_only:
            log_probs = log_softmax(logits, -1)
            log_probs = self.processors.process(log_probs, self.ids, self.lengths)
            return select_top(log_probs + self.beam_scores[..., None], count)
        # The best candidates of all beams are among the best of each beam, so log-probabilities of
        # the whole vocabulary need not be computed. One more per beam makes up for an end token
        # that min_length forbids.
        top, tokens = logits.topk(min(count + 1, logits.shape[2]), dim=-1)
        forbidden = (tokens == self.end_id) & (self.lengths < config.min_length)[:, None, None]
        log_probs = top - norms[..., None]
        log_probs = log_probs.masked_fill(forbidden, -torch.inf)
        scores, beams, ranks = select_top(log_probs + self.beam_scores[..., None], count)
        # In a flattened row, the token of rank r of beam k is at k * tokens.shape[2] + r.
        return scores, beams, tokens.flatten(1).gather(1, beams * tokens.shape[2] + ranks)

    def _append_log_probs(
        self, logits: Tensor, norms: Tensor, beams: Tensor, tokens: Tensor
    ) -> Tensor:
        """Return the log-probabilities of the tokens of all candidates, before any penalties."""
        # In flattened logits, token v of beam k is at k * V + v.
        chosen = logits.flatten(1).gather(1, beams * logits.shape[2] + tokens)
        log_probs = chosen - norms.gather(1, beams)
        return append_tokens(gather_beams(self.log_probs, beams), self.lengths, log_probs)

    def finalize(self, images: Tensor) -> list[list[Hypothesis]]:
        """Return the captions of the images `images`, (B',), best first."""
        count, found = self.config.num_captions, self.hypotheses
        needed = self.config.num_beams if self.config.consensus else count
        captions = to_hypotheses(
            found.scores[images, :needed],
            found.tokens[images, :needed],
            found.log_probs[images, :needed],
            self.prompt_lengths[images],
        )
        if self.config.consensus:
            captions = [rank_by_consensus(each)[:count] for each in captions]
        return captions

    def progress(self, image: int) -> Progress:
        """Return what is known of the captions of an image.

        The final captions are among the hypotheses and the continuations of the beams, so the
        tokens that all of these share are settled.
        """
        start = int(self.prompt_lengths[image])
        scores = torch.cat([self.beam_scores[image], self.hypotheses.scores[image]]).tolist()
        rows = torch.cat([self.ids[image], self.hypotheses.tokens[image]])[:, start:].tolist()
        possible = [
            trim(row) for score, row in zip(scores, rows, strict=True) if score > -torch.inf
        ]
        shared = common_prefix(possible)
        best = possible[0] if possible else ()
        return Progress([shared] * self.config.num_captions, best[len(shared) :])

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order."""
        super().select(images)
        self.hypotheses.select(images)

    def extend(self, other: "BeamSearch") -> None:
        """Append the images of `other`."""
        super().extend(other)
        self.hypotheses.extend(other.hypotheses)


def select_top(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Select the best `count` of scores (B, K, V).

    Returns:
        Scores, beams and indices into V, best first, (B, count) each.
    """
    num_beams, num_choices = scores.shape[1:]
    flat = scores.flatten(1)
    # a vocabulary of a few tokens may have fewer candidates than `count`
    flat = pad(flat, (0, max(0, count - flat.shape[1])), value=-torch.inf)
    best, index = flat.topk(count, dim=1)
    # In a flattened row, choice i of beam k is at k * num_choices + i. Padding has score -inf and
    # lies beyond the last beam, so it is clamped to one that exists.
    return best, (index // num_choices).clamp_max(num_beams - 1), index % num_choices
