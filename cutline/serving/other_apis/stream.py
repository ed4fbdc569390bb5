"""The captions of a request as one text, in parts: a line for each image."""

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from cutline.batching import CaptionRequest, TextEvent
from cutline.serving.options import FinishedCaption
from cutline.serving.service import CaptionService, cancel_requests


@dataclass(frozen=True)
class Part:
    """The next part of a text."""

    text: str
    candidate: int = 0
    """which of the captions of an image it belongs to"""


Parts = AsyncGenerator[Part | FinishedCaption]
"""parts of the texts, and after those of each image its captions"""


async def stream_parts(
    service: CaptionService, requests: Sequence[CaptionRequest], num_candidates: int
) -> Parts:
    """Yield the captions of each image, one image after the other, as far as they are settled.

    Raises:
        ApiError: An image has no caption.
    """
    start = time.monotonic()
    has_text = False
    for index, request in enumerate(requests):
        if index:
            for candidate in range(num_candidates):
                yield Part("\n", candidate)
        try:
            async for event in request.events():
                if not has_text:
                    has_text = True
                    service.metrics.first_token.observe(time.monotonic() - start)
                if not isinstance(event, TextEvent):
                    yield service.complete(request, event, "plain")
                elif event.text:
                    yield Part(event.text, event.candidate)
        except Exception as error:
            raise service.explain_error(error, f"images[{index}]") from None


async def start_parts(parts: Parts, requests: Sequence[CaptionRequest]) -> Parts:
    """Wait for the first part, and return all of them.

    So an image that cannot be read is an error with a status, not one amid a response.

    Raises:
        ApiError: The first image has no caption.
    """
    try:
        first = await anext(parts)
    except BaseException:
        cancel_requests(requests)
        raise

    async def chain() -> Parts:
        yield first
        async for part in parts:
            yield part

    return chain()


def join_lines(captions: Sequence[FinishedCaption], rank: int = 0) -> str:
    """Return the captions of all images, one per line, that are best but `rank`."""
    return "\n".join(served.caption.alternatives[rank].text for served in captions)


def name_reason(is_cut: bool) -> str:
    """Return why a text ends, in the words of OpenAI and Ollama."""
    return "length" if is_cut else "stop"
