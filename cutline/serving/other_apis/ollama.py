"""Ollama's API: texts, which are captions of images."""

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from cutline.serving.dependencies import Service
from cutline.serving.errors import ApiError, named_params
from cutline.serving.events import CaptionStream
from cutline.serving.openapi import describe_json
from cutline.serving.options import FinishedCaption
from cutline.serving.other_apis.fields import check_model, parse_client_fields, report_ignored
from cutline.serving.other_apis.images import read_sources
from cutline.serving.other_apis.ollama_fields import ChatFields, GenerateFields, RunFields
from cutline.serving.other_apis.stream import (
    Part,
    Parts,
    join_lines,
    name_reason,
    start_parts,
    stream_parts,
)
from cutline.serving.service import TAG, CaptionService

MEDIA_TYPE = "application/x-ndjson"

Wrap = Callable[[str], dict[str, Any]]
"""puts a text where clients of a route look for it"""

router = APIRouter()


@router.post("/api/generate", openapi_extra={"requestBody": describe_json(GenerateFields)})
async def generate(request: Request, service: Service) -> Response:
    """Caption images, one line for each."""
    fields = await parse_client_fields(GenerateFields, request)
    return await answer(service, fields, lambda text: {"response": text})


@router.post("/api/chat", openapi_extra={"requestBody": describe_json(ChatFields)})
async def chat(request: Request, service: Service) -> Response:
    """Caption the images of the last turn of a conversation, one line for each."""
    fields = await parse_client_fields(ChatFields, request)
    return await answer(
        service, fields, lambda text: {"message": {"role": "assistant", "content": text}}
    )


async def answer(service: CaptionService, fields: RunFields, wrap: Wrap) -> Response:
    """Return the captions of the images of a request.

    Raises:
        ApiError: An image has no caption, or the request is beyond a limit.
    """
    check_model(service, fields.model)
    fields.check_format()
    text = OllamaText(service, wrap)
    headers = report_ignored(fields)
    if fields.is_empty:
        service.check_loaded()
        reason = "unload" if fields.keep_alive == 0 else "load"
        return JSONResponse(text.describe("", {"done": True, "done_reason": reason}))
    sources = fields.sources
    with named_params(sources):
        options = fields.make_options(service)
        images = await read_sources(service, sources, "images")
        if fields.stream is False:
            captions = await service.caption(images, options)
            content = text.describe(join_lines(captions), text.finish(captions))
            return JSONResponse(content, headers=headers)
        requests = service.submit(images, options)
        parts = await start_parts(stream_parts(service, requests, 1), requests)
    response = CaptionStream(text.stream(parts), requests, MEDIA_TYPE)
    response.headers.update(headers)
    return response


class OllamaText:
    """A text, whole or in parts."""

    def __init__(self, service: CaptionService, wrap: Wrap) -> None:
        """Begin a text now."""
        self._service, self._wrap, self._start = service, wrap, time.perf_counter_ns()

    def describe(self, text: str, last: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a part of the text; `last` is what the last one also has."""
        head = {"model": name_model(self._service), "created_at": format_time(time.time())}
        return head | self._wrap(text) | (last or {"done": False})

    def finish(self, captions: Sequence[FinishedCaption]) -> dict[str, Any]:
        """Return what the last part says: why the text ends, tokens, and nanoseconds."""
        nanoseconds = time.perf_counter_ns() - self._start
        return {
            "done": True,
            "done_reason": name_reason(any(each.is_cut(each.caption) for each in captions)),
            "total_duration": nanoseconds,
            "load_duration": 0,
            "prompt_eval_count": sum(each.num_prompt_tokens for each in captions),
            "prompt_eval_duration": 0,  # the prompt is read with the first token
            "eval_count": sum(len(each.caption.token_ids) for each in captions),
            "eval_duration": nanoseconds,
        }

    async def stream(self, parts: Parts) -> AsyncIterator[str]:
        """Yield the text in parts, a line of JSON for each."""
        captions = []
        try:
            async for part in parts:
                if isinstance(part, Part):
                    yield format_line(self.describe(part.text))
                else:
                    captions.append(part)
        except ApiError as error:
            self._service.metrics.errors.labels(error.type).inc()
            yield format_line({"error": error.content["error"]["message"]})
        else:
            yield format_line(self.describe("", self.finish(captions)))


def format_line(content: object) -> str:
    """Return a line of JSON."""
    return f"{json.dumps(content)}\n"


def format_time(seconds: float) -> str:
    """Return seconds since 1970 as Ollama writes them."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def name_model(service: CaptionService) -> str:
    """Return the name of the model with a tag, as Ollama has it."""
    return service.name if ":" in service.name else service.name + TAG
