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
from cutline.checkpoint import CheckpointSource, load_matcher_checkpoint
from cutline.confidence import load_calibration
from cutline.config import (
    GenerationConfig,
    InferenceConfig,
    LoadOptions,
    OutputConfig,
    RerankConfig,
    check_keep,
)
from cutline.data import Sample
from cutline.matcher import Matcher, load_matcher

Engine: TypeAlias = Callable[[Iterator[Sample]], Iterator[tuple[Sample, Result]]]
"""Runs a job on samples, which it takes a bounded number ahead of the results that it has yielded;
it yields each sample once, with its result, in any order."""


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
    checkpoint: LoadOptions = field(default_factory=LoadOptions)
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

    def stream(
        self, models: Models, samples: Iterator[Sample], batch_size: int, ordered: bool = False
    ) -> Iterator[Result]:
        """Caption samples as they come, as `Job.stream` says."""

        def choose_prompt(sample: Sample) -> str:
            default = models.captioner.config.prompt
            return sample.prompt_or(default) if self.prompt is None else self.prompt

        # `stream` takes an image and its prompt by turns, so that `tee` holds one sample at most.
        images, prompts = itertools.tee(samples)
        return models.captioner.stream(
            (sample.image for sample in images),
            map(choose_prompt, prompts),
            batch_size=batch_size,
            num_workers=self.inference.num_workers,
            ordered=ordered,
            rerank=models.matcher,
            keep=self.keep,
            **dataclasses.asdict(self.generation),
        )

    def describe(self, outputs: OutputConfig) -> dict[str, Any]:
        """Return what captions depend on; `describe_generation` says what is left out."""
        source = CheckpointSource(self.model, **self.checkpoint.checkpoint_arguments)
        identity = source.identify()
        calibration = load_calibration(
            self.checkpoint.calibration or None, identity.folder, identity.fingerprint
        )
        return {
            "model": identity.fingerprint,
            "precision": identity.graph_precision or self.inference.precision,
            "prompt": self.prompt,
            "caption_template": outputs.caption_template,
            **({"style": outputs.style} if outputs.style != "plain" else {}),
            **({"words": True} if outputs.words else {}),
            **(calibration.describe() if calibration else {}),
            **describe_generation(self.generation),
            **self._describe_reranking(),
        }

    def _describe_reranking(self) -> dict[str, Any]:
        if not self.reranking.rerank:
            return {}
        options = self.reranking.checkpoint_options.arguments
        checkpoint = load_matcher_checkpoint(self.reranking.matcher, **options)
        return {
            "rerank": self.reranking.rerank,
            "matcher": checkpoint.fingerprint(),
            "keep": self.reranking.keep,
        }


def describe_generation(
    generation: GenerationConfig, defaults: GenerationConfig | None = None
) -> dict[str, Any]:
    """Return the settings that are not at their defaults, so that later versions can have more."""
    usual = dataclasses.asdict(defaults or GenerationConfig())
    values = dataclasses.asdict(generation)
    return {name: value for name, value in values.items() if value != usual[name]}


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
