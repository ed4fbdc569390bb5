"""How captions are written."""

from dataclasses import dataclass
from typing import Literal, TypedDict

from cutline.config.validation import require, require_choices

BeamScoring = Literal["blip", "huggingface"]


@dataclass(frozen=True)
class GenerationConfig:
    """How captions are searched for. Lengths are in tokens and include the start token and the prompt."""

    num_beams: int = 3
    """beams; 1 is greedy search"""
    max_length: int = 20
    """longest caption"""
    min_length: int = 5
    """the end token is forbidden below this length"""
    repetition_penalty: float = 1.0
    """above 1, tokens already present become less likely"""
    length_penalty: float = 1.0
    """score = sum of log-probabilities / length ** length_penalty"""
    no_repeat_ngram_size: int = 0
    """no run of this many tokens occurs twice (0: off)"""
    num_captions: int = 1
    """captions per image, best first"""
    beam_scoring: BeamScoring = "blip"
    """what length counts: prompt without end token (blip), or new tokens with it (huggingface)"""
    sample: bool = False
    """draw tokens at random instead of searching"""
    temperature: float = 1.0
    """sampling: below 1 is safer, above 1 is wilder"""
    top_k: int = 50
    """sampling: keep only this many of the likeliest tokens (0: all)"""
    top_p: float = 0.9
    """sampling: keep the likeliest tokens that together reach this probability (1: all)"""
    seed: int = 0
    """sampling: the same seed gives the same caption of an image, whatever its neighbours"""

    def __post_init__(self) -> None:
        require_choices(self)
        require(self.num_beams >= 1, f"num_beams {self.num_beams} is below 1")
        require(self.num_captions >= 1, f"num_captions {self.num_captions} is below 1")
        require(self.max_length >= 1, f"max_length {self.max_length} is below 1")
        require(self.min_length >= 0, f"min_length {self.min_length} is negative")
        require(
            self.min_length <= self.max_length,
            f"min_length {self.min_length} is above max_length {self.max_length}",
        )
        require(
            self.repetition_penalty > 0,
            f"repetition_penalty {self.repetition_penalty} is not positive",
        )
        require(self.temperature > 0, f"temperature {self.temperature} is not positive")
        require(0 < self.top_p <= 1, f"top_p {self.top_p} is not in (0, 1]")
        require(self.top_k >= 0, f"top_k {self.top_k} is negative")
        require(
            self.no_repeat_ngram_size >= 0,
            f"no_repeat_ngram_size {self.no_repeat_ngram_size} is negative",
        )
        require(
            self.sample or self.num_captions <= self.num_beams,
            f"{self.num_captions} captions need at least as many beams, not {self.num_beams}; or sample=True",
        )


class GenerationKwargs(TypedDict, total=False):
    """The fields of `GenerationConfig`, as keyword arguments."""

    num_beams: int
    max_length: int
    min_length: int
    repetition_penalty: float
    length_penalty: float
    no_repeat_ngram_size: int
    num_captions: int
    beam_scoring: BeamScoring
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int
