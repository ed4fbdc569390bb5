"""Communication between the processes that `torchrun` starts; a single process needs none."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from cutline.errors import ConfigError

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[None]:
    """Initialize the process group of `torchrun` for the duration of the block.

    Does nothing in a single process, or if a process group is initialized already.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or dist.is_initialized():
        yield
        return
    variables = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK")}
    for name, value in variables.items():
        if not value.isdecimal():
            raise ConfigError(
                f"the environment variable {name} is {value!r}; start several processes with "
                "torchrun, or unset WORLD_SIZE and RANK"
            )
    use_cuda = torch.cuda.is_available()
    if use_cuda:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if use_cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
        # Gloo's threads may still hold tensors of the last operations. They need the GIL to free
        # them, and abort the process if Python is exiting by then (pytorch/pytorch#190489).
        time.sleep(0.2)


def rank() -> int:
    """Return the rank of this process, counted from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Return whether this process writes files and reports to the user."""
    return rank() == 0


def all_reduce_sum(*numbers: float) -> list[float]:
    """Return each number summed over the processes, bit-identical in all of them."""
    if world_size() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(sums)
    return cast(list[float], sums.tolist())


def all_gather(value: T) -> list[T]:
    """Return the value of every process, ordered by rank."""
    values: list[T] = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def gather_results(function: Callable[[], T]) -> list[T]:
    """Run `function` in every process and return all results, ordered by rank.

    An error in one process is raised in all of them; otherwise, the others would wait forever.
    """
    if world_size() == 1:
        return [function()]
    outcome: tuple[T | None, BaseException | None]
    try:
        outcome = function(), None
    except BaseException as error:  # KeyboardInterrupt, too
        outcome = None, error
    outcomes = all_gather(outcome)
    for _, failure in outcomes:
        if failure is not None:
            raise failure
    return [cast(T, result) for result, _ in outcomes]


def run_on_main(function: Callable[[], T]) -> T:
    """Run `function` in the main process alone; return its result, or raise its error, in all."""
    results = gather_results(lambda: function() if is_main_process() else None)
    return cast(T, results[0])


def all_gather_rows(*tensors: Tensor) -> list[Tensor]:
    """Concatenate the rows of each tensor over the processes, with gradients to those of all.

    The numbers of rows may differ. Other dimensions that differ are padded with zeros. As gradients
    come from all processes, each of which has a loss of its own, they are summed
    (`all_gather_with_grad` in BLIP's code).

    Args:
        *tensors: Tensors (R, …), in each process as many and with as many dimensions.
    """
    shapes = all_gather([tuple(tensor.shape) for tensor in tensors])  # by process and tensor
    return [
        _GatherRows.apply(tensor, list(by_process))  # type: ignore[no-untyped-call]
        for tensor, by_process in zip(tensors, zip(*shapes, strict=True), strict=True)
    ]


class _GatherRows(torch.autograd.Function):
    """Gathers rows, and sums their gradients over the processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, shapes: list[tuple[int, ...]]) -> Tensor:
        largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
        padded = tensor.new_zeros(largest)
        padded[tuple(slice(size) for size in tensor.shape)] = tensor
        gathered = [torch.empty_like(padded) for _ in shapes]
        dist.all_gather(gathered, padded)
        ctx.shape, ctx.first = tensor.shape, sum(shape[0] for shape in shapes[: rank()])
        return torch.cat([rows[: shape[0]] for rows, shape in zip(gathered, shapes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        own = gradient[ctx.first : ctx.first + ctx.shape[0]]
        return own[tuple(slice(size) for size in ctx.shape)], None
