"""Threads wait for memory in the order in which they ask, and a child process starts afresh."""

import os
import threading
import time

import pytest

from cutline.image.budget import MemoryBudget


def wait_until(condition) -> None:
    while not condition():
        time.sleep(0.001)


def test_the_size_is_never_exceeded():
    budget, lock, used, peaks = MemoryBudget(10), threading.Lock(), [0], []

    def work(size: int) -> None:
        for _ in range(50):
            with budget.reserve(size):
                with lock:
                    used[0] += size
                    peaks.append(used[0])
                time.sleep(0)
                with lock:
                    used[0] -= size

    threads = [threading.Thread(target=work, args=[size]) for size in (1, 3, 4, 6, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(peaks) <= 10
    assert used == [0]


def test_a_large_request_is_not_overtaken():
    budget, order = MemoryBudget(10), []

    def work(size: int) -> None:
        with budget.reserve(size):
            order.append(size)

    with budget.reserve(5):
        large = threading.Thread(target=work, args=[10])
        large.start()
        wait_until(budget._queue.locked)
        small = threading.Thread(target=work, args=[1])  # there is room for it
        small.start()
    large.join()
    small.join()
    assert order == [10, 1]


def test_memory_is_free_again_after_an_error():
    budget = MemoryBudget(10)
    with pytest.raises(ValueError), budget.reserve(10):  # noqa: PT011
        raise ValueError
    with budget.reserve(10):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_threads_of_its_parent():
    budget = MemoryBudget(10)
    with budget.reserve(10):
        waiting = threading.Thread(target=lambda: budget.reserve(1).__enter__())
        waiting.start()
        wait_until(budget._queue.locked)
        if not (child := os.fork()):
            with budget.reserve(10):
                os._exit(7)
    waiting.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
