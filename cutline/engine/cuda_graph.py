"""A decoding step as a CUDA graph: one kernel launch instead of several hundred."""

from collections.abc import Callable

import torch
from torch import Tensor

from cutline.model.cache import TextCache


class CudaGraphStep:
    """The steps of one cache, captured once and then replayed; other caches run without a graph.

    A replay runs the same kernels on the same memory. The step is therefore captured for all slots
    and columns of the cache, in use or not, and reads its input from a fixed tensor.
    """

    def __init__(self, step: Callable[[Tensor, TextCache], Tensor], cache: TextCache) -> None:
        self.step, self.cache = step, cache
        self.captured: Tensor | None = None  # `token_kv` at the time of the capture

    def __call__(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        """Map input_ids (B, K, T) to logits (B, K, V), which are valid until the next step."""
        if cache is not self.cache:
            return self.step(input_ids, cache)
        num_images, num_beams, _ = input_ids.shape
        if cache.token_kv is not self.captured:  # also after a resize
            self._capture()
        self.input_ids[:num_images, :num_beams] = input_ids
        self.graph.replay()
        return self.logits[:num_images, :num_beams]

    def _capture(self) -> None:
        self.captured = None  # frees the keys of before, and stays None if the capture fails
        cache, self.graph = self.cache, torch.cuda.CUDAGraph()
        slots, num_columns, _ = cache.ancestry.shape
        self.input_ids = torch.zeros(
            slots, num_columns, 1, dtype=torch.long, device=cache.ancestry.device
        )
        # Both the warm-up and the capture advance the cache, so its bookkeeping is restored after
        # each. Keys and values need not be: the next step writes to the same position.
        state = (cache.ancestry, cache.lengths, cache.write_position)
        saved = [tensor.clone() for tensor in state]
        # Libraries allocate their workspaces at the first call, which must not be captured.
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            self.step(self.input_ids, cache)
        torch.cuda.current_stream().wait_stream(side_stream)
        _restore(state, saved)
        # Other threads may use the GPU meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.logits = self.step(self.input_ids, cache)
        _restore(state, saved)
        self.captured = cache.token_kv


def _restore(state: tuple[Tensor, ...], saved: list[Tensor]) -> None:
    for tensor, value in zip(state, saved, strict=True):
        tensor.copy_(value)
