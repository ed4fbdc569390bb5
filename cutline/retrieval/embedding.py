"""Embed a stream of images, and load the matcher that does it."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from cutline.checkpoint import Checkpoint, build_matcher, load_matcher_checkpoint
from cutline.config import (
    PRESETS,
    DeviceConfig,
    InferenceConfig,
    MatchConfig,
    MatcherOptions,
)
from cutline.data import Sample
from cutline.errors import ImageError
from cutline.matcher import Matcher
from cutline.retrieval.image_index import Array

T = TypeVar("T")
Embedded: TypeAlias = Array | ImageError


def embed_samples(
    samples: Iterator[tuple[Sample, T]], matcher: Matcher, inference: InferenceConfig
) -> Generator[tuple[Sample, T, Embedded]]:
    """Embed the images of samples.

    Args:
        samples: Samples, each with an object that is yielded with it; a thread reads them.
        matcher: The matcher.
        inference: Batch size, and number of processes that open images.

    Yields:
        Each sample with its object and the embedding (P,) of its image, or the error of an image
        that cannot be read, in order.
    """
    pairs = ((sample.image, (sample, item)) for sample, item in samples)
    batches = matcher.encode_batches(pairs, inference.batch_size, inference.num_workers)
    with closing(batches):
        for batch in batches:
            for result, (sample, item) in batch.map(lambda x: matcher.project_images(x).numpy()):
                yield sample, item, result


def read_matcher(options: MatcherOptions) -> Checkpoint[MatchConfig]:
    """Load the checkpoint of a matcher.

    Raises:
        CheckpointError: The weights cannot be read or do not fit.
        ConfigError: A setting is invalid.
    """
    return load_matcher_checkpoint(options.matcher, **options.checkpoint_options.arguments)


def matcher_from_checkpoint(checkpoint: Checkpoint[MatchConfig], device: DeviceConfig) -> Matcher:
    """Make a matcher from its checkpoint, whose weights it may change."""
    model = build_matcher(checkpoint)
    return Matcher(model, checkpoint.tokenizer, device.device, device.precision, device.engine)


def make_absolute(options: MatcherOptions) -> MatcherOptions:
    """Return options whose paths hold in any folder; hub ids and names of sizes stay."""
    return replace(
        options,
        matcher=_make_absolute(options.matcher),
        matcher_config=_make_absolute(options.matcher_config),
        matcher_tokenizer=_make_absolute(options.matcher_tokenizer),
    )


def _make_absolute(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.absolute()) if name and name not in PRESETS and path.exists() else name
