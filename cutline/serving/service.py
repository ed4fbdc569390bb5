"""`CaptionService`: runs the models for every API, within the limits of the server."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

from torch import Tensor

from cutline.batching import Caption, CaptionRequest, Request, style_caption
from cutline.captioner import Captioner
from cutline.config import (
    CaptionStyle,
    GenerationKwargs,
    ServeConfig,
    ServeLimits,
    UrlPolicy,
)
from cutline.errors import DeadlineExceededError, QueueFullError
from cutline.matcher import Matcher
from cutline.scheduler import CaptionScheduler
from cutline.serving.errors import ApiError, not_ready, to_api_error
from cutline.serving.fetcher import ImageFetcher
from cutline.serving.limits import count_bytes, seconds_since_arrival
from cutline.serving.metrics import Metrics
from cutline.serving.options import (
    CaptionOptions,
    FinishedCaption,
    limit_length,
    limit_settings,
)
from cutline.web import UrlError

T = TypeVar("T")

MODEL_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
TAG = ":latest"
"""what Ollama's clients append to the name of a model"""
MAX_RETRY_AFTER = 60.0
TIME_MARGIN = 1.5  # on the estimated time, beyond which a request is refused


@dataclass(frozen=True)
class ServedModels:
    """What a server loads."""

    captioner: Captioner
    matcher: Matcher | None = None


