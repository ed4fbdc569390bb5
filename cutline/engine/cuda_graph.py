"""A decoding step recorded once as a CUDA graph, and replayed: one launch instead of several hundred."""

from collections.abc import Callable

import torch
from torch import Tensor

from cutline.model.cache import TextCache


class CudaGraphStep:
    """`step` of one cache at a time, for all its places: what a step reads and writes stays where it is."""

    def __init__(self, step: Callable[[Tensor, TextCache], Tensor]) -> None:
        self.step = step
        self.cache: TextCache | None = None

    def __call__(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        """input_ids (B, K, T) -> logits (B, K, V), valid until the next step; prompts are not recorded."""
        images, beams, tokens = input_ids.shape
        if tokens > 1 or beams < cache.ancestry.shape[1]:
            return self.step(input_ids, cache)
        if cache is not self.cache:
            self._record(cache, beams)
        self.input_ids[:images] = input_ids
        self.graph.replay()
        return self.logits[:images]

    def _record(self, cache: TextCache, beams: int) -> None:
        self.cache, self.graph = cache, torch.cuda.CUDAGraph()
        self.input_ids = torch.zeros(
            cache.slots, beams, 1, dtype=torch.long, device=cache.ancestry.device
        )
        kept = [(state, state.clone()) for state in (cache.ancestry, cache.lengths, cache.write_position)]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(
            side
        ):  # once for real, so that libraries set themselves up; only the coming slot is written
            self.step(self.input_ids, cache)
        torch.cuda.current_stream().wait_stream(side)
        for state, before in kept:
            state.copy_(before)
        with torch.cuda.graph(self.graph):
            self.logits = self.step(self.input_ids, cache)
        for state, before in kept:
            state.copy_(before)
