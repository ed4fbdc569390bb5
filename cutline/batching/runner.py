"""`BatchRunner`: captions requests that come and go, in one batch."""

import logging
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.batching.caption import Caption
from cutline.batching.request import CaptionRequest
from cutline.config import GenerationConfig
from cutline.device import is_out_of_memory
from cutline.engine import CudaGraphStep, choose_num_threads, limit_threads
from cutline.errors import GenerationError
from cutline.generation import Batch, Hypothesis, NewRequests, Prompts, Step
from cutline.generation.batch import Result
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
    """

    def __init__(
        self,
        model: CaptionModel,
        tokenizer: Tokenizer,
        encode_images: Callable[[Tensor], Tensor],
        slots: int,
        record_steps: bool = False,
        turn: AbstractContextManager[Any] = nullcontext(),  # noqa: B008  # has no state
    ) -> None:
        """Make a runner without requests.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
            encode_images: Maps uint8 pixels (B, 3, S, S) to image_embeds (B, N, D).
            slots: The largest number of requests that run together.
            record_steps: Whether to run steps as CUDA graphs.
            turn: Entered during each step: a lock, where runners in several threads take turns.
        """
        self.slots = slots
        self._model, self._tokenizer, self._encode_images = model, tokenizer, encode_images
        self._record_steps, self._turn = record_steps, turn
        self._device = model.text.token_embed.weight.device
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

    def run_step(self, waiting: list[CaptionRequest], fill: bool = False) -> list[CaptionRequest]:
        """Start waiting requests where slots are free, and continue all by one step.

        Args:
            waiting: Requests whose images have been opened; those that start are removed.
            fill: Whether more requests are about to wait. If some start, and slots remain for
                others, the step is left to the next call, so that all of them take it together.

        Returns:
            The requests that are done, with caption or error.
        """
        with self._turn, limit_threads(self._num_threads):
            return self._run_step(waiting, fill)

    def _run_step(self, waiting: list[CaptionRequest], fill: bool) -> list[CaptionRequest]:
        done = self._stop_requests(waiting)
        message = ""
        try:
            num_waiting = len(waiting)
            done += self._start_requests(waiting)
            wait = fill and len(waiting) < num_waiting and len(self._running) < self.slots
            if self._running and not wait:
                assert self._batch is not None
                done += self._finish(self._batch.advance())
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            message = str(error).partition("\n")[0]
        if message:  # outside of the block, where the traceback keeps tensors in memory
            done += self._halve(waiting, message)
        for request in self._running:
            if request.wants_events and self._batch is not None:
                request.report(self._batch.progress(request), self._tokenizer)
        return done

    def _stop_requests(self, waiting: list[CaptionRequest]) -> list[CaptionRequest]:
        """End requests that were cancelled or have exceeded their deadline."""
        stopped = []
        for request in (*waiting, *self._running):
            if reason := request.find_reason_to_stop():
                request.finish(reason)
                stopped.append(request)
        if stopped:
            waiting[:] = [request for request in waiting if not request.done()]
            running = [request for request in self._running if request.done()]
            if running and self._batch is not None:
                self._batch.remove(running)
            self._running = [request for request in self._running if not request.done()]
        return stopped

    def _start_requests(self, waiting: list[CaptionRequest]) -> list[CaptionRequest]:
        done: list[CaptionRequest] = []
        while requests := self._next_requests(waiting):
            del waiting[: len(requests)]
            self._running += requests  # before anything fails, so that they are not lost
            batch = self._open_batch()
            done += self._finish(batch.add(self._prefill(requests)))
        return done

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
            self._batch = Batch(step, self._cache)
        return self._batch

    def _step(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        return self._model.step(input_ids, cache)

    def _prefill(self, requests: Sequence[CaptionRequest]) -> NewRequests[TextCache]:
        """Encode images into free slots of the cache."""
        prompts = self._pad_prompts([request.prompt_ids for request in requests])
        pixels = [request.pixels for request in requests if request.pixels is not None]
        image_embeds = self._encode_images(torch.stack(pixels))
        cache = self._model.prefill_images(
            image_embeds, prompts.input_ids.shape[1], prompts.attention_mask, self._cache
        )
        configs = [request.config for request in requests]
        return NewRequests(requests, cache, prompts, list(map(choose_seed, configs, pixels)))

    def _pad_prompts(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        """Return prompts padded on the left."""
        rows = [torch.tensor(prompt) for prompt in prompts]
        ids = pad_sequence(rows, batch_first=True, padding_value=-1, padding_side="left")  # (B, T)
        mask = ids >= 0
        ids = ids.where(mask, self._tokenizer.pad_id)
        return Prompts(ids.to(self._device), mask.to(self._device), self._tokenizer.sep_id)

    def _finish(self, results: Sequence[Result]) -> list[CaptionRequest]:
        """End requests with their captions; return them."""
        done = []
        for request, hypotheses in results:
            assert isinstance(request, CaptionRequest)
            request.finish(self._decode(hypotheses) if hypotheses else no_caption(request))
            done.append(request)
        if done:
            self._running = [request for request in self._running if not request.done()]
        return done

    def _decode(self, hypotheses: Sequence[Hypothesis]) -> Caption:
        """Return the caption of an image, given its hypotheses, best first."""
        captions = tuple(
            Caption(
                self._tokenizer.decode(hypothesis.token_ids),
                hypothesis.score,
                hypothesis.token_ids,
                candidate=hypothesis.candidate,
            )
            for hypothesis in hypotheses
        )
        return replace(captions[0], alternatives=captions)

    def _halve(self, waiting: list[CaptionRequest], message: str) -> list[CaptionRequest]:
        """Start all requests again in half the slots, after memory ran out.

        With a single slot, the request that runs fails.
        """
        running, self._running = self._running, []
        self._batch = self._cache = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if self.slots == 1:
            for request in running:
                request.finish(
                    GenerationError(
                        f"{request.name}: there is not enough memory to caption one image "
                        f"({message}); lower num_beams, num_captions or max_length, or free memory"
                    )
                )
            return running
        if not self._warned:
            self._warned = True
            logger.warning(
                "out of memory: captioning %d images at a time instead of %d; choose a smaller "
                "batch_size to avoid the delay",
                *(self.slots // 2, self.slots),
            )
        self.slots //= 2
        waiting[:0] = running
        return []


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
        "weights damaged?) or no_repeat_ngram_size forbids every token"
    )