class CaptionService:
    """Runs the models for every API, within the limits of the server.

    Attributes:
        config: Settings of the server.
        limits: Limits of requests.
        name: The name of the model in the API.
        metrics: What the server counts.
        started: When the models were loaded, in seconds since 1970; 0 until then.
        draining: Whether the server stops, and takes no more requests.
        num_active: Number of requests that are being answered.
    """

    def __init__(
        self, name: str, config: ServeConfig, limits: ServeLimits, urls: UrlPolicy
    ) -> None:
        """Make a service without models; see `start`.

        Args:
            name: The name of the model in the API.
            config: Settings of the server.
            limits: Limits of requests.
            urls: Which addresses are fetched, if any.
        """
        self.name, self.config, self.limits = name, config, limits
        policy = replace(urls, timeout=min(urls.timeout, limits.deadline))
        self._fetcher = ImageFetcher(policy, limits.max_queue)
        self._models: ServedModels | None = None
        self._scheduler: CaptionScheduler | None = None
        self.metrics = Metrics(self._count_running, self._count_waiting)
        self.started = 0
        self.draining = False
        self.num_active = 0

    def start(self, models: ServedModels, batch_size: int) -> None:
        """Start to answer requests."""
        limits = self.limits
        scheduler = CaptionScheduler(
            models.captioner, batch_size, limits.max_queue, limits.max_pixels
        )
        scheduler.warm_up()
        self._models, self._scheduler = models, scheduler
        self.started = int(time.time())

    def close(self) -> None:
        """Cancel all requests and end the threads."""
        if self._scheduler is not None:
            self._scheduler.close(cancel=True)

    def is_named(self, name: str) -> bool:
        """Return whether a client means this model."""
        return name.removesuffix(TAG) == self.name.removesuffix(TAG)

    @property
    def has_failed(self) -> bool:
        """Return whether the model has failed, so that the server must be restarted."""
        return self._scheduler is not None and not self._scheduler.is_open

    def check_ready(self) -> None:
        """Raise ApiError while the models are loaded, while the server stops, or if it failed."""
        self.check_draining()
        self.check_loaded()

    def check_draining(self) -> None:
        """Raise ApiError while the server stops: it finishes what it has begun, and no more."""
        if self.draining:
            raise not_ready("the server is stopping; try another one, or try again later")

    def check_loaded(self) -> None:
        """Raise ApiError while the models are loaded, and if they failed."""
        if self.has_failed:
            raise not_ready("the model has failed: the server must be restarted")
        if self._scheduler is None:
            raise not_ready("the model is being loaded; try again in a few seconds")

    @property
    def captioner(self) -> Captioner:
        """Return the captioner. Raises ApiError until it is loaded."""
        self.check_loaded()
        return cast(ServedModels, self._models).captioner

    @property
    def max_length(self) -> int:
        """Return the limit on the tokens of a prompt and its caption. Raises ApiError."""
        return limit_length(self.captioner, self.limits)

    @property
    def matcher(self) -> Matcher:
        """Return the matcher. Raises ApiError if there is none."""
        self.check_loaded()
        if (matcher := cast(ServedModels, self._models).matcher) is None:
            raise ApiError(
                501, "not_available", "this server has no matcher: start it with --matcher"
            )
        return matcher

    @property
    def has_matcher(self) -> bool:
        """Return whether there is a matcher."""
        return self._models is not None and self._models.matcher is not None

    @property
    def has_heat_maps(self) -> bool:
        """Return whether captions can be explained: ONNX graphs hide what the model looks at."""
        return self.captioner.engine != "onnx"

    @property
    def _ready_scheduler(self) -> CaptionScheduler:
        self.check_loaded()
        return cast(CaptionScheduler, self._scheduler)

    def _count_running(self) -> int:
        return self._scheduler.num_running if self._scheduler else 0

    def _count_waiting(self) -> int:
        return self._scheduler.num_waiting if self._scheduler else 0

    # Captions

    async def caption(
        self, images: Sequence[bytes], options: CaptionOptions
    ) -> list[FinishedCaption]:
        """Return the caption of each image.

        Raises:
            ApiError: One of them has none, or the request is beyond a limit.
        """
        requests = self.submit(images, options)
        try:
            return [
                await self._finish(request, options.style, f"images[{index}]")
                for index, request in enumerate(requests)
            ]
        finally:
            cancel_requests(requests)

    def submit(self, images: Sequence[bytes], options: CaptionOptions) -> list[CaptionRequest]:
        """Submit images, which the caller must cancel in the end.

        Raises:
            ApiError: There is no place for all of them, or the request is beyond a limit.
        """
        requests: list[CaptionRequest] = []
        keywords = cast(
            GenerationKwargs, asdict(limit_settings(options, self.captioner, self.limits))
        )
        try:
            deadline = self.limit_deadline(options.deadline)
            self._check_time(deadline, len(images))
            for image in images:
                request = self._ready_scheduler.submit(
                    image, options.prompt, deadline=deadline, **keywords
                )
                requests.append(request)
        except Exception as error:
            cancel_requests(requests)
            raise self.explain_error(error) from None
        return requests

    async def _finish(
        self, request: CaptionRequest, style: CaptionStyle, param: str
    ) -> FinishedCaption:
        try:
            return self.complete(request, await request, style)
        except Exception as error:
            raise self.explain_error(error, param) from None

    def complete(
        self, request: CaptionRequest, caption: Caption, style: CaptionStyle
    ) -> FinishedCaption:
        """Count a caption, and return it as it is served."""
        self.metrics.tokens.inc(sum(len(each.token_ids) for each in caption.alternatives))
        self.metrics.images.inc()
        styled = style_caption(caption, style)
        return FinishedCaption(styled, len(request.prompt_ids), request.config.max_length)

    def explain_error(self, error: BaseException, param: str | None = None) -> ApiError:
        """Return the error that a client is told, with the time after which to try again."""
        api_error = to_api_error(error, param)
        if isinstance(error, QueueFullError):
            seconds = self._ready_scheduler.estimate_seconds()
            api_error.message = "too many images wait already; try again later"
            api_error.retry_after = min(MAX_RETRY_AFTER, max(1.0, seconds))
        return api_error

    def _check_time(self, deadline: float, count: int = 1) -> None:
        """Raise QueueFullError if images would probably wait until their deadline has passed.

        Else a full queue would only have requests that are ended before they are done.
        """
        if self._ready_scheduler.estimate_seconds(count) * TIME_MARGIN > deadline:
            raise QueueFullError

    def limit_deadline(self, deadline: float | None) -> float:
        """Return the seconds that the current request has left, given those that it asks for.

        Raises:
            DeadlineExceededError: None are left.
        """
        limit = min(deadline or self.limits.deadline, self.limits.deadline)
        if (left := limit - seconds_since_arrival()) <= 0:
            raise DeadlineExceededError
        return left

    # Other work for the model

    async def run_task(
        self,
        image: bytes,
        function: Callable[[Tensor], T],
        deadline: float | None,
        image_size: int | None = None,
    ) -> T:
        """Return what a function makes of the pixels (3, S, S) of an image; see `submit_task`.

        Raises:
            ApiError: It fails, or the server is busy.
        """
        try:
            left = self.limit_deadline(deadline)
            self._check_time(left)
            result = await self._ready_scheduler.submit_task(
                image, function, image_size=image_size, deadline=left
            )
        except Exception as error:
            raise self.explain_error(error, "image") from None
        self.metrics.images.inc()
        return result

    async def fetch_image(self, url: str, param: str, deadline: float | None = None) -> bytes:
        """Return the image at an address.

        Args:
            url: The address.
            param: Where it is in the request.
            deadline: Seconds that the request asks for.

        Raises:
            ApiError: The server fetches none, or this one cannot be fetched.
        """
        if not self.config.allow_urls:
            message = "this server fetches no addresses: send the image, or start it with "
            raise ApiError(403, "forbidden", f"{message}--allow-urls", param)
        try:
            async with asyncio.timeout(self.limit_deadline(deadline)):
                image = await self._fetcher.fetch(url, self.limits.max_image_bytes)
        except UrlError as error:
            raise ApiError(422, "invalid_url", error.public, param) from None
        except TimeoutError:
            raise self.explain_error(DeadlineExceededError(), param) from None
        except (QueueFullError, DeadlineExceededError) as error:
            raise self.explain_error(error, param) from None
        count_bytes(len(image))
        return image


def cancel_requests(requests: Iterable[Request[Any]]) -> None:
    """Cancel those requests that are not done."""
    for request in requests:
        request.cancel()


def choose_model_name(path: str) -> str:
    """Return the last part of a path or hub id, without suffix."""
    if PurePath(path).name in ("", ".."):  # such as "."
        path = str(Path(path).resolve())
    name = PurePath(path.replace("\\", "/")).name
    suffix = PurePath(name).suffix
    return name.removesuffix(suffix) if suffix in MODEL_SUFFIXES else name
