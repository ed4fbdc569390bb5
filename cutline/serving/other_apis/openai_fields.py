"""The fields of OpenAI's chat completions."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cutline.serving.errors import ApiError
from cutline.serving.other_apis.fields import ModelFields, SamplingFields
from cutline.serving.other_apis.images import Turn

IMAGE_PARTS = ("image_url", "input_image")


class ContentPart(BaseModel):
    """A part of a message: text or an image."""

    model_config = ConfigDict(hide_input_in_errors=True, use_attribute_docstrings=True)
    type: str | None = None
    text: str | None = None
    image_url: str | None = None
    """the bytes in Base64, or an address; in an object {"url"} or as it is"""

    @field_validator("image_url", mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        return value.get("url") if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check_image(self) -> "ContentPart":
        if self.type in IMAGE_PARTS and self.image_url is None:
            raise ValueError("has no image_url")
        return self


class ChatMessage(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(hide_input_in_errors=True)
    role: str
    content: list[ContentPart] = []

    @field_validator("content", mode="before")
    @classmethod
    def _to_parts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": "text", "text": value}]
        return [] if value is None else value

    def to_turn(self, index: int) -> Turn:
        """Return the message as a turn; `index` is its place in the request."""
        text = " ".join(part.text for part in self.content if part.text)
        images = {
            f"messages[{index}].content[{number}].image_url": part.image_url
            for number, part in enumerate(self.content)
            if part.image_url is not None
        }
        return Turn(self.role, text, images)


class StreamOptions(BaseModel):
    """Options of a streamed response."""

    include_usage: bool | None = None


class CompletionFields(ModelFields, SamplingFields):
    """A chat completion: the captions of the images of the last turn."""

    harmless: ClassVar[tuple[str, ...]] = (
        "metadata",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    )
    messages: list[ChatMessage] = Field(min_length=1)
    """the conversation; images of its last turn are captioned, earlier turns are ignored"""
    n: int | None = Field(default=None, ge=1)
    """captions of each image, each one a choice"""
    max_tokens: int | None = Field(default=None, ge=1)
    """tokens of each caption, as far as the server allows"""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """the same; it counts if both are given"""
    repetition_penalty: float | None = None
    """values above 1 make tokens that are already present less likely"""
    stream: bool | None = None
    """whether to send the captions in parts"""
    stream_options: StreamOptions | None = None
    response_format: Any = None
    """text, the default; others are an error"""

    @property
    def turns(self) -> list[Turn]:
        """Return the messages."""
        return [message.to_turn(index) for index, message in enumerate(self.messages)]

    @property
    def max_new_tokens(self) -> int | None:
        """Return the number of tokens of each caption."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def includes_usage(self) -> bool:
        """Return whether a streamed response ends with its number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def check_format(self) -> None:
        """Raise ApiError if structured output is requested."""
        wanted = self.response_format
        if wanted is not None and not (isinstance(wanted, dict) and wanted.get("type") == "text"):
            message = "captions are plain text: this model writes no JSON; remove response_format"
            raise ApiError(400, "invalid_request", message, "response_format")
