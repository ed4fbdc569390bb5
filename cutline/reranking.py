"""`Reranker`: which captions of an image match it best, as a matcher sees it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import torch

from cutline.batching import Caption, CaptionRequest
from cutline.batching.runner import MAX_ENCODE_BATCH
from cutline.batching.stream import read_outcomes
from cutline.config import check_keep
from cutline.device import is_out_of_memory
from cutline.errors import ConfigError, CutlineError, GenerationError
from cutline.image import OpenedImage
from cutline.matcher import Matcher
from cutline.messages import first_line, format_value
from cutline.predictor import Predictor

T = TypeVar("T")
AnyPredictor: TypeAlias = Predictor[Any]
_SHARED: WeakKeyDictionary[AnyPredictor, WeakKeyDictionary[AnyPredictor, bool]]
_SHARED = WeakKeyDictionary()
"""results of `share_encoder`"""


class Reranker:
    """Ranks the captions of each image by their match probability.

    The text that is matched is that of the caption, without the prompt.
    """

    def __init__(
        self, captioner: AnyPredictor, matcher: Matcher, keep: int | None, num_captions: int
    ) -> None:
        """Check the settings.

        Args:
            captioner: What the captions come from.
            matcher: Ranks them.
            keep: Number of captions to keep of each image; None for all.
            num_captions: Number of captions of each image.

        Raises:
            ConfigError: `matcher` is none, or belongs to another process; or `keep` is not a number
                of captions.
        """
        if not isinstance(matcher, Matcher):
            raise ConfigError(
                "rerank must be a matcher, as cutline.load_matcher returns it, not "
                f"{format_value(matcher)}"
            )
        matcher.check_process()
        check_keep(keep, num_captions)
        self._captioner, self._matcher, self._keep = captioner, matcher, keep
        self._batch_size: int | None = MAX_ENCODE_BATCH if matcher.device.type == "cpu" else None

    @cached_property
    def shares_encoder(self) -> bool:
        """Whether the matcher reads what the captioner has encoded."""
        return share_encoder(self._captioner, self._matcher)

    @property
    def second_size(self) -> int | None:
        """Return the image size of the matcher, if the captioner has another one."""
        size = self._matcher.config.vision.image_size
        return None if size == self._captioner.model.config.vision.image_size else size

    def prepare(self, request: CaptionRequest, image: OpenedImage[T]) -> None:
        """Let a request keep what the matcher reads of its image."""
        request.keeps_embeds = self.shares_encoder
        if not self.shares_encoder:
            has_second = image.second_pixels is not None
            request.match_input = image.second_pixels if has_second else request.pixels

    def rank(self, requests: Sequence[CaptionRequest]) -> list[Caption | CutlineError]:
        """Return the results of requests that are done: ranked captions, or errors."""
        results = dict(zip(requests, read_outcomes(requests), strict=True))
        waiting = [request for request in requests if isinstance(results[request], Caption)]
        while batch := waiting[: self._batch_size]:
            if ranked := self._rank_batch(batch):
                results.update(zip(batch, ranked, strict=True))
                del waiting[: len(batch)]
            else:
                self._batch_size = len(batch) // 2
        return list(results.values())

    def _rank_batch(self, batch: Sequence[CaptionRequest]) -> list[Caption | CutlineError]:
        """Return the results of requests, or none if memory ran out and fewer may fit."""
        try:
            return list(map(self._sort, batch, self._match(batch)))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            message = first_line(error)
        if len(batch) > 1:
            return []
        return [
            GenerationError(
                f"{batch[0].name}: there is not enough memory to match its captions ({message}); "
                "lower num_captions, or free memory"
            )
        ]

    def _match(self, batch: Sequence[CaptionRequest]) -> list[list[float]]:
        """Return the match probability of each caption of each image."""
        inputs = [request.match_input for request in batch if request.match_input is not None]
        texts = [[caption.text for caption in list_candidates(request)] for request in batch]
        image_embeds = torch.stack(inputs)
        if not self.shares_encoder:
            with self._matcher.inference():
                image_embeds = self._matcher.encode_images(image_embeds)
        return self._matcher.match_embeds(image_embeds, texts, self._matcher.tokenizer.enc_id)

    def _sort(self, request: CaptionRequest, matches: Sequence[float]) -> Caption | CutlineError:
        """Return the caption that matches best, with the others that are kept."""
        if any(map(math.isnan, matches)):
            return GenerationError(
                f"{request.name}: its captions cannot be ranked, because the matcher's output is "
                "NaN (are its weights damaged?)"
            )
        pairs = zip(list_candidates(request), matches, strict=True)
        ranked = sorted(pairs, key=lambda pair: -pair[1])  # of equal ones, by score
        kept = tuple(replace(caption, match=match) for caption, match in ranked[: self._keep])
        return replace(kept[0], alternatives=kept)


def list_candidates(request: CaptionRequest) -> tuple[Caption, ...]:
    """Return the captions of a request that has been captioned."""
    assert isinstance(request.outcome, Caption)
    return request.outcome.alternatives


def share_encoder(first: AnyPredictor, second: AnyPredictor) -> bool:
    """Return whether two models encode images alike, bit for bit, so that one can do it for both.

    They encode one image of random pixels to find out, the first time that they are compared.
    """
    known = _SHARED.setdefault(first, WeakKeyDictionary())
    if second not in known:
        known[second] = _read_alike(first, second) and _encode_alike(first, second)
    return known[second]


def _read_alike(first: AnyPredictor, second: AnyPredictor) -> bool:
    """Return whether the encoders of two models get the same input."""
    sizes = {each.model.config.vision.image_size for each in (first, second)}
    formats = {(each.model.config.image, each.dtype, each.device) for each in (first, second)}
    return len(sizes) == len(formats) == 1


def _encode_alike(first: AnyPredictor, second: AnyPredictor) -> bool:
    """Return whether the encoders of two models have the same output for random pixels."""
    size = first.model.config.vision.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (1, 3, size, size), dtype=torch.uint8, generator=generator)
    embeds = []
    for predictor in (first, second):
        with predictor.inference():
            embeds.append(predictor.encode_images(pixels))
    return torch.equal(*embeds)
