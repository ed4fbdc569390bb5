"""Choose the engine of a run: this process, several processes or a cluster."""

from collections import deque
from collections.abc import Iterator
from functools import partial

from cutline.bulk.engine import CaptionJob, Engine, Result, caption_locally
from cutline.config import RunConfig
from cutline.data import Sample


def choose_engine(job: CaptionJob, run: RunConfig, ordered: bool) -> Engine:
    """Return the engine that the settings ask for; it loads the model when it has work to do.

    Args:
        job: How to caption.
        run: Where.
        ordered: Whether results must come in the order of the samples.
    """
    if run.cluster:
        from cutline.bulk.ray_cluster import caption_on_ray

        num_actors = run.ray_actors or None
        engine: Engine = partial(
            caption_on_ray, job=job, address=run.ray_address, num_actors=num_actors
        )
    elif run.devices:
        from cutline.bulk.processes import caption_in_processes

        engine = partial(caption_in_processes, job=job, devices=run.devices)
    else:
        return partial(caption_locally, job=job, ordered=ordered)
    return partial(in_order, engine) if ordered else engine


def in_order(engine: Engine, samples: Iterator[Sample]) -> Iterator[tuple[Sample, Result]]:
    """Caption samples with an engine, and yield the results in the order of the samples."""
    waiting = deque[str]()  # which the engine may extend in another thread

    def read() -> Iterator[Sample]:
        for sample in samples:
            waiting.append(sample.id)
            yield sample

    done: dict[str, tuple[Sample, Result]] = {}
    for sample, result in engine(read()):
        done[sample.id] = sample, result
        while waiting and waiting[0] in done:
            yield done.pop(waiting.popleft())
