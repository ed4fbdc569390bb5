"""Beam search, batched over pictures and beams, with the reference's rules of when a picture is done.

As transformers 4.15 (`BeamSearchScorer`, pinned by BLIP) for `beam_scoring="blip"`, as 5.x for "huggingface".
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, pad

from cutline.config import GenerationConfig
from cutline.generation.constraints import constrain
from cutline.generation.roles import NONE, C, Finished, Hypothesis, Prompts, Step, collect, length_term, take_beams


def best_candidates(sums: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `count` continuations of sums (B, K, V), best first: sums, beams and tokens, (B, count) each."""
    vocab = sums.shape[2]
    flat = sums.flatten(1)
    flat = pad(flat, (0, max(0, count - flat.shape[1])), value=-torch.inf)  # a toy vocabulary may have fewer
    best, index = flat.topk(count, dim=1)
    return best, (index // vocab).clamp_max(sums.shape[1] - 1), index % vocab


def beam_search(step: Step[C], cache: C, prompts: Prompts, config: GenerationConfig) -> list[list[Hypothesis]]:
    """The `config.num_captions` best captions of each picture, best first.

    Works on log-probabilities: penalties change them, and the changed ones are summed. A picture that is done leaves
    the batch.
    """
    keep, end_id = config.num_beams, prompts.end_id
    device = prompts.ids.device
    prompt_lengths = prompts.lengths  # (B,)
    lengths = prompt_lengths.clone()
    ids = prompts.ids.masked_fill(~prompts.mask, NONE)[:, None]  # (B, 1, T)
    first_new = ids.shape[2]
    finished = Finished(len(ids), keep, config.max_length - int(lengths.min()), device)
    running = torch.zeros(ids.shape[:2], device=device)  # (B, K) sums of log-probabilities
    waiting = torch.arange(len(ids), device=device)  # which pictures are still searched
    results: list[list[Hypothesis]] = [[] for _ in range(len(ids))]
    logits = step(prompts.ids[:, None], cache)
    while True:
        scores = constrain(log_softmax(logits.float(), -1), ids, lengths, end_id, config)
        sums, beams, tokens = best_candidates(scores + running[..., None], 2 * keep)  # (B, 2K) each
        ends = tokens == end_id
        new_tokens = take_beams(ids, beams)[..., first_new:]  # (B, 2K, t)

        by_end = length_term(prompt_lengths, lengths - prompt_lengths, True, config)[:, None]  # (B, 1)
        by_limit = length_term(prompt_lengths, lengths - prompt_lengths + 1, False, config)[:, None]
        ended = torch.where(ends, sums / by_end, -torch.inf)[:, :keep]  # only the first K may end
        finished.add(ended, new_tokens[:, :keep])

        alive = ends.int().argsort(dim=1, stable=True)[:, :keep]  # the best that go on, ranks (B, K)
        running, beams, tokens = sums.gather(1, alive), beams.gather(1, alive), tokens.gather(1, alive)
        ids = torch.cat([take_beams(ids, beams), tokens[..., None]], 2)
        lengths = lengths + 1

        best = sums[:, 0] if config.beam_scoring == "blip" else running[:, 0]
        done = finished.scores[:, -1] >= best / by_end[:, 0]
        at_limit = lengths >= config.max_length
        # blip leaves a picture alone that is done at the limit; huggingface only lets the first K candidates in
        let_in = at_limit[:, None] & (~done[:, None] if config.beam_scoring == "blip" else alive < keep)
        finished.add(torch.where(let_in, running / by_limit, -torch.inf), ids[..., first_new:])

        over = done | at_limit
        if bool(over.any()):
            collect(results, finished, waiting, over, config.num_captions)
            left = torch.nonzero(~over)[:, 0]
            if not len(left):
                return results
            finished.select(left)
            cache.select(left)
            waiting, prompt_lengths, lengths = waiting[left], prompt_lengths[left], lengths[left]
            ids, running, beams, tokens = ids[left], running[left], beams[left], tokens[left]
        cache.reorder(beams)
        logits = step(tokens[..., None], cache)
