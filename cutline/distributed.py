"""Several processes that work as one, as `torchrun` starts them; harmless in a single process."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
import torch.distributed as dist

T = TypeVar("T")


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` started, for as long as the block lasts; alone, or where they are joined already, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Which process this is, counted from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Whether this is the process that writes files and talks to people."""
    return rank() == 0


def all_reduce_sum(*numbers: float) -> list[float]:
    """Each number summed over the processes; the same everywhere, to the bit."""
    if world_size() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64)
    dist.all_reduce(sums)
    return cast(list[float], sums.tolist())


def all_gather(value: T) -> list[T]:
    """The value of every process, in the order of their ranks."""
    values: list[T] = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def gather_results(work: Callable[[], T]) -> list[T]:
    """What `work` returns in every process, in the order of their ranks; if it raises in one, it is raised in all."""
    if world_size() == 1:
        return [work()]
    result: tuple[T | None, BaseException | None]
    try:
        result = work(), None
    except BaseException as error:  # told to the others, which would wait for ever
        result = None, error
    results = all_gather(result)
    for _, failure in results:
        if failure is not None:
            raise failure
    return [cast(T, value) for value, _ in results]
