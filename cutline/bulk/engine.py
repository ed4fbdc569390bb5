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
from cutline.config import (
    CheckpointOptions,
    GenerationConfig,
    InferenceConfig,
    RerankConfig,
    check_keep,
)
from cutline.data import Sample
from cutline.errors import CutlineError
from cutline.matcher import Matcher, load_matcher

Result: TypeAlias = Caption | CutlineError
Engine: TypeAlias = Callable[[Iterator[Sample]], Iterator[tuple[Sample, Result]]]
"""Captions samples, which it takes a bounded number ahead of the results that it has yielded; it
yields each sample once, with its caption or its error, in any order."""


@dataclass(frozen=True)
class Models:
    """What a job has loaded."""

    captioner: Captioner
    matcher: Matcher | None = None
    """ranks the captions of each image"""


@dataclass(frozen=True)
class CaptionJob:
    """Which models to load, and how to caption: the same in every process."""

    model: str
    """as `cutline.load` takes it"""
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    prompt: str | None = None
    """prompt of every caption; None for that of each sample, or else the model's"""
    reranking: RerankConfig = field(default_factory=RerankConfig)

    def __post_init__(self) -> None:
        check_keep(self.keep, self.generation.num_captions)

    @property
    def keep(self) -> int | None:
        """Return the number of captions to keep of each image; None for all."""
        return self.reranking.keep or None

    def load(self, device: str = "") -> Models:
        """Load the models, on another device than that of the settings if one is given."""
        device = device or self.inference.device
        precision, engine = self.inference.precision, self.inference.engine
        captioner = load(self.model, device, precision, engine=engine, **self.checkpoint.arguments)
        if not self.reranking.matcher:
            return Models(captioner)
        options = self.reranking.checkpoint_options.arguments
        matcher = load_matcher(self.reranking.matcher, device, precision, engine=engine, **options)
        return Models(captioner, matcher)


def caption_samples(
    models: Models, job: CaptionJob, samples: Iterator[Sample], ordered: bool = False
) -> Iterator[tuple[Sample, Result]]:
    """Caption samples in this process.

    Args:
        models: What `job.load` returned.
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

    for result in stream_results(models, job, read(), len(first), ordered):
        assert result.index is not None
        yield running.pop(result.index), result


def caption_locally(
    samples: Iterator[Sample], job: CaptionJob, ordered: bool = False
) -> Iterator[tuple[Sample, Result]]:
    """Load the models and caption samples in this process; load nothing if there are none."""
    first = list(itertools.islice(samples, 1))
    if first:
        yield from caption_samples(job.load(), job, itertools.chain(first, samples), ordered)


def stream_results(
    models: Models,
    job: CaptionJob,
    samples: Iterator[Sample],
    batch_size: int,
    ordered: bool = False,
) -> Iterator[Result]:
    """Caption samples as they come.

    Args:
        models: What `job.load` returned.
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
        return (
            sample.prompt_or(models.captioner.config.prompt) if job.prompt is None else job.prompt
        )

    # `stream` takes an image and its prompt by turns, so that `tee` holds one sample at most.
    images, prompts = itertools.tee(samples)
    return models.captioner.stream(
        (sample.image for sample in images),
        map(choose_prompt, prompts),
        batch_size=batch_size,
        num_workers=job.inference.num_workers,
        ordered=ordered,
        rerank=models.matcher,
        keep=job.keep,
        **dataclasses.asdict(job.generation),
    )
