"""`ApiError`, an error with an HTTP status, and how errors are sent to clients."""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Scope

from cutline.errors import (
    ConfigError,
    CutlineError,
    DeadlineExceededError,
    GenerationError,
    ImageError,
    ImageFormatError,
    ImageSizeError,
    QueueFullError,
    RequestCancelledError,
    SchedulerClosedError,
    SettingError,
)
from cutline.image.open import name_image

logger = logging.getLogger(__name__)

OLLAMA_PREFIX = "/api/"
"""paths whose errors have the shape of Ollama"""
NOT_READY = 503
DEADLINE_MESSAGE = (
    "the request was not done within its deadline; allow more time, or send fewer requests at once"
)
_REQUEST_NUMBER = re.compile(r"^request \d+")  # clients did not choose it

_STATUS: tuple[tuple[type[CutlineError], int, str], ...] = (
    (ImageFormatError, 415, "unsupported_media_type"),
    (ImageSizeError, 413, "too_large"),
    (ImageError, 422, "invalid_image"),
    (ConfigError, 422, "invalid_request"),
    (QueueFullError, 429, "queue_full"),
    (DeadlineExceededError, 504, "deadline_exceeded"),
    (RequestCancelledError, NOT_READY, "cancelled"),
    (SchedulerClosedError, NOT_READY, "not_ready"),
    (GenerationError, 500, "internal_error"),
)


@dataclass
class ApiError(Exception):
    """An error that a client is told."""

    status: int
    type: str
    """such as invalid_request"""
    message: str
    param: str | None = None
    """the part of the request that is wrong"""
    retry_after: float | None = None
    """seconds after which another try may succeed"""
    closes: bool = False
    """whether nothing more is read from the client"""

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the response."""
        headers = {"Connection": "close"} if self.closes or self.status in (408, 413) else {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    @property
    def content(self) -> dict[str, Any]:
        """Return the JSON of the response: {"error": {"type", "message", "param"}}."""
        error = {"type": self.type, "message": to_utf8(self.message), "param": None}
        return {"error": error | {"param": self.param and to_utf8(self.param)}}


def to_utf8(text: str) -> str:
    """Return a text without the lone surrogates that JSON may hold and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode("utf-8")


def to_api_error(error: BaseException, param: str | None = None) -> ApiError:
    """Return the error that a client is told; one that is not the client's fault is logged.

    Args:
        error: Any error.
        param: The part of the request that it is about.
    """
    if isinstance(error, ApiError):
        return error
    for kind, status, name in _STATUS:
        if isinstance(error, kind) and status != 500:
            if isinstance(error, SettingError):
                param = error.name.partition("[")[0]
            message = str(error).removeprefix(f"{name_image(b'')}: ")
            message = _REQUEST_NUMBER.sub("the request", message)
            if isinstance(error, SchedulerClosedError):  # its message says how the model failed
                message = "the server is stopping, or must be restarted"
            if isinstance(error, DeadlineExceededError):  # which knows a part of the deadline only
                message = DEADLINE_MESSAGE
            return ApiError(status, name, message, param, 1 if status in (429, 503) else None)
    logger.error("a request failed", exc_info=error)
    return internal_error(param)


def internal_error(param: str | None = None) -> ApiError:
    """Return the error of a server that failed for no fault of the client."""
    return ApiError(500, "internal_error", "the server failed; its log says why", param)


def error_response(
    error: ApiError, scope: Scope, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the response of an error, in the shape of the API that was called."""
    scope.setdefault("state", {})["error_type"] = error.type  # for the metrics
    content = error.content
    if scope["path"].startswith(OLLAMA_PREFIX):
        content = {"error": content["error"]["message"]}
    return JSONResponse(content, error.status, error.headers | dict(headers or {}))


def not_ready(reason: str) -> ApiError:
    """Return the error of a server that is loading or stopping."""
    return ApiError(NOT_READY, "not_ready", reason, retry_after=2)


@contextmanager
def named_params(
    images: Iterable[str], settings: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Let errors name the parts of a request as its API does.

    Args:
        images: Where the images of the request are.
        settings: Names of settings in the API, by our names.
    """
    names = {f"images[{index}]": name for index, name in enumerate(images)} | dict(settings or {})
    try:
        yield
    except ApiError as error:
        error.param = names.get(error.param or "", error.param)
        raise
