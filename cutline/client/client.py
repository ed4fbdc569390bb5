"""`Client`: captions from a server, in the manner of `Captioner`."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
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
from cutline.client.parallel import map_parallel
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


class Client:
    """Asks a server that `cutline serve` runs, from any thread. Use it as a context manager.

    An image is a path, bytes, PIL image, (H, W, 3) uint8 array, or an http or https address that
    the server fetches, if it was started with --allow-urls. Each image is a request of its own, and
    its file is read when it is sent.

    A request that the server refuses because it is full (429) or not ready (503), or that cannot be
    sent because it is not reached, is sent again, later and later; other errors are raised. The
    environment variables of httpx apply: proxies, and SSL_CERT_FILE for a certificate of one's own.

    Methods raise:
        ImageError: An image cannot be read; the message names it.
        ConfigError: A setting is invalid, or beyond a limit of the server.
        QueueFullError: Too many requests wait on the server.
        DeadlineExceededError: The answer was not there in time.
        CutlineError: The server is not reached, refuses the token or has another problem.
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
        """Make a client; nothing is sent yet.

        Args:
            base_url: Address of the server.
            token: The bearer token, if the server has a token file.
            timeout: Seconds until the answer of a request must be here, retries included; while a
                caption is streamed, seconds to wait for each event.
            max_retries: How often a request is sent again.
            concurrency: Requests that are sent at once for a list of images.

        Raises:
            ConfigError: A setting is invalid, or httpx is not installed.
        """
        self._config = ClientConfig(base_url, token, timeout, max_retries, concurrency)
        self._http = require_httpx().Client(**make_http_options(self._config))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def caption(
        self,
        images: ImageInput | Sequence[ImageInput],
        prompt: str | Sequence[str] | None = None,
        **settings: Unpack[CaptionKwargs],
    ) -> list[ServedCaption]:
        """Caption images, as `Captioner.caption` does.

        Args:
            images: One image or a sequence of them.
            prompt: The beginning of the captions: one for all, or one per image (default: the
                model's own).
            **settings: Fields of `GenerationConfig`, such as num_beams=5 or sample=True; `style`,
                "plain" or "alt"; `deadline`, seconds until the server gives up.

        Returns:
            One caption per image, in order; a list also for one image.
        """
        calls = make_caption_calls(images, prompt, settings)
        if len(calls) == 1:
            return [self._send(calls[0])]
        return map_parallel(self._send, calls, self._config.concurrency)

    def stream(
        self,
        image: ImageInput,
        prompt: str | None = None,
        *,
        draft: bool = False,
        **settings: Unpack[CaptionKwargs],
    ) -> Generator[ServedText | ServedCaption, None, None]:
        """Caption an image; yield its text as it is settled, then the caption.

        Stopping early closes the connection, and the server cancels the request.

        Args:
            image: The image.
            prompt: The beginning of the caption (default: the model's own).
            draft: Whether to include the best continuation so far, in an event for each step.
            **settings: As for `caption`.
        """
        call = make_stream_call(image, prompt, settings)
        reader = EventReader(call.name, self._config.base_url, draft)
        with closing(self._read(call, Retries(self._config))) as chunks:
            for chunk in chunks:
                yield from reader.read(chunk)
        reader.close()

    def score(
        self, image: ImageInput, captions: str | Sequence[str], prompt: str | None = None
    ) -> list[ServedScore]:
        """Compute the log-likelihood of captions of an image, as `Captioner.score` does.

        Args:
            image: The image.
            captions: Used as they are, without cleaning.
            prompt: The text before each caption, which is not scored (default: the model's own).

        Returns:
            One score per caption, in order.
        """
        return self._send(make_score_call(image, captions, prompt))

    def match(self, image: ImageInput, texts: str | Sequence[str]) -> list[ServedMatch]:
        """Compute how likely texts describe an image; the server needs a matcher.

        Returns:
            One match probability per text, in order.
        """
        return self._send(make_match_call(image, texts))

    def explain(
        self,
        image: ImageInput,
        caption: str | None = None,
        prompt: str | None = None,
        *,
        method: ExplainMethod = "attention",
        **settings: Unpack[CaptionKwargs],
    ) -> ServedExplanation:
        """Compute where the captioner looks for each word of a caption.

        Args:
            image: The image.
            caption: The caption (default: the one that the captioner generates).
            prompt: The text before the caption (default: the model's own).
            method: "attention", or "gradient", which the server needs --explanations for.
            **settings: As for `caption`, if the caption is generated.
        """
        return self._send(make_explain_call(image, caption, prompt, method, settings))

    def models(self) -> list[str]:
        """Return the names of the models that the server has."""
        return self._send(make_models_call())

    def _send(self, call: Call[T]) -> T:
        """Send a request, and again if it fails and may be; return its result."""
        content, retries = bytearray(), Retries(self._config)
        with number_errors(call.index):
            with closing(self._read(call, retries)) as chunks:
                for chunk in chunks:
                    retries.time_left()  # a server may send byte by byte
                    content += chunk
            return call.read_answer(bytes(content), self._config.base_url)

    def _read(self, call: Call[Any], retries: Retries) -> Generator[bytes, None, None]:
        """Send a request, and again if it fails and may be; yield the body of its answer."""
        body = call.make_body()
        while True:
            arguments = make_arguments(call, body, retries.time_left())
            try:
                with self._http.stream(**arguments) as response:
                    if response.is_success:
                        yield from response.iter_bytes()
                        return
                    failure = read_failure(response, response.read(), call.name, self._config)
            except require_httpx().RequestError as error:
                failure = explain_connection(error, self._config)
            time.sleep(retries.wait_after(failure))
