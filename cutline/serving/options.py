"""How the images of a request are captioned, and what it is answered."""

from dataclasses import dataclass, field, fields, replace

from cutline.batching import Caption
from cutline.captioner import Captioner
from cutline.config import CaptionStyle, GenerationConfig, ServeLimits
from cutline.serving.errors import ApiError

SERVED_SETTINGS = tuple(
    each.name for each in fields(GenerationConfig) if each.name != "token_log_probs"
)
"""fields of `GenerationConfig` that requests may set"""
MAX_TEXT_LENGTH = 5000
"""characters of a text for the model: more than it reads, and soon split into tokens"""


@dataclass(frozen=True)
class CaptionOptions:
    """How the images of a request are captioned."""

    settings: GenerationConfig = field(default_factory=GenerationConfig)
    prompt: str | None = None
    """the beginning of each caption (default: the model's own)"""
    max_new_tokens: int | None = None
    """tokens of a caption after the prompt, instead of `max_length`"""
    deadline: float | None = None
    """seconds, at most those of the server"""
    style: CaptionStyle = "plain"
    """alt: alternative texts"""


@dataclass(frozen=True)
class FinishedCaption:
    """A caption, and what became of its request."""

    caption: Caption
    """in the style that was asked for"""
    num_prompt_tokens: int
    """tokens of the prompt, the start token included"""
    max_length: int
    """limit on the tokens of prompt and caption"""

    def is_cut(self, alternative: Caption) -> bool:
        """Return whether `max_length` cut one of the alternatives."""
        return self.num_prompt_tokens + len(alternative.token_ids) >= self.max_length


def limit_length(captioner: Captioner, limits: ServeLimits) -> int:
    """Return the largest number of tokens of a prompt and its caption."""
    return min(limits.max_caption_length, captioner.config.text.max_positions)


def limit_settings(
    options: CaptionOptions, captioner: Captioner, limits: ServeLimits
) -> GenerationConfig:
    """Return the settings of a request.

    Raises:
        ApiError: They are beyond a limit; only `max_new_tokens` is lowered to it.
    """
    settings, longest = options.settings, limit_length(captioner, limits)
    if len(options.prompt or "") > MAX_TEXT_LENGTH:
        raise _beyond("prompt", "the length of the prompt", MAX_TEXT_LENGTH)
    if options.max_new_tokens is not None:
        prompt = captioner.config.prompt if options.prompt is None else options.prompt
        wanted = len(captioner.tokenizer.encode_prompt(prompt)) + max(1, options.max_new_tokens)
        length = min(wanted, longest)
        shortest = min(settings.min_length, length)
        settings = replace(settings, max_length=length, min_length=shortest)
    elif settings.max_length > longest:
        raise _beyond("max_length", "max_length", longest)
    num_beams = 1 if settings.sample else settings.num_beams
    if num_beams * settings.num_captions > limits.max_candidates:
        param = "num_captions" if settings.num_captions > num_beams else "num_beams"
        raise _beyond(param, "num_beams times num_captions", limits.max_candidates)
    return settings


def _beyond(param: str, name: str, limit: int) -> ApiError:
    message = f"{name} is limited to {limit:,} by this server: lower it"
    return ApiError(422, "invalid_request", message, param)
