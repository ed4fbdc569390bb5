"""The fields of Ollama's requests."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from cutline.config import GenerationConfig
from cutline.serving.errors import ApiError
from cutline.serving.options import CaptionOptions
from cutline.serving.other_apis.fields import ModelFields, SamplingFields, choose_prompt
from cutline.serving.other_apis.images import Turn, choose_images, find_text
from cutline.serving.service import CaptionService

NO_LIMIT = 1_000_000  # tokens, more than any server allows


class RunOptions(SamplingFields):
    """Settings of a text."""

    harmless: ClassVar[tuple[str, ...]] = (
        "f16_kv",
        "low_vram",
        "main_gpu",
        "num_batch",
        "num_ctx",
        "num_gpu",
        "num_keep",
        "num_thread",
        "numa",
        "use_mlock",
        "use_mmap",
        "vocab_only",
    )
    num_predict: int | None = None
    """tokens of each caption, as far as the server allows; 0 or less for as many as it allows"""
    repeat_penalty: float | None = None
    """values above 1 make tokens that are already present less likely"""

    def make_settings(self) -> GenerationConfig:
        """Return the settings of the captions. Raises ConfigError."""
        settings = self.make_sampling()
        if self.repeat_penalty is not None:
            settings["repetition_penalty"] = self.repeat_penalty
        return GenerationConfig(**settings)

    @property
    def max_new_tokens(self) -> int | None:
        """Return the number of tokens of each caption."""
        if self.num_predict is not None and self.num_predict < 1:
            return NO_LIMIT
        return self.num_predict


class RunFields(ModelFields):
    """A request for a text."""

    harmless: ClassVar[tuple[str, ...]] = ("id",)
    options: RunOptions | None = None
    format: Any = None
    """must be empty: captions are plain text"""
    stream: bool | None = None
    """whether to send the text in parts, which is the default"""
    keep_alive: Any = None
    """without effect: the model stays loaded"""

    @property
    def turns(self) -> list[Turn]:
        """Return the conversation."""
        raise NotImplementedError

    @property
    def is_empty(self) -> bool:
        """Return whether only loading or unloading the model is asked for."""
        raise NotImplementedError

    @property
    def sources(self) -> dict[str, str]:
        """Return the images to caption, by where they are in the request."""
        return choose_images(self.turns)

    def make_options(self, service: CaptionService) -> CaptionOptions:
        """Return how the images are captioned. Raises ConfigError."""
        options = self.options or RunOptions()
        prompt = choose_prompt(service, self.caption_prompt, find_text(self.turns))
        return CaptionOptions(options.make_settings(), prompt, options.max_new_tokens)

    def check_format(self) -> None:
        """Raise ApiError if structured output is requested."""
        if self.format not in (None, ""):
            message = "captions are plain text: this model writes no JSON; remove format"
            raise ApiError(400, "invalid_request", message, "format")


class GenerateFields(RunFields):
    """A request for a text, given images."""

    prompt: str | None = None
    images: list[str] | None = None
    """the images in Base64"""

    @property
    def turns(self) -> list[Turn]:
        """Return the conversation: one message."""
        return [Turn("user", self.prompt or "", name_images(self.images, ""))]

    @property
    def is_empty(self) -> bool:
        """Return whether only loading or unloading the model is asked for."""
        return not (self.prompt or self.images)


class OllamaMessage(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(hide_input_in_errors=True)
    role: str
    content: str | None = None
    images: list[str] | None = None


class ChatFields(RunFields):
    """A request for the next message, given a conversation."""

    messages: list[OllamaMessage] | None = None

    @property
    def turns(self) -> list[Turn]:
        """Return the conversation."""
        return [
            Turn(each.role, each.content or "", name_images(each.images, f"messages[{index}]."))
            for index, each in enumerate(self.messages or ())
        ]

    @property
    def is_empty(self) -> bool:
        """Return whether only loading or unloading the model is asked for."""
        return not self.messages


class ShowFields(ModelFields):
    """A request for what is known of the model."""

    harmless: ClassVar[tuple[str, ...]] = ("verbose",)
    name: str | None = None
    """an older word for `model`"""


def name_images(images: list[str] | None, prefix: str) -> dict[str, str]:
    """Return images by where they are in a request."""
    return {f"{prefix}images[{index}]": image for index, image in enumerate(images or ())}
