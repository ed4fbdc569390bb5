"""Run functions in processes: one that dies is replaced, and what it ran is run again."""

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

import torch

from cutline.errors import WorkerError
from cutline.messages import first_line
from cutline.worker import MAX_DEATHS, WorkerProcess

T = TypeVar("T")
P = ParamSpec("P")


class ProcessDiedError(Exception):
    """Every process that ran a function died, perhaps of it."""


class ProcessPool(Executor):
    """Processes that open images. One that dies is replaced.

    A process opens one image at a time, so that it is known which one it died of. That one is
    opened again; after MAX_DEATHS times its future raises ProcessDiedError. All futures raise
    WorkerError if no process can be started.
    """

    def __init__(self, num_processes: int) -> None:
        """Make a pool; a process starts when there is work for it."""
        self._threads = ThreadPoolExecutor(num_processes)  # each waits for one process
        self._lock = threading.Lock()  # guards the attributes below
        self._processes: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._closed = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in a process."""
        return self._threads.submit(self._run, partial(function, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: at once if `cancel_futures`, else when all functions have ended.

        Args:
            wait: Not used; the end of the processes is always awaited.
            cancel_futures: Whether to end functions that run, and not to run those that wait.
        """
        self._threads.shutdown(wait=not cancel_futures, cancel_futures=cancel_futures)
        with self._lock:
            self._closed = True
            processes = list(self._processes)
        for process in processes:
            process.kill()
        self._threads.shutdown()
        for process in processes:
            process.close()

    def _run(self, call: Callable[[], T]) -> T:
        request = pickle.dumps(call)
        reason = ""
        for _ in range(MAX_DEATHS):
            process = self._take()
            try:
                process.connection.send_bytes(request)
                answer = process.connection.recv_bytes()
            except (EOFError, OSError):
                reason = self._remove(process)
                continue
            with self._lock:
                self._idle.append(process)
            result, error = pickle.loads(answer)
            if error:
                raise RuntimeError(error)
            return result  # type: ignore[no-any-return]
        raise ProcessDiedError(f"the process that opened it {reason}, perhaps for lack of memory")

    def _take(self) -> WorkerProcess:
        """Return an idle process, or else a new one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        reason = ""
        for _ in range(MAX_DEATHS):
            process = self._start()
            try:
                process.connection.recv()
            except (EOFError, OSError):
                reason = self._remove(process)
            else:
                return process
        raise WorkerError(
            f"a process that opens images {reason} before it was ready, "
            "perhaps for lack of memory: lower num_workers"
        )

    def _start(self) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise WorkerError("the pool of processes is closed")
            process = WorkerProcess(_answer_requests)
            self._processes.add(process)
        return process

    def _remove(self, process: WorkerProcess) -> str:
        """Remove a process that has died, and return why."""
        with self._lock:
            self._processes.discard(process)
        reason = process.explain_end()
        process.close()
        return reason


def _answer_requests(connection: Connection) -> None:
    """Run functions, in a process of a pool."""
    with suppress(EOFError, OSError):  # the pool has ended
        connection.send(None)  # ready
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))


def _answer(request: bytes) -> memoryview:
    """Return, pickled, the result of a function and what error it raised, or ""."""
    try:
        return _dump((pickle.loads(request)(), ""))
    except Exception as error:
        return _dump((None, f"{type(error).__name__}: {first_line(error)}"))


def _dump(value: Any) -> memoryview:
    buffer = BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getbuffer()


class _Pickler(pickle.Pickler):
    """Copies tensors.

    PyTorch would share them by open files, which one of two processes cannot do once the other has
    been killed.
    """

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented
