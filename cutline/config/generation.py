"""Settings of caption generation."""

from dataclasses import dataclass, fields
from functools import partial
from inspect import signature
from typing import Any, Literal, Self, TypedDict, cast

from cutline.config.renames import reject_renamed_keywords
from cutline.config.validation import (
    Settings,
    reject,
    require,
    require_at_least,
    require_between,
    require_positive,
)

BeamScoring = Literal["blip", "huggingface"]


@dataclass(frozen=True)
class GenerationConfig(Settings):
    """Caption generation: beam search, greedy search or sampling.

    Lengths are in tokens and include the start token and the prompt.
    """

    num_beams: int = 3
    """number of beams; 1 is greedy search"""
    max_length: int = 20
    """maximum length"""
    min_length: int = 5
    """minimum length: the end token is suppressed below it"""
    repetition_penalty: float = 1.0
    """values above 1 make tokens that are already present less likely"""
    length_penalty: float = 1.0
    """score = sum of log-probabilities / length ** length_penalty"""
    no_repeat_ngram_size: int = 0
    """no n-gram of this size occurs twice (0: off)"""
    bad_words: tuple[str, ...] = ()
    """words or phrases that are never generated: the last token of each is forbidden after its
    other tokens. So are words that begin with these tokens (with dog, also doggy, if it is encoded
    as dog ##gy), but not other forms (dogs, if it is a token of its own)"""
    num_captions: int = 1
    """captions per image, best first"""
    consensus: bool = False
    """sort the captions of all beams not by score, but by how much the others resemble them, each
    weighted by its probability (minimum Bayes risk; best with 10 or more beams)"""
    beam_scoring: BeamScoring = "blip"
    """length in the score, and rule for stopping: those of BLIP (blip; prompt and caption, without
    the end token) or of transformers 5 (huggingface; generated tokens, with the end token)"""
    sample: bool = False
    """sample tokens instead of searching"""
    temperature: float = 1.0
    """sampling: lower values favor likely tokens"""
    top_k: int = 50
    """sampling: keep only this many of the most likely tokens (0: all)"""
    top_p: float = 0.9
    """sampling: keep the most likely tokens that together reach this probability (1: all)"""
    seed: int = 0
    """sampling: the same seed gives an image, and copies of it, the same caption in any batch"""
    token_log_probs: bool = False
    """also return the log-probability of each token: that of the model, as `score` computes it,
    before penalties, limits and temperature"""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Raise ConfigError for an unknown keyword, where `__init__` would raise TypeError."""
        reject_renamed_keywords(kwargs, (setting.name for setting in fields(cls)))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "num_beams", "num_captions", "max_length")
        require_between(self, 1, 100_000, "num_beams", "num_captions")  # tensors have a limit
        require_at_least(self, 0, "min_length", "top_k", "no_repeat_ngram_size")
        require(
            self.min_length <= self.max_length,
            f"min_length {self.min_length} is above max_length {self.max_length}: lower min_length",
        )
        # Beyond these bounds, float32 scores could overflow, or become 0.
        require_between(self, 0.001, 1000, "repetition_penalty")
        require_between(self, -10, 10, "length_penalty")
        require_between(self, 0.0001, 10000, "temperature")
        require_positive(self, "top_p", maximum=1)
        for index, word in enumerate(self.bad_words):
            if not word.strip():
                reject(self, f"bad_words[{index}]", "is empty: remove it, or write a word")
        require(
            self.sample or self.num_captions <= self.num_beams,
            f"num_captions {self.num_captions} is above num_beams {self.num_beams}: "
            "raise num_beams, or use sample=True",
        )
        require(
            not self.consensus or (self.num_beams > 1 and not self.sample),
            "consensus compares the captions of several beams: raise num_beams, or turn sample off",
        )


# For help() and notebooks, which would show the signature of __new__.
GenerationConfig.__signature__ = signature(  # type: ignore[attr-defined]
    partial(GenerationConfig.__init__, cast(Any, None))
)


class GenerationKwargs(TypedDict, total=False):
    """The fields of `GenerationConfig`, as keyword arguments."""

    num_beams: int
    max_length: int
    min_length: int
    repetition_penalty: float
    length_penalty: float
    no_repeat_ngram_size: int
    bad_words: tuple[str, ...]
    num_captions: int
    consensus: bool
    beam_scoring: BeamScoring
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int
    token_log_probs: bool
