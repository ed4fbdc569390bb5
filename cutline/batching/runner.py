"""`BatchRunner`: captions requests that come and go, in one batch."""

import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.batching.caption import Caption
from cutline.batching.caption_request import CaptionRequest
from cutline.batching.decode import decode_captions
from cutline.confidence import Calibration
from cutline.config import GenerationConfig
from cutline.device import is_out_of_memory, use_device
from cutline.engine import CudaGraphStep, choose_num_threads, limit_threads
from cutline.errors import GenerationError
from cutline.generation import Batch, Hypothesis, NewRequests, Prompts, Step
from cutline.generation.batch import Result, make_search
from cutline.model import CaptionModel
from cutline.model.cache import TextCache
from cutline.tokenizer import Tokenizer

MAX_ENCODE_BATCH = 4  # images encoded together on a CPU; more are not faster and need more memory
MAX_DELAY = 3  # steps that a request waits for others, to be encoded with them
FREE_BEAMS = 8  # beams per slot up to which padding costs little

logger = logging.getLogger(__name__)


class BatchRunner:
    """Runs the model for requests with settings of their own, one step at a time.

    It belongs to one thread at a time. Requests start in the order in which they wait.

    Attributes:
        slots: The largest number of requests that run together; halved when memory runs out.
        max_slots: `slots` at first.
        calibration: What the confidence of captions is scaled with; None for none.
    """

    def __init__(
        self,
        model: CaptionModel,
        tokenizer: Tokenizer,
        encode_images: Callable[[Tensor], Tensor],
        slots: int,
        record_steps: bool = False,
        calibration: Calibration | None = None,
    ) -> None:
        """Make a runner without requests.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
            encode_images: Maps uint8 pixels (B, 3, S, S) to image_embeds (B, N, D).
            slots: The largest number of requests that run together.
            record_steps: Whether to run steps as CUDA graphs.
            calibration: What the confidence of captions is scaled with.
        """
        self.slots = self.max_slots = slots
        self._slots_before_retry = 0  # 0: no request is being retried
        self._model, self._tokenizer, self._encode_images = model, tokenizer, encode_images
        self._record_steps, self.calibration = record_steps, calibration
        self._device = model.text.device
        on_cpu = self._device.type == "cpu"
        self._num_threads = choose_num_threads(model.config) if on_cpu else None
        self._cache: TextCache | None = None
        self._batch: Batch[TextCache] | None = None
        self._running: list[CaptionRequest] = []  # in the order in which they started
        self._delay = 0
        self._warned = False

    def __len__(self) -> int:
        """Return the number of requests that run."""
        return len(self._running)

    @property
    def max_prefill(self) -> int:
        """Return the largest number of requests that are started together."""
        if self._device.type == "cpu":
            return min(self.slots, MAX_ENCODE_BATCH)
        return max(1, self.slots // 2)

    def run_step(
        self, waiting: list[CaptionRequest], more_coming: bool = False
    ) -> list[CaptionRequest]:
        """Start waiting requests where slots are free, and continue all by one step.

        Args:
            waiting: Requests whose images have been opened; those that start are removed.
            more_coming: Whether more requests are about to wait. If some start, and slots remain
                for others, the step is left to the next call, so that all take it together.

        Returns:
            The requests that ended in this step, each with its caption or error.
        """
        done: list[CaptionRequest] = []
        message: str | None = None
        with use_device(self._device), limit_threads(self._num_threads):
            try:
                self._run_step(waiting, more_coming, done)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                message = str(error).partition("\n")[0]
            if message is not None:  # not in the block, where the traceback keeps tensors in memory
                self._restart(waiting, message, done)
        return done

    def _run_step(
        self, waiting: list[CaptionRequest], more_coming: bool, done: list[CaptionRequest]
    ) -> None:
        self._stop_requests(waiting, done)
        num_waiting = len(waiting)
        while requests := self._next_requests(waiting):
            del waiting[: len(requests)]
            self._running += requests  # before anything fails, so that they are not lost
            batch = self._open_batch()
            self._finish(batch.add(self._prefill(requests)), done)
        if more_coming and len(waiting) < num_waiting and len(self._running) < self.slots:
            return
        if self._batch is not None and len(self._batch):
            self._finish(self._batch.advance(), done)
        for request in self._running:
            if request.wants_events and self._batch is not None:
                request.report(self._batch.progress(request), self._tokenizer)

    def _stop_requests(self, waiting: list[CaptionRequest], done: list[CaptionRequest]) -> None:
        """End requests that were cancelled or have exceeded their deadline."""
        for request in (*waiting, *self._running):
            reason = request.find_reason_to_stop()
            if reason is None:
                continue
            request.finish(reason)
            done.append(request)
            if request in waiting:
                waiting.remove(request)
            else:
                self._running.remove(request)
                assert self._batch is not None
                self._batch.remove([request])

    def _next_requests(self, waiting: Sequence[CaptionRequest]) -> list[CaptionRequest]:
        """Return the requests to start now: the first that fit into the free slots.

        Several images are encoded faster together. While others run, a request therefore waits for
        a few steps if not all that could start with it have a slot.
        """
        free = self.slots - len(self._running)
        group = min(self.max_prefill, len(waiting))
        if not group or not free:
            return []
        if self._running and free < group and self._delay < MAX_DELAY:
            self._delay += 1
            return []
        self._delay = 0
        requests = list(waiting[: min(group, free)])
        while requests and not self._padding_is_small(requests):
            requests.pop()
        return requests

    def _padding_is_small(self, new: Sequence[CaptionRequest]) -> bool:
        """Return whether few beams would be padding.

        All images of a step have the number of beams of the widest. One with very many beams must
        not make those of the others slow, so it waits, and later ones behind it, until it fits.
        """
        beams = [count_beams(request.config) for request in (*self._running, *new)]
        padded = len(beams) * max(beams)
        return len(beams) == 1 or padded <= max(FREE_BEAMS * self.slots, 2 * sum(beams))

    def _open_batch(self) -> Batch[TextCache]:
        if self._batch is None:
            self._cache = self._model.new_cache(self.slots, 1)
            step: Step[TextCache] = self._step
            if self._record_steps:
                step = CudaGraphStep(step, self._cache)
            encode_words = self._tokenizer.encode_bad_words
            self._batch = Batch(step, self._cache, partial(make_search, encode_words=encode_words))
        return self._batch

    def _step(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        return self._model.step(input_ids, cache)

    def _prefill(self, requests: Sequence[CaptionRequest]) -> NewRequests[TextCache]:
        """Encode images into free slots of the cache."""
        prompts = self._pad_prompts([request.prompt_ids for request in requests])
        pixels = [request.pixels for request in requests if request.pixels is not None]
        image_embeds = self._encode_images(torch.stack(pixels))
        for request, embeds in zip(requests, image_embeds, strict=True):
            if request.keeps_embeds:
                request.match_input = embeds.clone()  # else it would keep those of the others, too
        cache = self._model.prefill_images(
            image_embeds, prompts.input_ids.shape[1], prompts.attention_mask, self._cache
        )
        configs = [request.config for request in requests]
        processors = [request.logits_processors for request in requests]
        return NewRequests(
            requests, cache, prompts, list(map(choose_seed, configs, pixels)), processors
        )

    def _pad_prompts(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        """Return prompts padded on the left."""
        rows = [torch.tensor(prompt) for prompt in prompts]
        ids = pad_sequence(rows, batch_first=True, padding_value=-1, padding_side="left")  # (B, T)
        mask = ids >= 0
        ids = ids.where(mask, self._tokenizer.pad_id)
        return Prompts(ids.to(self._device), mask.to(self._device), self._tokenizer.sep_id)

    def _finish(self, results: Sequence[Result], done: list[CaptionRequest]) -> None:
        """End requests with their captions."""
        for request, result in results:
            assert isinstance(request, CaptionRequest)
            request.finish(self._make_outcome(request, result))
            done.append(request)
            self._running.remove(request)
        if not self._running and self._slots_before_retry:
            # The request that was alone fits into one slot, and not into all.
            self._use_slots(max(1, self._slots_before_retry // 2))

    def _make_outcome(
        self, request: CaptionRequest, result: Sequence[Hypothesis] | GenerationError
    ) -> Caption | GenerationError:
        """Return the caption of a request, or its error."""
        if isinstance(result, GenerationError):
            return name_request(request, result)
        if not result:
            return no_caption(request)
        keeps_log_probs = request.config.token_log_probs
        return decode_captions(result, self._tokenizer, self.calibration, keeps_log_probs)

    def _restart(
        self, waiting: list[CaptionRequest], message: str, done: list[CaptionRequest]
    ) -> None:
        """Start all requests again with half the slots, after memory ran out.

        A request that was alone gets a single slot; if that is too much, it fails, and the next
        ones have all slots again.
        """
        running, self._running = self._running, []
        waiting[:0] = running
        if self.slots > 1:
            alone = len(running) == 1
            slots = 1 if alone else self.slots // 2
            self._warn(slots)
            self._use_slots(slots, self.slots if alone else 0)
            return
        del waiting[: len(running)]
        for request in running:
            request.finish(
                GenerationError(
                    f"{request.name}: there is not enough memory to caption one image "
                    f"({message}); lower num_beams, num_captions or max_length, or free memory"
                )
            )
        done += running
        self._use_slots(self.max_slots)

    def _use_slots(self, slots: int, slots_before_retry: int = 0) -> None:
        """Free the memory of the batch, which is empty, and use another number of slots."""
        self.slots, self._slots_before_retry = slots, slots_before_retry
        self._batch = self._cache = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _warn(self, slots: int) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "out of memory: captioning %d at a time instead of %d; choose a smaller "
                "batch_size to avoid the delay",
                *(slots, self.slots),
            )


def count_beams(config: GenerationConfig) -> int:
    """Return the number of rows of an image in a step."""
    return config.num_captions if config.sample else config.num_beams


def choose_seed(config: GenerationConfig, pixels: Tensor) -> GenerationConfig:
    """Return settings with a seed that depends on the image, so that no batch changes it."""
    if not config.sample:
        return config
    return replace(config, seed=zlib.crc32(pixels.numpy().tobytes(), config.seed))


def no_caption(request: CaptionRequest) -> GenerationError:
    """Return the error of a request without hypotheses."""
    return GenerationError(
        f"{request.name}: there is no caption, because the model's output is NaN (are its "
        "weights damaged?) or no_repeat_ngram_size, bad_words and logits processors forbid every "
        "token"
    )


def name_request(request: CaptionRequest, error: GenerationError) -> GenerationError:
    """Return the error of a request, given one that it shares with others."""
    own = GenerationError(f"{request.name}: {error}")
    own.__cause__ = error.__cause__ or error
    return own
