"""Caption samples on a Ray cluster, in actors that hold the model.

This is plain Ray, not Ray Data, which would load the model again for every part of an input that
is read as it comes, and would never give up a sample that kills its actor.
"""

import itertools
import logging
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutline.bulk.actor import CaptionActor
from cutline.bulk.job import Job, Result
from cutline.bulk.ray_connection import ActorResources, choose_resources, connect_ray
from cutline.data import Sample
from cutline.errors import WorkerError
from cutline.messages import first_line, format_text
from cutline.worker import MAX_DEATHS, blame_image

BATCHES_PER_ACTOR = 3
"""batches that an actor has at once, so that it never waits for the next one"""
PATIENCE = 60.0
"""seconds between warnings that no actor has started"""

logger = logging.getLogger(__name__)


def caption_on_ray(
    samples: Iterator[Sample], job: Job, address: str = "", num_actors: int | None = None
) -> Iterator[tuple[Sample, Result]]:
    """Caption samples on a Ray cluster.

    An actor that dies is replaced, and its samples are captioned again, one at a time. A sample
    whose actor dies three times gets an error.

    Args:
        samples: The samples, whose images the actors open.
        job: The settings. Every node must find the model, and the images, under the same path.
        address: Address of the cluster: "host:port", "ray://host:port", or "auto" for one that
            `ray start` started on this machine; empty for that of the environment variable
            RAY_ADDRESS or, if that is not set, a new one on this machine, which is stopped at the
            end.
        num_actors: Number of actors (default: one per GPU or, without GPUs, per 4 CPU cores).

    Yields:
        Each sample with its caption or its error, in any order.

    Raises:
        ConfigError: Ray is not installed, the cluster cannot be reached or has no such device, or
            a setting does not fit the model.
        CutlineError: The model cannot be loaded, or the cluster fails (WorkerError).
    """
    first = list(itertools.islice(samples, 1))
    if not first:  # as when a run is complete: it needs no cluster
        return
    with connect_ray(address, num_actors) as ray:
        resources = choose_resources(ray, job.inference.device, num_actors)
        with _ray_errors(ray):
            pool = _ActorPool(ray, job, resources, itertools.chain(first, samples))
            try:
                yield from pool.caption()
            finally:
                pool.close()


