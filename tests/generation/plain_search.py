"""Searching for captions as slowly and plainly as can be: one image, Python lists, no cache.

Beam search as `BeamSearchScorer` and `BeamHypotheses` of transformers 4.15, which BLIP pins (and as 5.x for
"huggingface"). What has probability zero is no candidate.
"""

import math
from collections.abc import Callable, Iterator

from torch import Tensor
from torch.nn.functional import log_softmax

from cutline.config import GenerationConfig

History = tuple[int, ...]
Logits = Callable[[History], Tensor]  # of the token after these, (V,)


def constrained(
    scores: Tensor, tokens: History, end_id: int, config: GenerationConfig
) -> list[float]:
    """The scores (V,) of the next token after the penalties and prohibitions, in the reference's order."""
    result = scores.tolist()
    for token in set(tokens):
        result[token] *= (
            config.repetition_penalty if result[token] < 0 else 1 / config.repetition_penalty
        )
    size = config.no_repeat_ngram_size
    seen = {tokens[i : i + size] for i in range(len(tokens) - size + 1)} if size else set()
    for token in range(len(result)):
        if size and (*tokens[len(tokens) - size + 1 :], token) in seen:
            result[token] = -math.inf
    if len(tokens) < config.min_length:
        result[end_id] = -math.inf
    return result


def final_score(
    total: float, prompt: History, new_tokens: int, ended: bool, config: GenerationConfig
) -> float:
    """A sum of log-probabilities, divided by length ** length_penalty."""
    length = len(prompt) + new_tokens if config.beam_scoring == "blip" else new_tokens + ended
    return float(total / length**config.length_penalty)


def beam_search(
    logits: Logits, prompt: History, end_id: int, config: GenerationConfig
) -> list[tuple[float, History]]:
    """The captions of one image, (score, new tokens), best first."""
    blip = config.beam_scoring == "blip"
    beams: list[tuple[float, History]] = [(0.0, prompt)]
    hypotheses: list[tuple[float, History]] = []

    def offer(total: float, tokens: History, ended: bool) -> None:
        new = tokens[len(prompt) :]
        hypotheses.append((final_score(total, prompt, len(new), ended, config), new))
        hypotheses.sort(key=lambda found: -found[0])
        del hypotheses[config.num_beams :]

    while beams:
        length = len(beams[0][1])
        candidates = []
        for total, tokens in beams:
            for token, score in enumerate(
                constrained(log_softmax(logits(tokens), -1), tokens, end_id, config)
            ):
                if score > -math.inf:
                    candidates.append((total + score, tokens, token))
        candidates.sort(key=lambda candidate: -candidate[0])
        candidates = candidates[: 2 * config.num_beams]

        beams, ranks = [], []
        for rank, (total, tokens, token) in enumerate(candidates):
            if token != end_id:
                beams.append((total, (*tokens, token)))
                ranks.append(rank)
            elif rank < config.num_beams:
                offer(total, tokens, ended=True)
        beams = beams[: config.num_beams]

        bound = max((total for total, *_ in (candidates if blip else beams)), default=-math.inf)
        bound = final_score(bound, prompt, length - len(prompt), True, config)
        done = len(hypotheses) == config.num_beams and hypotheses[-1][0] >= bound
        at_limit = length + 1 == config.max_length
        if at_limit and not (blip and done):
            for (total, tokens), rank in zip(beams, ranks, strict=False):
                if blip or rank < config.num_beams:
                    offer(total, tokens, ended=False)
        if at_limit or done:
            break
    return hypotheses[: config.num_captions]


def greedy_search(
    logits: Logits, prompt: History, end_id: int, config: GenerationConfig
) -> History:
    """The new tokens of one image's caption; penalties act on raw logits."""
    tokens = prompt
    while len(tokens) < config.max_length:
        scores = constrained(logits(tokens), tokens, end_id, config)
        token = scores.index(max(scores))
        if token == end_id:
            break
        tokens = (*tokens, token)
    return tokens[len(prompt) :]


def own_score(
    logits: Logits, prompt: History, new: History, end_id: int, config: GenerationConfig
) -> float:
    """The model's own log-probability of a caption, which ends unless it has reached max_length, by its length."""
    ended = len(prompt) + len(new) < config.max_length
    told = new + (end_id,) * ended
    total = sum(
        float(log_softmax(logits(prompt + told[:i]), -1)[token]) for i, token in enumerate(told)
    )
    return final_score(total, prompt, len(new), ended, config)


def next_probabilities(
    logits: Tensor, tokens: History, end_id: int, config: GenerationConfig
) -> dict[int, float]:
    """The distribution that sampling draws the next token from: temperature, then top-k, then top-p."""
    scores = [score / config.temperature for score in constrained(logits, tokens, end_id, config)]
    best = sorted(range(len(scores)), key=lambda token: -scores[token])[: config.top_k or None]
    weights = [math.exp(scores[token] - scores[best[0]]) for token in best]
    kept: dict[int, float] = {}
    for token, weight in zip(best, weights, strict=True):
        if sum(kept.values()) <= config.top_p * sum(weights) and weight > 0:
            kept[token] = weight
    return {token: weight / sum(kept.values()) for token, weight in kept.items()}


def caption_probabilities(
    logits: Logits, prompt: History, end_id: int, config: GenerationConfig
) -> Iterator[tuple[History, float]]:
    """Every caption that sampling can give, with its probability."""
    waiting = [(prompt, 1.0)]
    while waiting:
        tokens, probability = waiting.pop()
        for token, share in next_probabilities(logits(tokens), tokens, end_id, config).items():
            if token == end_id:
                yield tokens[len(prompt) :], probability * share
            elif len(tokens) + 1 == config.max_length:
                yield (*tokens, token)[len(prompt) :], probability * share
            else:
                waiting.append(((*tokens, token), probability * share))
