"""Work that is divided among the processes of `torchrun`."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from cutline.distributed import gather_results, rank, world_size

T = TypeVar("T")
R = TypeVar("R")


def map_shares(function: Callable[[Sequence[T]], Sequence[R]], inputs: Sequence[T]) -> list[R]:
    """Return the results of all inputs, in order; each process computes those of an equal share.

    Args:
        function: Returns the results of a share.
        inputs: The same in every process. Process r gets r, r + world_size(), r + 2 world_size(), …
    """
    results: dict[int, R] = {}
    shares = gather_results(lambda: function(inputs[rank() :: world_size()]))
    for process_rank, share in enumerate(shares):
        results |= zip(range(process_rank, len(inputs), world_size()), share, strict=True)
    return [results[index] for index in range(len(inputs))]
