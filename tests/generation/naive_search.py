"""A slow and simple search to compare with: one image, Python lists, no cache.

Beam search as `BeamSearchScorer` and `BeamHypotheses` of transformers 4.15, which BLIP pins (and as
transformers 5 for "huggingface"). Continuations of probability zero are not candidates.
"""

import math
from collections.abc import Callable, Iterator

from torch import Tensor
from torch.nn.functional import log_softmax

from cutline.config import GenerationConfig

History = tuple[int, ...]
Logits = Callable[[History], Tensor]
"""logits (V,) of the token after a history"""


def process_row(
    scores: Tensor, tokens: History, end_id: int, config: GenerationConfig
) -> list[float]:
    """Apply penalties and limits to the scores (V,) of the next token, in BLIP's order.

    A bad word is its token ids, as text.
    """
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
    for *before, token in map(parse_word, config.bad_words):
        if tokens[len(tokens) - len(before) :] == tuple(before):
            result[token] = -math.inf
    if len(tokens) < config.min_length:
        result[end_id] = -math.inf
    return result


def parse_word(word: str) -> list[int]:
    """Return the token ids of a bad word."""
    return list(map(int, word.split()))


def normalize_score(
    total: float, prompt: History, new_tokens: int, ended: bool, config: GenerationConfig
) -> float:
    """Divide a sum of log-probabilities by length ** length_penalty."""
    length = len(prompt) + new_tokens if config.beam_scoring == "blip" else new_tokens + ended
    return float(total / length**config.length_penalty)


def beam_search(
    logits: Logits, prompt: History, end_id: int, config: GenerationConfig
) -> list[tuple[float, History]]:
    """Return the captions of one image as (score, new tokens), best first."""
    blip = config.beam_scoring == "blip"
    beams: list[tuple[float, History]] = [(0.0, prompt)]
    hypotheses: list[tuple[float, History]] = []

    def add(total: float, tokens: History, ended: bool) -> None:
        new = tokens[len(prompt) :]
        hypotheses.append((normalize_score(total, prompt, len(new), ended, config), new))
        hypotheses.sort(key=lambda hypothesis: -hypothesis[0])
        del hypotheses[config.num_beams :]

    while beams:
        length = len(beams[0][1])
        candidates = []
        for total, tokens in beams:
            log_probs = log_softmax(logits(tokens), -1)
            for token, score in enumerate(process_row(log_probs, tokens, end_id, config)):
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
                add(total, tokens, ended=True)
        beams = beams[: config.num_beams]

        bound = max((total for total, *_ in (candidates if blip else beams)), default=-math.inf)
        bound = normalize_score(bound, prompt, length - len(prompt), True, config)
        done = len(hypotheses) == config.num_beams and hypotheses[-1][0] >= bound
        at_limit = length + 1 == config.max_length
        if at_limit and not (blip and done):
            for (total, tokens), rank in zip(beams, ranks, strict=False):
                if blip or rank < config.num_beams:
                    add(total, tokens, ended=False)
        if at_limit or done:
            break
    return hypotheses[: config.num_captions]


def greedy_search(
    logits: Logits, prompt: History, end_id: int, config: GenerationConfig
) -> History:
    """Return the new tokens of one image's caption; penalties change raw logits."""
    tokens = prompt
    while len(tokens) < config.max_length:
        scores = process_row(logits(tokens), tokens, end_id, config)
        token = scores.index(max(scores))
        if token == end_id:
            break
        tokens = (*tokens, token)
    return tokens[len(prompt) :]


def score_caption(
    logits: Logits, prompt: History, new: History, end_id: int, config: GenerationConfig
) -> float:
    """Return the model's own score of a caption, which ends unless it has max_length tokens."""
    log_probs = compute_log_probs(logits, prompt, new, end_id, config.max_length)
    ended = len(log_probs) > len(new)
    return normalize_score(sum(log_probs), prompt, len(new), ended, config)


def compute_log_probs(
    logits: Logits, prompt: History, new: History, end_id: int, max_length: int
) -> list[float]:
    """Return the model's log-probability of each token of a caption, and of its end token."""
    ended = len(prompt) + len(new) < max_length
    tokens = new + (end_id,) * ended
    return [
        float(log_softmax(logits(prompt + tokens[:i]), -1)[token]) for i, token in enumerate(tokens)
    ]


def next_probabilities(
    logits: Tensor, tokens: History, end_id: int, config: GenerationConfig
) -> dict[int, float]:
    """Return the distribution of the next token after temperature, then top-k, then top-p."""
    scores = [score / config.temperature for score in process_row(logits, tokens, end_id, config)]
    ranked = sorted(range(len(scores)), key=lambda token: -scores[token])[: config.top_k or None]
    weights = [math.exp(scores[token] - scores[ranked[0]]) for token in ranked]
    kept: dict[int, float] = {}
    for token, weight in zip(ranked, weights, strict=True):
        if sum(kept.values()) <= config.top_p * sum(weights) and weight > 0:
            kept[token] = weight
    return {token: weight / sum(kept.values()) for token, weight in kept.items()}


def caption_probabilities(
    logits: Logits, prompt: History, end_id: int, config: GenerationConfig
) -> Iterator[tuple[History, float]]:
    """Yield every caption that sampling can give, with its probability."""
    unfinished = [(prompt, 1.0)]
    while unfinished:
        tokens, probability = unfinished.pop()
        for token, share in next_probabilities(logits(tokens), tokens, end_id, config).items():
            if token == end_id:
                yield tokens[len(prompt) :], probability * share
            elif len(tokens) + 1 == config.max_length:
                yield (*tokens, token)[len(prompt) :], probability * share
            else:
                unfinished.append(((*tokens, token), probability * share))
