"""OpenAI's API: chat completions, which are captions of the images in them, and models."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from cutline.config import GenerationConfig, GenerationKwargs, ServeLimits
from cutline.serving.dependencies import Service
from cutline.serving.errors import ApiError, named_params
from cutline.serving.events import CaptionStream
from cutline.serving.native import ERRORS
from cutline.serving.openapi import describe_json
from cutline.serving.options import CaptionOptions, FinishedCaption
from cutline.serving.other_apis.fields import (
    check_model,
    choose_prompt,
    parse_client_fields,
    report_ignored,
)
from cutline.serving.other_apis.images import choose_images, find_text, read_sources
from cutline.serving.other_apis.openai_fields import CompletionFields
from cutline.serving.other_apis.stream import (
    Part,
    Parts,
    join_lines,
    name_reason,
    start_parts,
    stream_parts,
)
from cutline.serving.service import CaptionService

SETTING_NAMES = {"num_captions": "n", "num_beams": "n", "max_length": "max_tokens"}

router = APIRouter(responses=ERRORS)


@router.get("/v1/models")
async def list_models(service: Service) -> JSONResponse:
    """Return the only model, in a list."""
    return JSONResponse({"object": "list", "data": [describe_model(service)]})


@router.get("/v1/models/{name:path}")
async def show_model(name: str, service: Service) -> JSONResponse:
    """Return the model."""
    check_model(service, name)
    return JSONResponse(describe_model(service))


def describe_model(service: CaptionService) -> dict[str, Any]:
    """Return what OpenAI's clients are told of the model."""
    service.check_ready()
    created = service.started
    return {"id": service.name, "object": "model", "created": created, "owned_by": "cutline"}


@router.post("/v1/chat/completions", openapi_extra={"requestBody": describe_json(CompletionFields)})
async def create_completion(request: Request, service: Service) -> Response:
    """Caption the images of the last turn of a conversation, one line for each."""
    fields = await parse_client_fields(CompletionFields, request)
    check_model(service, fields.model)
    fields.check_format()
    turns, headers = fields.turns, report_ignored(fields)
    sources = choose_images(turns)
    with named_params(sources, SETTING_NAMES):
        options = CaptionOptions(
            make_settings(fields, service.limits),
            choose_prompt(service, fields.caption_prompt, find_text(turns)),
            fields.max_new_tokens,
        )
        images = await read_sources(service, sources, "messages")
        completion = Completion(service.name, fields)
        if not fields.stream:
            captions = await service.caption(images, options)
            return JSONResponse(completion.describe(captions), headers=headers)
        requests = service.submit(images, options)
        parts = stream_parts(service, requests, completion.num_choices)
        parts = await start_parts(parts, requests)
    response = CaptionStream(completion.stream(service, parts), requests, "text/event-stream")
    response.headers.update(headers)
    return response


def make_settings(fields: CompletionFields, limits: ServeLimits) -> GenerationConfig:
    """Return the settings of the captions; search gets as many beams as there are choices.

    Raises:
        ApiError: There are more choices than the server allows.
        ConfigError: A setting is invalid.
    """
    num_choices = fields.n or 1
    settings: GenerationKwargs = {"num_captions": num_choices, **fields.make_sampling()}
    if fields.repetition_penalty is not None:
        settings["repetition_penalty"] = fields.repetition_penalty
    num_beams = 1
    if not fields.samples:
        num_beams = settings["num_beams"] = max(GenerationConfig.num_beams, num_choices)
    if num_beams * num_choices > limits.max_candidates:
        limit = f"this server allows {limits.max_candidates:,} beams times choices"
        message = f"n: {limit}; lower it" + (
            "" if fields.samples else ", or sample, with a temperature above 0"
        )
        raise ApiError(422, "invalid_request", message, "n")
    return GenerationConfig(**settings)


class Completion:
    """A response, whole or in parts."""

    def __init__(self, model: str, fields: CompletionFields) -> None:
        """Begin a response, to a request with these fields."""
        self.num_choices = fields.n or 1
        self._includes_usage = fields.includes_usage
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def describe(self, captions: Sequence[FinishedCaption]) -> dict[str, Any]:
        """Return the whole response."""
        choices = [
            {
                "index": rank,
                "message": {"role": "assistant", "content": join_lines(captions, rank)},
                "logprobs": None,
                "finish_reason": name_reason(
                    any(each.is_cut(each.caption.alternatives[rank]) for each in captions)
                ),
            }
            for rank in range(self.num_choices)
        ]
        kind = {"object": "chat.completion"}
        return self._head | kind | {"choices": choices, "usage": count_usage(captions)}

    async def stream(self, service: CaptionService, parts: Parts) -> AsyncIterator[str]:
        """Yield the response in parts, as server-sent events."""
        captions = []
        for index in range(self.num_choices):
            yield self._describe_part(index, {"role": "assistant", "content": ""})
        try:
            async for part in parts:
                if isinstance(part, Part):
                    yield self._describe_part(part.candidate, {"content": part.text})
                else:
                    captions.append(part)
        except ApiError as error:
            service.metrics.errors.labels(error.type).inc()
            yield format_data(error.content)
        else:
            for index in range(self.num_choices):
                yield self._describe_part(index, {}, name_reason(is_candidate_cut(captions, index)))
            if self._includes_usage:
                yield self._format_chunk([], count_usage(captions))
        yield "data: [DONE]\n\n"

    def _describe_part(self, index: int, delta: dict[str, str], reason: str | None = None) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._format_chunk([choice])

    def _format_chunk(
        self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None
    ) -> str:
        chunk = self._head | {"object": "chat.completion.chunk", "choices": choices}
        return format_data(chunk | ({"usage": usage} if self._includes_usage else {}))


def format_data(content: object) -> str:
    """Return a server-sent event without a name."""
    return f"data: {json.dumps(content)}\n\n"


def is_candidate_cut(captions: Sequence[FinishedCaption], candidate: int) -> bool:
    """Return whether the limit cut a caption that was sent as `candidate`."""
    return any(
        served.is_cut(each)
        for served in captions
        for each in served.caption.alternatives
        if each.candidate == candidate
    )


def count_usage(captions: Sequence[FinishedCaption]) -> dict[str, int]:
    """Return the number of tokens of the prompts and of all captions."""
    prompt = sum(served.num_prompt_tokens for served in captions)
    completion = sum(
        len(each.token_ids) for served in captions for each in served.caption.alternatives
    )
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
