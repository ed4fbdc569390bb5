"""`AsyncClient`: what `Client` does, in an event loop of asyncio."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from cutline.client.calls import (
    Call,
    CaptionKwargs,
    make_caption_calls,
    make_explain_call,
    make_match_call,
    make_models_call,
    make_score_call,
    make_stream_call,
)
from cutline.client.connection import make_arguments, make_http_options, require_httpx
from cutline.client.events import EventReader
from cutline.client.failures import explain_connection, number_errors, read_failure
from cutline.client.images import ImageInput
from cutline.client.results import (
    ServedCaption,
    ServedExplanation,
    ServedMatch,
    ServedScore,
    ServedText,
)
from cutline.client.retries import Retries
from cutline.config import ClientConfig, ExplainMethod

T = TypeVar("T")


class AsyncClient:
    """Asks a server that `cutline serve` runs, from one event loop; see `Client`.

    Use it as an asynchronous context manager. A task that is cancelled closes its connection, and
    the server stops its request.
    """

    def __init__(
        self,
        base_url: str = ClientConfig.base_url,
        *,
        token: str | None = None,
        timeout: float = ClientConfig.timeout,
        max_retries: int = ClientConfig.max_retries,
        concurrency: int = ClientConfig.concurrency,
    ) -> None:
        """Make a client; for arguments and errors see `Client`."""
        self._config = ClientConfig(base_url, token, timeout, max_retries, concurrency)
        self._http = require_httpx().AsyncClient(**make_http_options(self._config))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def caption(
        self,
        images: ImageInput | Sequence[ImageInput],
        prompt: str | Sequence[str] | None = None,
        **settings: Unpack[CaptionKwargs],
    ) -> list[ServedCaption]:
        """Caption images; see `Client.caption`."""
        limit = asyncio.Semaphore(self._config.concurrency)

        async def send(call: Call[ServedCaption]) -> ServedCaption:
            async with limit:
                return await self._send(call)

        calls = make_caption_calls(images, prompt, settings)
        tasks = [asyncio.create_task(send(call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:  # after an error, stop the others, too
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stream(
        self,
        image: ImageInput,
        prompt: str | None = None,
        *,
        draft: bool = False,
        **settings: Unpack[CaptionKwargs],
    ) -> AsyncGenerator[ServedText | ServedCaption, None]:
        """Caption an image; yield its text as it is settled, then the caption.

        Stopping early closes the connection, at once within `contextlib.aclosing`; see
        `Client.stream`.
        """
        call = make_stream_call(image, prompt, settings)
        reader = EventReader(call.name, self._config.base_url, draft)
        async with aclosing(self._read(call, Retries(self._config))) as chunks:
            async for chunk in chunks:
                for event in reader.read(chunk):
                    yield event
        reader.close()

    async def score(
        self, image: ImageInput, captions: str | Sequence[str], prompt: str | None = None
    ) -> list[ServedScore]:
        """Compute the log-likelihood of captions of an image; see `Client.score`."""
        return await self._send(make_score_call(image, captions, prompt))

    async def match(self, image: ImageInput, texts: str | Sequence[str]) -> list[ServedMatch]:
        """Compute how likely texts describe an image; see `Client.match`."""
        return await self._send(make_match_call(image, texts))

    async def explain(
        self,
        image: ImageInput,
        caption: str | None = None,
        prompt: str | None = None,
        *,
        method: ExplainMethod = "attention",
        **settings: Unpack[CaptionKwargs],
    ) -> ServedExplanation:
        """Compute where the captioner looks for each word; see `Client.explain`."""
        return await self._send(make_explain_call(image, caption, prompt, method, settings))

    async def models(self) -> list[str]:
        """Return the names of the models that the server has."""
        return await self._send(make_models_call())

    async def _send(self, call: Call[T]) -> T:
        """Send a request, and again if it fails and may be; return its result."""
        content, retries = bytearray(), Retries(self._config)
        with number_errors(call.index):
            async with aclosing(self._read(call, retries)) as chunks:
                async for chunk in chunks:
                    retries.time_left()  # a server may send byte by byte
                    content += chunk
            return call.read_answer(bytes(content), self._config.base_url)

    async def _read(self, call: Call[Any], retries: Retries) -> AsyncGenerator[bytes, None]:
        """Send a request, and again if it fails and may be; yield the body of its answer."""
        body = await asyncio.to_thread(call.make_body)
        while True:
            arguments = make_arguments(call, body, retries.time_left())
            try:
                async with self._http.stream(**arguments) as response:
                    if response.is_success:
                        async for chunk in response.aiter_bytes():
                            yield chunk
                        return
                    content = await response.aread()
                    failure = read_failure(response, content, call.name, self._config)
            except require_httpx().RequestError as error:
                failure = explain_connection(error, self._config)
            await asyncio.sleep(retries.wait_after(failure))
