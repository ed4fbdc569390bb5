"""Turn what a search has found into captions."""

from collections.abc import Sequence
from dataclasses import replace

from cutline.batching.caption import Caption
from cutline.confidence import Calibration, measure_words
from cutline.generation import Hypothesis
from cutline.tokenizer import Tokenizer


def decode_captions(
    hypotheses: Sequence[Hypothesis],
    tokenizer: Tokenizer,
    calibration: Calibration | None = None,
    token_log_probs: bool = False,
) -> Caption:
    """Return the caption of an image, with all alternatives.

    Args:
        hypotheses: What a search has found, best first.
        tokenizer: The model's tokenizer.
        calibration: What the confidence of words and captions is scaled with.
        token_log_probs: Whether captions keep the log-probabilities of their tokens.
    """
    captions = tuple(
        _decode_caption(each, tokenizer, calibration, token_log_probs) for each in hypotheses
    )
    return replace(captions[0], alternatives=captions)


def _decode_caption(
    hypothesis: Hypothesis,
    tokenizer: Tokenizer,
    calibration: Calibration | None,
    token_log_probs: bool,
) -> Caption:
    text, spans = tokenizer.decode_words(hypothesis.token_ids)
    words, confidence = measure_words(text, spans, hypothesis.token_log_probs)
    if calibration:
        words, confidence = calibration.scale(words, confidence)
    return Caption(
        text,
        hypothesis.score,
        hypothesis.token_ids,
        hypothesis.token_log_probs if token_log_probs else (),
        candidate=hypothesis.candidate,
        words=words,
        confidence=confidence,
    )