@contextmanager
def _ray_errors(ray: Any) -> Iterator[None]:
    """Raise an error of an actor's code as it was raised there, and one of Ray as WorkerError."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise WorkerError(f"the Ray cluster failed: {_explain(error)}") from error


@dataclass(frozen=True)
class _Batch:
    samples: Sequence[Sample]
    deaths: int = 0
    """actors that died while they had these samples; if any, this is a single sample"""


@dataclass(eq=False)
class _Actor:
    handle: Any
    batches: dict[Any, _Batch] = field(default_factory=dict)
    """those that it has, each with the reference to its results"""
    loaded: bool = False

    @property
    def has_room(self) -> bool:
        """Return whether it takes another batch: a suspect is alone, so that it alone is blamed."""
        is_suspect = any(batch.deaths for batch in self.batches.values())
        return self.loaded and not is_suspect and len(self.batches) < BATCHES_PER_ACTOR


class _ActorPool:
    """Actors, and the batches that they have."""

    def __init__(
        self, ray: Any, job: Job, resources: ActorResources, samples: Iterator[Sample]
    ) -> None:
        self._ray, self._job, self._resources, self._samples = ray, job, resources, samples
        errors = ray.exceptions
        self._deaths = (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.ObjectLostError,
        )
        self._actor_class = ray.remote(
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus,
            max_concurrency=BATCHES_PER_ACTOR + 1,  # and the call of `run`
        )(CaptionActor)
        self._actors: list[_Actor] = []
        self._calls: dict[Any, _Actor] = {}  # by the reference to what a call will return
        self._suspects: deque[_Batch] = deque()
        self._exhausted = False
        self._failed_loads = 0
        for _ in range(resources.num_actors):
            self._start()

    def _start(self) -> None:
        device, num_cpus = self._resources.device, self._resources.num_cpus
        try:
            handle = self._actor_class.remote(self._job, device, num_cpus, Path.cwd())
        except ImportError as error:  # raised by the other end of "ray://"
            raise _start_error(first_line(error)) from error
        actor = _Actor(handle)
        self._actors.append(actor)
        self._calls[handle.load.remote()] = actor

    def caption(self) -> Iterator[tuple[Sample, Result]]:
        """Yield each sample with its result."""
        while not self._is_done():
            ready, _ = self._ray.wait(list(self._calls), timeout=PATIENCE)
            for call in ready:
                yield from self._receive(call)
                self._send()
            if not ready and not any(actor.loaded for actor in self._actors):
                logger.warning("no actor has started yet; each needs %s", self._resources)

    def _is_done(self) -> bool:
        is_busy = any(actor.batches for actor in self._actors)
        return self._exhausted and not self._suspects and not is_busy

    def _receive(self, call: Any) -> Iterator[tuple[Sample, Result]]:
        """Yield the results of a call that is done, or replace the actor if it has died."""
        actor = self._calls.pop(call)
        try:
            results = self._ray.get(call)
        except self._deaths as error:
            yield from self._replace(actor, error)
            return
        if call in actor.batches:
            yield from zip(actor.batches.pop(call).samples, results, strict=True)
        else:
            actor.loaded, self._failed_loads = True, 0
            self._calls[actor.handle.run.remote()] = actor

    def _send(self) -> None:
        """Give batches to the actors that have room, first to those that have fewest."""
        while actors := [actor for actor in self._actors if actor.has_room]:
            actor = min(actors, key=lambda actor: len(actor.batches))
            batch = self._next_batch(is_idle=not actor.batches)
            if batch is None:
                return
            call = actor.handle.caption.remote(batch.samples)
            actor.batches[call] = batch
            self._calls[call] = actor

    def _next_batch(self, is_idle: bool) -> _Batch | None:
        if is_idle and self._suspects:
            return self._suspects.popleft()
        size = 2 * self._job.inference.batch_size
        samples = [] if self._exhausted else list(itertools.islice(self._samples, size))
        self._exhausted = not samples
        return _Batch(samples) if samples else None

    def _replace(self, actor: _Actor, error: Exception) -> Iterator[tuple[Sample, Result]]:
        """Start another actor; yield the error of a sample that is given up."""
        self._ray.kill(actor.handle)  # if it is only unreachable
        self._actors.remove(actor)
        self._calls = {call: other for call, other in self._calls.items() if other is not actor}
        reason = _explain(error)
        logger.warning("an actor died and is replaced: %s", reason)
        self._failed_loads += not actor.loaded
        if self._failed_loads >= MAX_DEATHS * self._resources.num_actors:
            raise _start_error(reason)
        for batch in actor.batches.values():
            yield from self._suspect(batch)
        self._start()

    def _suspect(self, batch: _Batch) -> Iterator[tuple[Sample, Result]]:
        deaths = batch.deaths + 1
        if deaths < MAX_DEATHS:
            self._suspects.extend(_Batch([sample], deaths) for sample in batch.samples)
            return
        for sample in batch.samples:
            yield sample, blame_image(sample.name, f"died {MAX_DEATHS} times")

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            self._ray.kill(actor.handle)


def _start_error(reason: str) -> WorkerError:
    return WorkerError(
        f"the Ray cluster cannot start cutline ({reason}): install the same version on all of its "
        "nodes, or choose a smaller model if their memory is full"
    )


def _explain(error: Exception) -> str:
    """Return the reason of an error of Ray, whose message has many lines."""
    text = str(error)
    found = re.search(r"The actor is dead because (.+?)\.\s", text)
    return format_text(found[1] if found else text.strip().splitlines()[-1])
