"""`Caption` and `TextEvent`, the results of a request."""

from dataclasses import dataclass, field

from cutline.confidence import Word


@dataclass(frozen=True)
class Caption:
    """One caption of one image."""

    text: str
    score: float
    """sum of log-probabilities / length ** length_penalty; `beam_scoring` defines the length"""
    token_ids: tuple[int, ...]
    """the generated tokens: no prompt, no [SEP], no padding"""
    token_log_probs: tuple[float, ...] = ()
    """with `token_log_probs=True`, the log-probability of each of them given those before it, then
    that of [SEP] unless `max_length` cut the caption: those of the model, as in `CaptionScore`,
    before penalties, limits and temperature"""
    alternatives: tuple["Caption", ...] = field(default=(), compare=False, repr=False)
    """all `num_captions` captions of the image, best first, this one included; with `keep`, the
    first of them"""
    index: int = field(default=0, compare=False, repr=False)
    """number of the image in the input of `caption` or `stream`"""
    candidate: int = field(default=0, compare=False, repr=False)
    """number of this caption in the events of a request"""
    match: float | None = None
    """match probability, with `rerank`"""
    words: tuple[Word, ...] = field(default=(), compare=False, repr=False)
    """the words of the text, without punctuation, each with the model's confidence in it"""
    confidence: float = field(default=0.0, compare=False)
    """from 0 to 1: the product of the probabilities of the words; with a calibration, the share of
    them that is expected to be right; 0 without words"""


@dataclass(frozen=True)
class TextEvent:
    """The next part of a caption that is being generated.

    The texts of all events of a candidate, joined, are the text of its caption.
    """

    text: str
    """new text, which later steps do not change"""
    token_ids: tuple[int, ...]
    """new tokens, which later steps do not change; their text may come with a later event, since
    the next token decides about the space before it"""
    candidate: int = 0
    """which of the `num_captions` captions; `Caption.candidate` of the final ones"""
    draft: str = ""
    """on request, the best continuation so far, which replaces that of the last event"""
