"""The order of training examples: which of them make which batch of which process."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BatchSampler:
    """Shuffled batches of examples, divided among processes.

    Each epoch has an order of its own, and its last, incomplete step is dropped, as in BLIP's
    code. Which examples make a step depends on their number alone, not on how processes and
    gradient accumulation divide them.
    """

    num_examples: int
    batch_size: int
    """examples per batch and process"""
    seed: int
    grad_accum_steps: int = 1
    """batches per optimizer step and process"""
    world_size: int = 1
    rank: int = 0

    @property
    def examples_per_step(self) -> int:
        """Return the examples of an optimizer step, over all processes."""
        return self.batch_size * self.grad_accum_steps * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimizer steps of an epoch, at least one, even with too few examples."""
        return max(1, self.num_examples // self.examples_per_step)

    def iter_batches(self, start: int, stop: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the keys of this process's batches in the steps from `start` to `stop`.

        Steps are counted from the start of the run, over all epochs. A batch may be empty if there
        are fewer examples than a step takes.

        Yields:
            The keys of one batch: (epoch, index) of each example.
        """
        # A step is a slice of the epoch's permutation. It is split into batches, which are assigned
        # to the processes round-robin: of two processes, rank 0 gets batches 0, 2, 4, ...
        batches_per_step = self.grad_accum_steps * self.world_size
        for epoch in range(start // self.steps_per_epoch, math.ceil(stop / self.steps_per_epoch)):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_examples)
            first_step = epoch * self.steps_per_epoch
            end_step = min(stop - first_step, self.steps_per_epoch)
            for step in range(max(start - first_step, 0), end_step):
                for batch in range(self.rank, batches_per_step, self.world_size):
                    begin = step * self.examples_per_step + batch * self.batch_size
                    indices = order[begin : begin + self.batch_size]
                    yield [(epoch, int(index)) for index in indices]
