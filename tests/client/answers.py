"""Answers of a server of captions, and both clients behind one function."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

from web_server import Answer, Handler, WebServer, send

from cutline import AsyncClient, Client

Ask = Callable[..., Any]
"""ask(server, method, *arguments, token=…, timeout=…, max_retries=…, concurrency=…, **keywords)"""
CLIENT_SETTINGS = ("token", "timeout", "max_retries", "concurrency")


def make_caption_json(text: str = "a red circle", **fields: Any) -> dict[str, Any]:
    words = [{"text": text[:1], "start": 0, "end": 1, "confidence": 0.5}]
    caption = {"text": text, "score": -1.5, "confidence": 0.25, "words": words}
    return caption | {"finish_reason": "stop"} | fields


def send_json(data: Any, status: int = 200, **headers: str) -> Answer:
    return send(json.dumps(data).encode(), status, **headers)


def send_captions(*texts: str) -> Answer:
    return send_json({"model": "m", "captions": [make_caption_json(text) for text in texts]})


def send_error(
    status: int, kind: str, message: str = "no", param: str | None = None, **headers: str
) -> Answer:
    error = {"type": kind, "message": message, "param": param}
    return send_json({"error": error}, status, **headers)


def read_image(handler: Handler) -> bytes:
    """Return the image of a request to /v1/captions."""
    (image,) = json.loads(handler.body)["images"]
    return base64.b64decode(image["data"])


def ask_sync(server: WebServer, method: str, *arguments: Any, **keywords: Any) -> Any:
    settings = {key: keywords.pop(key) for key in CLIENT_SETTINGS if key in keywords}
    with Client(server.url(""), **settings) as client:
        result = getattr(client, method)(*arguments, **keywords)
        return list(result) if method == "stream" else result


def ask_async(server: WebServer, method: str, *arguments: Any, **keywords: Any) -> Any:
    settings = {key: keywords.pop(key) for key in CLIENT_SETTINGS if key in keywords}

    async def ask() -> Any:
        async with AsyncClient(server.url(""), **settings) as client:
            result = getattr(client, method)(*arguments, **keywords)
            return [each async for each in result] if method == "stream" else await result

    return asyncio.run(ask())
