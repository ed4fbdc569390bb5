"""Which examples make which batch of which process."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BatchSampler:
    """Which rows make which batch of which process: a new order every epoch, the last incomplete step dropped, as in the reference.

    The rows of a step depend on how many they are, not on how processes and accumulation divide them.
    """

    num_rows: int
    batch_size: int
    seed: int
    grad_accum_steps: int = 1
    world_size: int = 1
    rank: int = 0

    @property
    def rows_per_step(self) -> int:
        """Rows of a step, over all processes."""
        return self.batch_size * self.grad_accum_steps * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; data smaller than a step make one."""
        return max(1, self.num_rows // self.rows_per_step)

    def keys(self, start: int, stop: int) -> Iterator[list[tuple[int, int]]]:
        """Keys of this process's batches in steps `start` to `stop` of the run, epoch after epoch; batches of little data may be empty."""
        for epoch in range(start // self.steps_per_epoch, math.ceil(stop / self.steps_per_epoch)):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)
            before = epoch * self.steps_per_epoch
            for step in range(max(start - before, 0), min(stop - before, self.steps_per_epoch)):
                rows = order[step * self.rows_per_step : (step + 1) * self.rows_per_step]
                for number in range(
                    self.rank, self.grad_accum_steps * self.world_size, self.world_size
                ):
                    yield [
                        (epoch, int(row))
                        for row in rows[number * self.batch_size : (number + 1) * self.batch_size]
                    ]
