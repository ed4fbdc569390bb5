"""The API of Hugging Face's inference servers, for the task image-to-text."""

from collections.abc import Iterator
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from pydantic import model_validator
from starlette.responses import JSONResponse

from cutline.config import GenerationConfig
from cutline.serving.dependencies import Service
from cutline.serving.errors import named_params
from cutline.serving.inputs import check_size
from cutline.serving.native import ERRORS
from cutline.serving.openapi import describe_json
from cutline.serving.options import CaptionOptions
from cutline.serving.other_apis.fields import (
    ClientFields,
    SamplingFields,
    parse_client_fields,
    report_ignored,
)
from cutline.serving.other_apis.images import read_sources

NESTED = ("generation_parameters", "generate_kwargs")
"""objects in which parameters may also be"""
SETTINGS = ("num_beams", "max_length", "min_length", "repetition_penalty", "length_penalty")

router = APIRouter(responses=ERRORS)


class TextParameters(SamplingFields):
    """Settings of a caption; names and meanings are those of transformers."""

    do_sample: bool | None = None
    """whether to sample (default: with a temperature above 0)"""
    max_new_tokens: int | None = None
    """tokens of the caption, as far as the server allows"""
    num_beams: int | None = None
    max_length: int | None = None
    min_length: int | None = None
    repetition_penalty: float | None = None
    length_penalty: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        flat = {name: each for name, each in value.items() if name not in NESTED}
        for name in NESTED:
            if isinstance(nested := value.get(name), dict):
                flat |= nested
        return flat

    @property
    def samples(self) -> bool:
        """Return whether to sample."""
        return bool(self.temperature) if self.do_sample is None else self.do_sample

    def find_ignored(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the fields that have no effect."""
        yield from super().find_ignored(prefix)
        unused = ["num_beams", "length_penalty"] if self.samples else []
        if self.max_new_tokens is not None:
            unused.append("max_length")
        yield from (prefix + name for name in unused if getattr(self, name) is not None)

    def make_settings(self) -> GenerationConfig:
        """Return the settings of the caption. Raises ConfigError."""
        given = {name: getattr(self, name) for name in SETTINGS}
        settings = {name: value for name, value in given.items() if value is not None}
        return GenerationConfig(**settings, **self.make_sampling())


class InferenceFields(ClientFields):
    """An image to caption."""

    harmless: ClassVar[tuple[str, ...]] = ("options",)
    inputs: str
    """the image in Base64"""
    parameters: TextParameters | None = None
    caption_prompt: str | None = None
    """the beginning of the caption, which is cut from it (default: the model's own)"""


def describe_inference() -> dict[str, Any]:
    """Return the description of a request body: JSON or an image."""
    body = describe_json(InferenceFields)
    body["content"]["image/*"] = {"schema": {"type": "string", "format": "binary"}}
    return body


@router.post("/hf", openapi_extra={"requestBody": describe_inference()})
async def infer(request: Request, service: Service) -> JSONResponse:
    """Caption an image, which is the body, or in it as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    headers: dict[str, str] = {}
    options, sources = CaptionOptions(), {"inputs": ""}
    with named_params(sources):
        if kind == "application/json":
            fields = await parse_client_fields(InferenceFields, request)
            parameters = fields.parameters or TextParameters()
            prompt, length = fields.caption_prompt, parameters.max_new_tokens
            options = CaptionOptions(parameters.make_settings(), prompt, length)
            headers = report_ignored(fields)
            images = await read_sources(service, {"inputs": fields.inputs}, "inputs")
        else:  # whatever it is called: some clients name no type, or a wrong one
            images = [await request.body()]
            check_size(images[0], "body", service.limits)
        (served,) = await service.caption(images, options)
    return JSONResponse([{"generated_text": served.caption.text}], headers=headers)
