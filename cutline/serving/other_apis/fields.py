"""The fields of requests to other APIs; those that have no effect here are reported."""

import secrets
from collections.abc import Iterator
from typing import ClassVar, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from cutline.config import GenerationKwargs
from cutline.serving.errors import ApiError
from cutline.serving.inputs import explain_invalid, read_json
from cutline.serving.service import CaptionService

F = TypeVar("F", bound="ClientFields")

IGNORED_HEADER = "X-Ignored-Fields"
"""header of a response: the fields of the request that had no effect"""
MAX_HEADER_LENGTH = 1000
MAX_NAME_LENGTH = 100
MIN_TEMPERATURE = 0.0001  # what GenerationConfig allows
MIN_TOP_P = 1e-6  # keeps the most likely token


class ClientFields(BaseModel):
    """What a request to another API may hold: the fields below, and any others."""

    model_config = ConfigDict(
        extra="allow",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )
    harmless: ClassVar[tuple[str, ...]] = ()
    """fields that are not reported: none of them could change a caption"""

    def find_ignored(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the fields that have no effect."""
        for name, value in (self.model_extra or {}).items():
            if value is not None and name not in self.harmless:
                yield prefix + name
        for name in type(self).model_fields:
            if isinstance(value := getattr(self, name), ClientFields):
                yield from value.find_ignored(f"{prefix}{name}.")


class ModelFields(ClientFields):
    """A request to another API that names a model."""

    model: str | None = None
    """the name of the model; with ":latest" it is the same"""
    caption_prompt: str | None = None
    """the beginning of the captions, which is cut from them (default: the model's own)"""


class SamplingFields(ClientFields):
    """How tokens are chosen: by search, or with a temperature above 0 by sampling."""

    temperature: float | None = Field(default=None, ge=0)
    """0, the default: search; above: sample, where lower values favor likely tokens"""
    top_p: float | None = Field(default=None, ge=0, le=1)
    """sampling: keep the most likely tokens that together reach this probability"""
    top_k: int | None = None
    """sampling: keep only this many of the most likely tokens"""
    seed: int | None = None
    """sampling: the same seed gives the same caption (default: another one each time)"""

    @property
    def samples(self) -> bool:
        """Return whether to sample."""
        return bool(self.temperature)

    def make_sampling(self) -> GenerationKwargs:
        """Return the settings of sampling; none for search."""
        if not self.samples:
            return {}
        temperature = 1.0 if self.temperature is None else self.temperature
        seed = -1 if self.seed is None else self.seed
        settings: GenerationKwargs = {
            "sample": True,
            "temperature": max(temperature, MIN_TEMPERATURE),
            "seed": secrets.randbelow(1 << 32) if seed < 0 else seed,  # -1: any
        }
        if self.top_p is not None:
            settings["top_p"] = max(self.top_p, MIN_TOP_P)
        if self.top_k is not None:
            settings["top_k"] = max(self.top_k, 0)  # others write -1 for all
        return settings

    def find_ignored(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the fields that have no effect."""
        yield from super().find_ignored(prefix)
        if not self.samples:
            for name, default in (("temperature", 0), ("top_p", None), ("top_k", None)):
                if getattr(self, name) not in (None, default):
                    yield prefix + name


async def parse_client_fields(kind: type[F], request: Request) -> F:
    """Return the fields of a JSON request.

    Raises:
        ApiError: The body is malformed, or a field is of another type.
    """
    try:
        return kind.model_validate(await read_json(request))
    except ValidationError as error:
        raise explain_invalid(error) from None


def report_ignored(fields: ClientFields) -> dict[str, str]:
    """Return the header that lists the fields without effect; none if all have one."""
    header = ""
    for name in fields.find_ignored():
        # Names are the client's: in a header, they must not end it.
        quoted = quote(name[:MAX_NAME_LENGTH], safe="[]", errors="replace") or '""'
        if len(header) + len(quoted) > MAX_HEADER_LENGTH:
            return {IGNORED_HEADER: f"{header}, ..."}
        header += f", {quoted}" if header else quoted
    return {IGNORED_HEADER: header} if header else {}


def check_model(service: CaptionService, name: str | None) -> None:
    """Raise ApiError if a client names another model than the server's only one."""
    if name and not service.is_named(name):
        message = f"there is no model {name[:MAX_NAME_LENGTH]!r}; this server has {service.name!r}"
        raise ApiError(404, "not_found", message, "model")


def choose_prompt(service: CaptionService, caption_prompt: str | None, text: str) -> str | None:
    """Return the beginning of the captions; None for the model's own.

    Args:
        service: Its settings say what becomes of the text of clients.
        caption_prompt: The field that always is the beginning.
        text: The instruction of the client.
    """
    if caption_prompt is None and service.config.client_text == "prefix" and text.strip():
        return text
    return caption_prompt
