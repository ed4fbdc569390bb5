"""A decoding step as a CUDA graph: one kernel launch instead of several hundred."""

from collections.abc import Callable

import torch
from torch import Tensor

from cutline.model.cache import TextCache


class CudaGraphStep:
    """A step that is captured once per cache and then replayed.

    A replay runs the same kernels on the same memory. The step is therefore captured for all slots
    of the cache, in use or not, and reads its input from a fixed tensor.
    """

    def __init__(self, step: Callable[[Tensor, TextCache], Tensor]) -> None:
        self.step = step
        self.cache: TextCache | None = None

    def __call__(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        """Map input_ids (B, K, T) to logits (B, K, V), which are valid until the next step.

        Prompts, and steps with fewer beams than the cache has, run without a graph.
        """
        num_images, num_beams, num_tokens = input_ids.shape
        if num_tokens > 1 or num_beams < cache.ancestry.shape[1]:
            return self.step(input_ids, cache)
        if cache is not self.cache:
            self._capture(cache, num_beams)
        self.input_ids[:num_images] = input_ids
        self.graph.replay()
        return self.logits[:num_images]

    def _capture(self, cache: TextCache, num_beams: int) -> None:
        self.cache, self.graph = cache, torch.cuda.CUDAGraph()
        device = cache.ancestry.device
        self.input_ids = torch.zeros(cache.slots, num_beams, 1, dtype=torch.long, device=device)
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
        with torch.cuda.graph(self.graph):
            self.logits = self.step(self.input_ids, cache)
        _restore(state, saved)


def _restore(state: tuple[Tensor, ...], saved: list[Tensor]) -> None:
    for tensor, value in zip(state, saved, strict=True):
        tensor.copy_(value)
