"""Connect to a Ray cluster, or start one on this machine; choose the resources of its actors."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cutline.errors import ConfigError
from cutline.interrupt import STOP_SIGNALS, Interrupted
from cutline.messages import first_line, format_value

CPUS_PER_ACTOR = 4
"""most CPU cores of an actor, unless the number of actors is given: several processes with a few
threads caption more images than one with many"""
CONNECT_TIMEOUT = 10.0
"""seconds until an address is found to be wrong; Ray itself tries for minutes"""

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@dataclass(frozen=True)
class ActorResources:
    """How many actors run, and what each of them has."""

    num_actors: int
    num_cpus: int
    num_gpus: int
    device: str
    """device of their models"""

    def __str__(self) -> str:
        """Return what each actor has."""
        return f"{self.num_cpus} CPU cores" + (f" and {self.num_gpus} GPU" if self.num_gpus else "")


@contextmanager
def connect_ray(address: str, num_actors: int | None = None) -> Iterator[Any]:
    """Connect to a cluster for the duration of the block, or start one on this machine.

    A connection that this process has already is used, and left open.

    Args:
        address: Address of the cluster; empty for that of RAY_ADDRESS or, if that is not set, a new
            cluster.
        num_actors: Number of actors that a new cluster must have room for.

    Yields:
        The module `ray`.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be reached or started.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    with _silence():
        try:
            with _keep_signal_handlers():
                _connect(ray, address or os.environ.get("RAY_ADDRESS") or "local", num_actors or 1)
            yield ray
        finally:
            ray.shutdown()


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise ConfigError(
            "captioning on a cluster needs ray, which is not installed: pip install 'cutline[ray]'"
        ) from None


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Restore the handlers of signals; those of Ray end the process before it has cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    except SystemExit:  # raised by Ray's own handler
        raise Interrupted("", signal.SIGTERM) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Ray from reporting the deaths of actors on the standard output, among the results."""
    worker: Any = import_module("ray._private.worker")
    worker._worker_logs_enabled = False  # it has no public option
    try:
        yield
    finally:
        worker._worker_logs_enabled = True


def _connect(ray: Any, address: str, num_actors: int) -> None:
    try:
        if address == "local":
            _start(ray, num_actors)
        else:
            _check_reachable(address)
            ray.init(address, **_QUIET)
    except Exception as error:  # of Ray, gRPC or a socket, or ValueError
        reason = first_line(error)
        if address == "local":
            message = f"no Ray cluster can be started on this machine: {reason}; see /tmp/ray"
        else:
            message = (
                f"the Ray cluster {format_value(address)} cannot be reached: {reason}; check its "
                "address, its token (RAY_AUTH_MODE, RAY_AUTH_TOKEN) and that its versions of Ray "
                "and Python are those of this machine"
            )
        raise ConfigError(message) from error


def _start(ray: Any, num_actors: int) -> None:
    # Otherwise, Ray reports over the network how it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    num_cpus = num_actors if num_actors > (os.cpu_count() or 1) else None
    ray.init("local", num_cpus=num_cpus, include_dashboard=False, **_QUIET)


def _check_reachable(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT).close()


def choose_resources(ray: Any, device: str, num_actors: int | None) -> ActorResources:
    """Return how many actors to start, and what each of them gets.

    Args:
        ray: The module `ray`, connected to a cluster.
        device: The device of the job. Each actor gets a GPU if it is cuda, or if it is auto and the
            cluster has GPUs.
        num_actors: Number of actors; None for as many as there are GPUs or, without GPUs, as share
            the CPU cores well.

    Raises:
        ConfigError: The device is cuda, but the cluster has no GPU.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device.startswith("cuda") or (device == "auto" and gpus):
        if not gpus and not num_actors:
            raise ConfigError(
                "the Ray cluster has no GPU: choose the device cpu, or pass --ray-actors N if "
                "the cluster grows on demand"
            )
        return ActorResources(num_actors or gpus, num_cpus=1, num_gpus=1, device="cuda")
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    num_actors = num_actors or max(1, sum(-(-count // CPUS_PER_ACTOR) for count in cores))
    device = "cpu" if device == "auto" else device
    return ActorResources(num_actors, share_cores(cores, num_actors), num_gpus=0, device=device)


def share_cores(cores: Sequence[int], num_actors: int) -> int:
    """Return how many CPU cores each actor gets, at least 1.

    Args:
        cores: Number of cores of each node.
        num_actors: Number of actors.
    """
    for size in range(max(cores, default=1), 1, -1):
        if sum(count // size for count in cores) >= num_actors:
            return size
    return 1
