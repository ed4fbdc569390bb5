"""What captions the samples of a collection: the job, and the engine that runs it in this process.

An engine maps an iterator of samples to an iterator of results. Other engines run worker processes
or a cluster.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from cutline.batching import Caption
from cutline.captioner import Captioner, load
from cutline.config import CheckpointOptions, GenerationConfig, InferenceConfig
from cutline.data import Sample
from cutline.errors import CutlineError

Result: TypeAlias = Caption | CutlineError
Engine: TypeAlias = Callable[[Iterator[Sample]], Iterator[tuple[Sample, Result]]]
"""Captions samples, which it takes a bounded number ahead of the results that it has yielded; it
yields each sample once, with its caption or its error, in any order."""


@dataclass(frozen=True)
class CaptionJob:
    """Which captioner to load, and how to caption: the same in every process."""

    model: str
    """as `cutline.load` takes it"""
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    prompt: str | None = None
    """prompt of every caption; None for that of each sample, or else the model's"""

    def load(self, device: str = "") -> Captioner:
        """Load the captioner, on another device than that of the settings if one is given."""
        return load(
            self.model,
            device or self.inference.device,
            self.inference.precision,
            engine=self.inference.engine,
            **self.checkpoint.arguments,
        )


def caption_samples(
    captioner: Captioner, job: CaptionJob, samples: Iterator[Sample], ordered: bool = False
) -> Iterator[tuple[Sample, Result]]:
    """Caption samples in this process.

    Args:
        captioner: What `job.load` returned.
        job: The settings.
        samples: The samples, which a thread of its own reads.
        ordered: Whether to yield them in their order, else as they are done.

    Yields:
        Each sample with its caption or its error.
    """
    # A batch for fewer images than `batch_size` needs less memory.
    first = list(itertools.islice(samples, job.inference.batch_size))
    if not first:
        return
    running: dict[int, Sample] = {}

    def read() -> Iterator[Sample]:
        for index, sample in enumerate(itertools.chain(first, samples)):
            running[index] = sample
            yield sample

    for result in stream_results(captioner, job, read(), len(first), ordered):
        assert result.index is not None
        yield running.pop(result.index), result


def caption_locally(
    samples: Iterator[Sample], job: CaptionJob, ordered: bool = False
) -> Iterator[tuple[Sample, Result]]:
    """Load the captioner and caption samples in this process; load nothing if there are none."""
    first = list(itertools.islice(samples, 1))
    if first:
        yield from caption_samples(job.load(), job, itertools.chain(first, samples), ordered)


def stream_results(
    captioner: Captioner,
    job: CaptionJob,
    samples: Iterator[Sample],
    batch_size: int,
    ordered: bool = False,
) -> Iterator[Result]:
    """Caption samples as they come.

    Args:
        captioner: What `job.load` returned.
        job: The settings.
        samples: The samples, which a thread of its own reads.
        batch_size: Number of images captioned together.
        ordered: Whether to return results in the order of the samples, else as they are done.

    Returns:
        An iterator over the results; the attribute `index` of each is the number of its sample.

    Raises:
        ConfigError: The model cannot do what a setting asks for.
    """

    def choose_prompt(sample: Sample) -> str:
        return sample.prompt_or(captioner.config.prompt) if job.prompt is None else job.prompt

    # `stream` takes an image and its prompt by turns, so that `tee` holds one sample at most.
    images, prompts = itertools.tee(samples)
    return captioner.stream(
        (sample.image for sample in images),
        map(choose_prompt, prompts),
        batch_size=batch_size,
        num_workers=job.inference.num_workers,
        ordered=ordered,
        **dataclasses.asdict(job.generation),
    )
