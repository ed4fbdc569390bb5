"""What captions the samples of a collection, and the engine that runs any job in this process.

An engine maps an iterator of samples to an iterator of results. Other engines run worker processes
or a cluster.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cutline.bulk.job import Job, Result
from cutline.captioner import Captioner, load
from cutline.checkpoint import load_checkpoint
from cutline.config import CheckpointOptions, GenerationConfig, InferenceConfig, OutputConfig
from cutline.data import Sample

__all__ = ["CaptionJob", "Engine", "Result", "caption_locally", "caption_samples"]

Engine: TypeAlias = Callable[[Iterator[Sample]], Iterator[tuple[Sample, Result]]]
"""Runs a job on samples, which it takes a bounded number ahead of the results that it has yielded;
it yields each sample once, with its result, in any order."""


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

    def stream(
        self, models: Captioner, samples: Iterator[Sample], batch_size: int, ordered: bool = False
    ) -> Iterator[Result]:
        """Caption samples as they come, as `Job.stream` says."""

        def choose_prompt(sample: Sample) -> str:
            return sample.prompt_or(models.config.prompt) if self.prompt is None else self.prompt

        # `stream` takes an image and its prompt by turns, so that `tee` holds one sample at most.
        images, prompts = itertools.tee(samples)
        return models.stream(
            (sample.image for sample in images),
            map(choose_prompt, prompts),
            batch_size=batch_size,
            num_workers=self.inference.num_workers,
            ordered=ordered,
            **dataclasses.asdict(self.generation),
        )

    def describe(self, outputs: OutputConfig) -> dict[str, Any]:
        """Return what captions depend on; `describe_generation` says what is left out."""
        return {
            "model": load_checkpoint(self.model, **self.checkpoint.arguments).fingerprint(),
            "precision": self.inference.precision,
            "prompt": self.prompt,
            "caption_template": outputs.caption_template,
            **describe_generation(self.generation),
        }


def describe_generation(generation: GenerationConfig) -> dict[str, Any]:
    """Return the settings that are not at their defaults, so that later versions can have more."""
    defaults = dataclasses.asdict(GenerationConfig())
    values = dataclasses.asdict(generation)
    return {name: value for name, value in values.items() if value != defaults[name]}


def caption_samples(
    models: Any, job: Job, samples: Iterator[Sample], ordered: bool = False
) -> Iterator[tuple[Sample, Result]]:
    """Caption samples in this process, or do with them what the job is.

    Args:
        models: What `job.load` returned.
        job: The job.
        samples: The samples, which a thread of its own reads.
        ordered: Whether to yield them in their order, else as they are done.

    Yields:
        Each sample with its result.
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

    for result in job.stream(models, read(), len(first), ordered):
        assert result.index is not None
        yield running.pop(result.index), result


def caption_locally(
    samples: Iterator[Sample], job: Job, ordered: bool = False
) -> Iterator[tuple[Sample, Result]]:
    """Load the models and run a job in this process; load nothing if there are no samples."""
    first = list(itertools.islice(samples, 1))
    if first:
        yield from caption_samples(job.load(), job, itertools.chain(first, samples), ordered)
