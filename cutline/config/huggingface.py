"""The arguments of transformers' image-to-text pipeline, and of `generate`, which it calls."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypedDict

from cutline.config.generation import GenerationConfig, GenerationKwargs
from cutline.config.inference import InferenceConfig
from cutline.config.urls import MAX_TIMEOUT, UrlPolicy
from cutline.config.validation import (
    Settings,
    reject,
    require,
    require_at_least,
    require_between,
    require_positive,
)
from cutline.messages import format_name, format_value

DEFAULT_NEW_TOKENS = 20
"""what `generate` adds to a prompt at most, unless told otherwise"""
MAX_LENGTH = 100_000


@dataclass(frozen=True)
class GenerateConfig(Settings):
    """The arguments of `generate` in transformers that a captioner knows, with its defaults.

    `max_length` and `min_length` include the start token and the prompt; `max_new_tokens` and
    `min_new_tokens` do not.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int | None = None
    min_length: int | None = None
    num_beams: int = 1
    num_return_sequences: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "num_beams", "num_return_sequences")
        require_between(self, 1, MAX_LENGTH, "max_new_tokens")
        require_between(self, 0, MAX_LENGTH, "min_new_tokens")
        for name, other in (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length")):
            if None not in (getattr(self, name), getattr(self, other)):
                reject(self, name, f"and {other} limit the same: give one of them")
        require(
            not (self.do_sample and self.num_beams > 1),
            f"num_beams {self.num_beams} does not go with do_sample=True: remove one of them",
        )
        require(
            self.do_sample or self.num_return_sequences <= self.num_beams,
            f"num_return_sequences {self.num_return_sequences} is above num_beams "
            f"{self.num_beams}: raise num_beams, or use do_sample=True",
        )
        GenerationConfig(**self.to_generation_kwargs(1, MAX_LENGTH))  # checks the others

    @classmethod
    def from_generation_config(cls, config: GenerationConfig) -> Self:
        """Return the arguments with which transformers generates the same.

        Beams are scored as with `beam_scoring="huggingface"`. It has no `bad_words` and no
        `consensus`.
        """
        return cls(
            max_length=config.max_length,
            min_length=config.min_length,
            num_beams=1 if config.sample else config.num_beams,
            num_return_sequences=config.num_captions,
            do_sample=config.sample,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
            repetition_penalty=config.repetition_penalty,
            length_penalty=config.length_penalty,
            no_repeat_ngram_size=config.no_repeat_ngram_size,
        )

    def to_generation_kwargs(self, prompt_length: int, max_positions: int) -> GenerationKwargs:
        """Return the settings with which a captioner generates the same.

        Args:
            prompt_length: Tokens of the prompt, with the start token.
            max_positions: Tokens of the longest text that the model can generate.
        """
        max_length = min(prompt_length + DEFAULT_NEW_TOKENS, max_positions)
        if self.max_length is not None:
            max_length = self.max_length
        elif self.max_new_tokens is not None:
            max_length = prompt_length + self.max_new_tokens
        min_length = self.min_length or 0
        if self.min_new_tokens is not None:
            min_length = prompt_length + self.min_new_tokens
        return {
            "num_beams": self.num_beams,
            "max_length": max_length,
            "min_length": min_length,
            "repetition_penalty": self.repetition_penalty,
            "length_penalty": self.length_penalty,
            "no_repeat_ngram_size": self.no_repeat_ngram_size,
            "num_captions": self.num_return_sequences,
            "beam_scoring": "huggingface",
            "sample": self.do_sample,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
        }


class PipelineKwargs(TypedDict, total=False):
    """The keyword arguments of a pipeline and of its calls; None for the default."""

    max_new_tokens: int | None
    generate_kwargs: Mapping[str, Any] | None
    prompt: str | None
    timeout: float | None
    batch_size: int | None
    num_workers: int | None


@dataclass(frozen=True)
class PipelineConfig(Settings):
    """What a pipeline does with its inputs."""

    generate: GenerateConfig = GenerateConfig()
    """how captions are generated"""
    prompt: str = ""
    """the beginning of every caption, which the generated text includes"""
    timeout: float = UrlPolicy.timeout
    """seconds that fetching an image from its address may take"""
    batch_size: int = 8
    """images captioned together"""
    num_workers: int = 0
    """processes that open images (0: threads of this process)"""
    logits_processor: Any = None
    """what `Captioner.caption` takes; an argument of `generate`"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "timeout", maximum=MAX_TIMEOUT)
        InferenceConfig(batch_size=self.batch_size, num_workers=self.num_workers)  # checks both

    def merge(self, arguments: PipelineKwargs) -> Self:
        """Return these settings, changed by keyword arguments of a pipeline.

        Raises:
            ConfigError: An argument is unknown or invalid.
        """
        _require_known(arguments, PipelineKwargs.__annotations__, "argument")
        own = {name: value for name, value in arguments.items() if name in _OWN}
        given = _read_generate(arguments)
        own["logits_processor"] = given.pop("logits_processor", None)
        generate = replace(self.generate, **_given(given))
        return replace(self, generate=generate, **_given(own))


_OWN = {field.name for field in fields(PipelineConfig)}
_GENERATE = [*(field.name for field in fields(GenerateConfig)), "logits_processor"]


def _read_generate(arguments: PipelineKwargs) -> dict[str, Any]:
    """Return the arguments of `generate` among those of a pipeline."""
    given = arguments.get("generate_kwargs") or {}
    is_mapping = isinstance(given, Mapping)
    require(is_mapping, f"generate_kwargs must be a dictionary, not {format_value(given)}")
    generate = dict(given)
    _require_known(generate, _GENERATE, "argument in generate_kwargs")
    if (max_new_tokens := arguments.get("max_new_tokens")) is not None:
        twice = "max_new_tokens" in generate
        require(not twice, "max_new_tokens is also in generate_kwargs: remove one of them")
        generate["max_new_tokens"] = max_new_tokens
    if generate.get("top_k", 0) is None:  # in transformers all tokens, not the default of 50
        generate["top_k"] = 0
    return generate


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _require_known(names: Iterable[Any], known: Iterable[str], kind: str) -> None:
    for name in names:
        require(name in known, f"unknown {kind}: {format_name(name)}; known are {', '.join(known)}")
